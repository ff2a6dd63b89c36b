"""A process that has loaded what most of a start's time goes to, and takes the place of one that dies."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamfuse.clock import SYSTEM, Clock
from streamfuse.types import NS

PAUSE_NS, LONGEST_PAUSE_NS = 10 * NS, 600 * NS
"""From one start to the next, where the first one failed or ended by itself; twice as long each time."""


class Reserve:
    """At most one process that waits for its role: one line of JSON on its standard input.

    argv, env  what is run; it reads {"argv": [...], "log": path, "env": {...}} and becomes that
    logs       the folder for what it says before
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], logs: Path, clock: Clock = SYSTEM
    ) -> None:
        self._argv, self._env, self._log, self._clock = list(argv), env, logs / "reserve.log", clock
        self._process: subprocess.Popen[bytes] | None = None
        self._next_ns, self._pause_ns = 0, PAUSE_NS

    def keep(self, *, start: bool = True) -> None:
        """Bury one that has ended; with `start`, see to it that one is there. Where none can be started,
        processes start as they would without.
        """
        if self._process is not None:
            if self._process.poll() is None:
                return
            self.close()
            self._wait()
        if not start or self._clock.monotonic_ns() < self._next_ns:
            return
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._argv,
                    env=self._env,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError:  # no memory, no handle, no folder
            self._wait()

    def _wait(self) -> None:
        self._next_ns = self._clock.monotonic_ns() + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)

    def give(self, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        """The process, told what to become; None where there is none. One that still loads is told all the
        same: it is ahead of any that would begin now.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        order = json.dumps({"argv": list(argv), "log": str(log), "env": dict(env)})
        assert process.stdin is not None
        try:
            with process.stdin:
                process.stdin.write(order.encode() + b"\n")
        except OSError:  # it has died
            _end(process)
            return None
        self._pause_ns = PAUSE_NS
        return process

    def close(self) -> None:
        """End the one that waits."""
        if self._process is not None:
            _end(self._process)
            self._process = None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
