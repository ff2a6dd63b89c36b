"""Pictures of a live source for people, made beside the reading and never in its way.

A thread makes them, so that scaling and JPEG cost the ticks nothing but a core's idle time: it always
takes the newest frame, and a frame that finds the thread busy replaces the one that waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from streamfuse.clock import Clock
from streamfuse.config_live import PictureConfig
from streamfuse.services.loop import Wake
from streamfuse.types import NS, SessionStart, Still, VideoFrame
from streamfuse.wire.broadcast import Publisher

log = logging.getLogger(__name__)


class StillMaker:
    """At most `config.fps` stills a second of what is offered, published by whoever calls send().

    session()  where the frames that follow stand in time
    offer()    a frame; never waits
    send()     publish the newest still that has not been; `wake` is readable when there is one
    """

    def __init__(self, name: str, config: PictureConfig, watchers: Publisher, clock: Clock) -> None:
        self._name, self._config, self._watchers, self._clock = name, config, watchers, clock
        self._gap_ns = round(NS / config.fps)
        self._due_ns = 0
        self._start: SessionStart | None = None
        self._changed = threading.Condition()
        self._waiting: Callable[[], Still] | None = None
        self._ready: Still | None = None
        self._stopped = False
        self.wake = Wake()
        self.counters = {"pictures": 0, "pictures_skipped": 0, "pictures_failed": 0}
        """Made; replaced by a newer one before they were made or sent; frames that gave no picture."""
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    def session(self, start: SessionStart) -> None:
        self._start = start

    def offer(self, frame: VideoFrame) -> None:
        now_ns = self._clock.monotonic_ns()
        start, still = self._start, frame.still
        if now_ns < self._due_ns or start is None or still is None:
            return
        # From the last due time on, so that the rate is kept; after a pause, from now.
        self._due_ns += self._gap_ns
        if self._due_ns <= now_ns:
            self._due_ns = now_ns + self._gap_ns
        pts_ns = frame.pts_ns - start.zero_ns + start.offset_ns
        wall_ns = self._clock.wall_ns() - (now_ns - (frame.arrival_ns or now_ns))
        name, width, quality = self._name, self._config.width, self._config.quality

        def make() -> Still:
            jpeg, wide, high = still(width, quality)
            return Still(name, start.session, pts_ns, wall_ns, wide, high, jpeg)

        with self._changed:
            self.counters["pictures_skipped"] += self._waiting is not None
            self._waiting = make
            self._changed.notify()

    def send(self) -> None:
        if self._ready is None:
            return
        with self._changed:
            self.wake.clear()
            ready, self._ready = self._ready, None
        if ready is not None:
            self._watchers.publish(self._name, ready)

    def close(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (make := self._next()) is not None:
            try:
                made = make()
            except Exception:
                # Frames of strangers in libraries of others: no picture of this one, and the ticks go on.
                self.counters["pictures_failed"] += 1
                if self.counters["pictures_failed"] == 1:
                    log.exception("no picture could be made of a frame")
                continue
            with self._changed:
                self.counters["pictures"] += 1
                self.counters["pictures_skipped"] += self._ready is not None
                self._ready = made
                self.wake.set()

    def _next(self) -> Callable[[], Still] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._stopped)
            make, self._waiting = self._waiting, None
            return None if self._stopped else make
