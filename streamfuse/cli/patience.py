"""A full disk in the middle of a recording: said once, waited out, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamfuse.cli.progress import RunProgress
from streamfuse.clock import Clock
from streamfuse.types import MS

TRY_NS = 200 * MS


class WaitForRoom:
    """The patience of a recording's files (sinks.durable.Patience)."""

    def __init__(
        self, progress: RunProgress, given: str, clock: Clock, should_stop: Callable[[], bool]
    ) -> None:
        self._progress, self._given = progress, given
        self._clock, self._should_stop = clock, should_stop
        self._told = False

    def wait(self, path: Path, error: OSError) -> None:
        if self._should_stop():
            raise error
        if not self._told:
            self._told = True
            said = f"{error.strerror} [{path.parent}]; it waits for room"
            self._progress.say(f"streamfuse: {self._given}: {said}")
        self._clock.sleep_ns(TRY_NS)

    def over(self, path: Path) -> None:
        self._told = False
        self._progress.say(f"{self._given}: there is room again [{path.parent}]; it goes on")
