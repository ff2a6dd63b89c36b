"""One child process: started in its own session, its errors kept in a file, known by how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamfuse.errors import OutputError
from streamfuse.supervise.reserve import Reserve
from streamfuse.supervise.watch import WatchLimits

LOG_BYTES = 4 << 20
"""A child's log is kept aside and begun anew at a start where it is larger: at most two of these a child."""
TAIL_BYTES = 4096

RESTARTS, SPARE = "STREAMFUSE_RESTARTS", "STREAMFUSE_SPARE"
"""What a child is told of itself, for its reports: how often it was started again; that it stands by."""


@dataclass(frozen=True, slots=True)
class Role:
    """A process that has to be there.

    service   decode, analyze or publish
    name      as it calls itself in its progress reports; unique within its service, spares excepted
    argv, env what is run. Nothing secret may be in argv, which everybody on the machine can read
    spare     started once another one of that name runs: waits, warm, for that one's death
    turn      of all roles with the same one, only one runs at a time, in order
    reserved  a Reserve may take its place, also for the first time
    """

    service: str
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    limits: WatchLimits
    spare: bool = False
    turn: str | None = None
    reserved: bool = False

    @property
    def title(self) -> str:
        return f"{self.service} {self.name}" + (" (spare)" if self.spare else "")


class Child:
    """A running process of a role, which was started so many times before; the reserve where there is one."""

    def __init__(self, role: Role, logs: Path, restarts: int = 0, reserve: Reserve | None = None) -> None:
        self.log = logs / f"{role.service}-{_file_name(role.name)}{'-spare' if role.spare else ''}.log"
        told = {RESTARTS: str(restarts), SPARE: "1" if role.spare else ""}
        try:
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
            with self.log.open("ab") as log:
                self._begin = log.tell()
                given = reserve.give(role.argv, self.log, told) if role.reserved and reserve else None
                # A session of its own: Ctrl-C goes to the supervisor alone, which stops it in order.
                self._process = given or subprocess.Popen(
                    role.argv,
                    env={**role.env, **told},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise OutputError(
                "a process can be started", got=error.strerror, where=error.filename or role.title
            ) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Its exit code, negative where a signal ended it; None while it lives."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything it started, at once, stopped processes too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """The last line it wrote, for the message about its end."""
        with self.log.open("rb") as log:
            log.seek(max(self._begin, self.log.stat().st_size - TAIL_BYTES))  # not those of one before it
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("streamfuse: ") if lines else ""


def describe_exit(code: int) -> str:
    """An exit in words: "exit code 1", "killed by SIGSEGV"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
