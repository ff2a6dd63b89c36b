"""One open page: what it has not been sent yet, and never more of that than fits on a screen.

A browser that does not keep up gets the newest of everything and is told how many labels it has missed;
what waits for it is bounded, so it costs nobody else anything.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Any

import msgspec

from streamfuse.types import NS, Still
from streamfuse.view.rows import Row

LABELS = 20
"""Of one source that may wait for one page: two seconds."""
EVENTS = 200
PICTURES_A_SECOND = 16
"""Of one page, shared by the pictures in sight; the large one is not counted."""

_PICTURE = struct.Struct("<HHHHd")
"""Source, width, height, nothing, wall clock in ms; then the JPEG."""

Source = int


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """What a page asks for: the large source, those in sight (None: all), nothing while nobody looks."""

    large: int | None = None
    visible: list[int] | None = None
    paused: bool = False


class Page:
    """What waits for one browser. Used from the view's own thread alone."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.wish = Wish()
        self.missed = 0
        self.stale = True
        """It must be told everything, before any news."""
        self._labels: dict[Source, deque[Row]] = {}
        self._events: deque[Row] = deque(maxlen=EVENTS)
        self._ages: deque[Row] = deque(maxlen=EVENTS)
        self._status: list[Any] | None = None
        self._stills: dict[Source, Still] = {}
        self._due_ns: dict[Source, int] = {}

    def label(self, source: Source, row: Row) -> None:
        if self.wish.paused:
            return
        waiting = self._labels.setdefault(source, deque(maxlen=LABELS))
        self.missed += len(waiting) == LABELS
        waiting.append(row)
        self.wake.set()

    def event(self, row: Row) -> None:
        self._events.append(row)
        self.wake.set()

    def age(self, source: Source, bucket: Row) -> None:
        self._ages.append([source, *bucket])

    def status(self, rows: list[Any]) -> None:
        self._status = rows
        self.wake.set()

    def still(self, source: Source, still: Still) -> None:
        if not self.wish.paused and self._in_sight(source):
            self._stills[source] = still
            self.wake.set()

    def begin_again(self) -> None:
        """The places of sources have changed: what waits, and what was asked for, names the old ones."""
        self._labels, self._stills, self._due_ns, self._status = {}, {}, {}, None
        self._events.clear()
        self._ages.clear()
        self.wish = Wish(paused=self.wish.paused)
        self.stale = True
        self.wake.set()

    def ask(self, wish: Wish) -> None:
        if self.wish.paused and not wish.paused:  # it has heard of no label meanwhile
            self.stale = True
            self.wake.set()
        self.wish = wish
        if wish.paused:
            self._labels.clear()
        self._stills = {source: s for source, s in self._stills.items() if self._in_sight(source)}

    def take(self, wall_ms: int) -> dict[str, Any] | None:
        """Everything that waits but the pictures, as one message."""
        if not (self._labels or self._events or self._ages or self._status is not None):
            return None
        message: dict[str, Any] = {"type": "news", "now": wall_ms}
        if self._labels:
            message["labels"] = [row for rows in self._labels.values() for row in rows]
            self._labels = {}
        if self._events:
            message["events"] = list(self._events)
            self._events.clear()
        if self._ages:
            message["ages"] = list(self._ages)
            self._ages.clear()
        if self._status is not None:
            message["status"], self._status = self._status, None
        if self.missed:
            message["missed"], self.missed = self.missed, 0
        return message

    def take_still(self, now_ns: int) -> tuple[Source, Still] | None:
        """The next picture that is due: the large one first, then those that were shown longest ago."""
        due = [source for source in self._stills if self._due_ns.get(source, 0) <= now_ns]
        if not due:
            return None
        source = min(due, key=lambda one: (one != self.wish.large, self._due_ns.get(one, 0)))
        visible = len(self._due_ns) if self.wish.visible is None else len(self.wish.visible)
        gap_ns = 0 if source == self.wish.large else visible * NS // PICTURES_A_SECOND
        self._due_ns[source] = now_ns + gap_ns * 9 // 10  # one may come a little early
        return source, self._stills.pop(source)

    def _in_sight(self, source: Source) -> bool:
        wish = self.wish
        return wish.visible is None or source == wish.large or source in wish.visible


def picture_message(source: Source, still: Still) -> bytes:
    return _PICTURE.pack(source, still.width, still.height, 0, still.wall_ns / 1e6) + still.jpeg
