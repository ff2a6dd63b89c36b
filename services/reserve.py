"""Loads what decode and publish need, waits for one line of JSON, and becomes the service that it names.

python -m streamfuse.services.reserve

{"argv": the command line of a service, "log": its log, "env": what it is told beside its environment}.
It ends with the supervisor that started it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from setproctitle import setproctitle

from streamfuse.services import decode, publish

BEGIN: dict[str, Callable[[], None]] = {module.__name__: module.begin for module in (decode, publish)}


def main() -> None:
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    with open(order["log"], "ab", buffering=0) as log:  # noqa: PTH123  as the supervisor does for a new one
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    os.environ.update(order["env"])
    argv: list[str] = order["argv"]
    # Whoever looks at the processes sees which camera's this is, as of one that was started for it.
    setproctitle(" ".join(argv))
    at = argv.index("-m") + 1
    sys.argv = argv[at:]
    BEGIN[argv[at]]()


if __name__ == "__main__":
    main()
