"""A full disk under a recording: publish says so, is not taken for dead, and goes on when there is room."""

from __future__ import annotations

import logging
from pathlib import Path

from streamfuse.services.loop import Reporter, Stop
from streamfuse.types import MS
from streamfuse.wire.transport import wait

log = logging.getLogger(__name__)

TRY_NS = 200 * MS


class WaitForRoom:
    """The patience of a recording's files (sinks.durable.Patience)."""

    def __init__(self, reporter: Reporter, stop: Stop) -> None:
        self._reporter, self._stop = reporter, stop

    def wait(self, path: Path, error: OSError) -> None:
        if self._stop.asked:
            raise error
        self._reporter.report("waiting", error=f"{error.strerror} [{path.parent}]; it waits for room")
        wait([self._stop.wake.fileno()], TRY_NS)

    def over(self, path: Path) -> None:
        log.info("there is room again [%s]", path.parent)
