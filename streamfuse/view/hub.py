"""From the publish loop to the pages: taken in without waiting, remembered, and handed to whoever looks.

offer() is called by the publish loop and may be called by any thread; everything else happens in the
view's own thread. What the publish loop offers faster than the view can take is dropped, oldest first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamfuse.clock import Clock
from streamfuse.config import ViewConfig
from streamfuse.model.spec import HeadSpec
from streamfuse.types import MS, Event, Label, SessionStart, Still
from streamfuse.view.history import Report, Roster, SourceHistory
from streamfuse.view.page import Page
from streamfuse.view.rows import Rows

log = logging.getLogger(__name__)

WAITING = 4096
"""Items that may wait for the view's thread: 20 s of 16 sources."""
STATUS_S = 0.5
STATUS_EVERY = 2
"""Status goes out every second, or at once where a state has changed."""

Offered = Label | Event | Still | Report | Roster | tuple[str, SessionStart]


class Hub:
    """Everything the pages show."""

    def __init__(
        self, config: ViewConfig, heads: Sequence[HeadSpec], sources: Sequence[str], model: str, clock: Clock
    ) -> None:
        self._config, self._clock = config, clock
        self.rows = Rows(heads)
        self._model = model
        self._sources: dict[str, int] = {}
        self._histories: list[SourceHistory] = []
        self._stills: dict[int, Still] = {}
        self.pages: set[Page] = set()
        self.skipped = 0
        self._offered: deque[Offered] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False
        self._states: list[str] = []
        for name in sources:
            self._place(name)

    # -- from any thread ---------------------------------------------------------

    def offer(self, item: Offered) -> None:
        """Take something to show; never waits."""
        if len(self._offered) >= WAITING:
            self._offered.popleft()
            self.skipped += 1
        self._offered.append(item)
        loop = self._loop
        if loop is not None and not self._scheduled:
            self._scheduled = True
            try:
                loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # it is closing
                self._loop = None

    # -- in the view's thread ----------------------------------------------------

    async def run(self) -> None:
        """Take in what is offered, and say every second how the sources are doing."""
        self._loop = asyncio.get_running_loop()
        turn = 0
        while True:
            self._drain()
            turn += 1
            self._tell_status(now=turn % STATUS_EVERY == 0)
            await asyncio.sleep(STATUS_S)

    @property
    def full(self) -> bool:
        return len(self.pages) >= self._config.max_pages

    def hello(self) -> dict[str, Any]:
        """What a page is told first: the names, and the last minutes."""
        now_ns = self._clock.monotonic_ns()
        return {
            "type": "hello",
            "now": self.wall_ms,
            "minutes": self._config.minutes,
            "model": self._model,
            "heads": self.rows.tables(),
            "sources": [history.name for history in self._histories],
            "labels": [list(history.rows) for history in self._histories],
            "ages": [list(history.buckets) for history in self._histories],
            "events": [row for history in self._histories for row in history.events],
            "status": [history.status(now_ns) for history in self._histories],
        }

    def stills(self) -> list[tuple[int, Still]]:
        """The last picture of each source, for a page that has just been opened."""
        return list(self._stills.items())

    @property
    def wall_ms(self) -> int:
        return self._clock.wall_ns() // MS

    def _drain(self) -> None:
        self._scheduled = False
        while self._offered:
            item = self._offered.popleft()
            try:
                self._take(item)
            except Exception:  # a page that shows nothing more is worse than one that misses a label
                log.exception("could not be shown: %s", type(item).__name__)

    def _take(self, item: Offered) -> None:
        now_ns = self._clock.monotonic_ns()
        match item:
            case Label():
                place = self._place(item.head.source)
                row = self.rows.label(place, item)
                self._histories[place].label(row, now_ns)
                for page in self.pages:
                    page.label(place, row)
            case Event():
                place = self._place(item.source)
                told = self.rows.event(place, item)
                if told is not None:
                    self._histories[place].events.append(told)
                    for page in self.pages:
                        page.event(told)
            case Still():
                place = self._place(item.source)
                self._stills[place] = item
                for page in self.pages:
                    page.still(place, item)
            case Report():
                if item.source in self._sources:
                    self._histories[self._sources[item.source]].report(item, now_ns)
            case Roster():
                self._keep(item.sources)
                for history in self._histories:
                    history.pause(history.name in item.paused)
            case (str() as name, SessionStart() as start):
                self._histories[self._place(name)].begin(start.session, start.reason, now_ns)

    def _place(self, name: str) -> int:
        """The source's place; a new one gets the next, and the pages are told to begin again."""
        place = self._sources.get(name)
        if place is None:
            place = self._sources[name] = len(self._histories)
            now_ns = self._clock.monotonic_ns()
            self._histories.append(SourceHistory(name, self._config.minutes, now_ns))
        return place

    def _keep(self, names: Sequence[str]) -> None:
        """Show these sources from now on. Those behind one that leaves move up, so pages begin again."""
        kept = [place for place, history in enumerate(self._histories) if history.name in names]
        if len(kept) < len(self._histories):
            self._stills = {new: self._stills[old] for new, old in enumerate(kept) if old in self._stills}
            self._histories = [self._histories[old] for old in kept]
            self._sources = {history.name: new for new, history in enumerate(self._histories)}
            for new, history in enumerate(self._histories):
                for row in (*history.rows, *history.events):
                    row[0] = new
            for page in self.pages:
                page.begin_again()
        for name in names:
            self._place(name)

    def _tell_status(self, *, now: bool) -> None:
        now_ns, wall_ms = self._clock.monotonic_ns(), self.wall_ms
        rows = [history.status(now_ns) for history in self._histories]
        states = [row["state"] for row in rows]
        for place, history in enumerate(self._histories):
            bucket = history.close_bucket(now_ns, wall_ms)
            if bucket is not None:
                for page in self.pages:
                    page.age(place, bucket)
        if now or states != self._states:
            self._states = states
            for page in self.pages:
                page.status([[history.name for history in self._histories], rows])
