"""A live source in this process: bounded age, the oldest tick dropped, every drop counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from streamfuse.clock import SYSTEM, Clock
from streamfuse.ticks.assemble import Assembler
from streamfuse.types import NS, MediaItem, Tick

QUEUE_TICKS = 4
"""Ticks that wait for the network before the oldest is dropped: 0.4 s of age at the usual hop."""


class LiveTicks:
    """Iterate over the ticks of live media, each as soon as it is due.

    One thread reads the media and assembles; the reader of this iterator takes the ticks when it can.
    When more than `limit` wait, the oldest is dropped and the next one says so in head.dropped.

    raises  what the media raises, after the ticks before it
    """

    def __init__(
        self,
        media: Iterable[MediaItem],
        assembler: Assembler,
        *,
        limit: int = QUEUE_TICKS,
        clock: Clock = SYSTEM,
    ) -> None:
        self._media, self._assembler, self._limit, self._clock = media, assembler, limit, clock
        self._waiting: deque[Tick] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._read, name="live-media", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Tick]:
        while (tick := self._next()) is not None:
            yield tick
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ask the reading thread to end with the next item; the media's own close() wakes it."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _next(self) -> Tick | None:
        with self._changed:
            while not self._stopped:
                self._add(self._assembler.poll(self._clock.monotonic_ns()))
                if self._waiting:
                    return self._waiting.popleft()
                if self._ended:
                    return None
                self._changed.wait(self._timeout_s())
        return None

    def _timeout_s(self) -> float | None:
        deadline_ns = self._assembler.deadline_ns
        if deadline_ns is None:
            return None
        return max(0, deadline_ns - self._clock.monotonic_ns()) / NS

    def _read(self) -> None:
        try:
            for item in self._media:
                with self._changed:
                    if self._stopped:
                        return
                    self._add(self._assembler.push(item, self._clock.monotonic_ns()))
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001, it is raised where the ticks are used
            self._error = error
        finally:
            with self._changed:
                if not self._stopped:
                    self._add(self._assembler.flush())
                self._ended = True
                self._changed.notify_all()

    def _add(self, ticks: list[Tick]) -> None:
        for tick in ticks:
            self._waiting.append(tick)
            if len(self._waiting) > self._limit:
                lost = 1 + self._waiting.popleft().head.dropped
                self.dropped += 1
                head = self._waiting[0].head
                self._waiting[0] = replace(self._waiting[0], head=replace(head, dropped=head.dropped + lost))
