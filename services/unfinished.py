"""Events that have begun, kept in the run directory: whatever ends a publish process, each gets its end.

One small file for each source that has some, written when one begins or ends and once a second, so that
an event ends at most a second before it was last seen to go on. Not forced to the disk: it is for the death
of a process. What cannot be written is told once, and costs an event its end where the process dies as well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from streamfuse.labels.events import EventState
from streamfuse.private import private_folder
from streamfuse.types import NS

log = logging.getLogger(__name__)

AGAIN_NS = NS
_SUFFIX = ".open"


class Unfinished:
    """The open events of one source."""

    def __init__(self, run_dir: Path, source: str) -> None:
        self._path = private_folder(run_dir / "open") / f"{quote(source, safe='')}{_SUFFIX}"
        self._kept: set[tuple[str, str]] = set()
        self._due_ns = 0
        self._failed = False

    def left(self) -> EventState | None:
        """What a process before us has left open; None where there is nothing that can be read."""
        try:
            state = msgspec.msgpack.decode(self._path.read_bytes(), type=EventState)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("open events cannot be read, and get no end: %s: %s", self._path, error)
            self._path.unlink(missing_ok=True)
            return None
        self._kept = _open(state)
        return state

    def keep(self, state: EventState, now_ns: int) -> None:
        """Cheap where nothing is open, and where little has changed."""
        now_open = _open(state)
        if now_open == self._kept and (not now_open or now_ns < self._due_ns):
            return
        self._due_ns = now_ns + AGAIN_NS
        try:
            if now_open:
                new = self._path.with_suffix(".new")
                new.write_bytes(msgspec.msgpack.encode(state))
                os.replace(new, self._path)  # noqa: PTH105  atomic, and says so
            else:
                self._path.unlink(missing_ok=True)
            self._kept, self._failed = now_open, False
        except OSError as error:
            if not self._failed:
                log.error("open events cannot be kept: %s: %s", self._path, error.strerror)
            self._failed = True


def sources_left_open(run_dir: Path) -> Iterator[str]:
    """Sources of which a process before us has left events open."""
    for path in sorted((run_dir / "open").glob(f"*{_SUFFIX}")):
        yield unquote(path.name.removesuffix(_SUFFIX))


def _open(state: EventState) -> set[tuple[str, str]]:
    return {(name, label) for name, head in state.heads.items() for label in head.open}
