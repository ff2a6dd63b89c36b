"""A program that is started for each event. Never a shell: the arguments go to it as they are."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress

from streamfuse.config_notify import CommandTarget
from streamfuse.notify.courier import NotTaken
from streamfuse.notify.rules import Notice

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "XDG_RUNTIME_DIR")
"""All of our environment that it gets: the rest holds the passwords of cameras and receivers."""
TRY_AGAIN = os.EX_TEMPFAIL
"""Exit code 75, by which a program says that another try may help."""


class CommandSender:
    """Runs the program with the event's JSON on standard input, one at a time."""

    def __init__(self, config: CommandTarget) -> None:
        self._run, self._timeout_s = config.run, config.timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()
        """Of both: a program is started in one thread and the run ends in another."""

    def send(self, notice: Notice) -> None:
        name = os.path.basename(self._run[0])  # noqa: PTH119, a word of a command line
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        try:
            process = subprocess.Popen(
                self._run,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**environment, "STREAMFUSE_EVENT": notice.event.kind, "STREAMFUSE_RULE": notice.rule},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            got = getattr(error, "strerror", None) or type(error).__name__
            raise NotTaken(f"{name} must be a program that can be started", got=got, again=False) from None
        self._hold(process)
        try:
            process.communicate(notice.body + b"\n", self._timeout_s)
        except subprocess.TimeoutExpired:
            rule = f"{name} must end within {self._timeout_s:g} s"
            raise NotTaken(rule, got="a program that runs", again=False) from None
        finally:
            with self._lock:
                self._process = None
            _end(process)
        if process.returncode:
            rule, again = f"{name} must exit with 0", process.returncode == TRY_AGAIN
            raise NotTaken(rule, got=process.returncode, again=again)

    def close(self) -> None:
        """A program that still runs does not outlive us."""
        with self._lock:
            self._closed = True
            if self._process is not None and self._process.returncode is None:
                _kill(self._process)

    def _hold(self, process: subprocess.Popen[bytes]) -> None:
        """Let close() know of it; what started while we were closed ends at once."""
        with self._lock:
            self._process = process
            if self._closed:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, and whatever it has started."""
    if process.returncode is None:
        _kill(process)
        process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
