"""Loads what decode and publish need, waits for one line of JSON, and becomes the service that it names.

python -m streamfuse.services.reserve RUN_DIR

{"argv": the command line of a service, "log": its log, "env": what it is told beside its environment}.
RUN_DIR is for whoever looks at the processes. It ends with the supervisor that started it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from setproctitle import setproctitle, setthreadtitle

from streamfuse.services import decode, publish

BEGIN: dict[str, Callable[[], None]] = {module.__name__: module.begin for module in (decode, publish)}


def main() -> None:
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    with Path(order["log"]).open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    os.environ.update(order["env"])
    argv: list[str] = order["argv"]
    _be_called(argv)
    at = argv.index("-m") + 1
    sys.argv = argv[at:]
    BEGIN[argv[at]]()


def _be_called(argv: list[str]) -> None:
    """Whoever looks at the processes sees which camera's this is, as of one that was started for it."""
    name = Path("/proc/self/comm").read_text().strip()
    setproctitle(" ".join(argv))
    setthreadtitle(name)  # the name too has become the title


if __name__ == "__main__":
    main()
