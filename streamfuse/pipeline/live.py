"""A live source in this process: bounded age, the oldest tick dropped, every drop counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from streamfuse.clock import SYSTEM, Clock, utc_iso
from streamfuse.ticks.assemble import Assembler
from streamfuse.trace import last_arrival_ns, latency, stamped
from streamfuse.types import MS, NS, AudioChunk, Label, MediaItem, SessionStart, Tick, TickHead, VideoFrame

if TYPE_CHECKING:
    from streamfuse.media.decode import Decoder
    from streamfuse.media.source import Pacing

QUEUE_TICKS = 4
"""Ticks that wait for the network before the oldest is dropped: 0.4 s of age at the usual hop."""
STALL_NS = 200 * MS
"""A network that is later than this has stalled. Less is let pass as age: it would add up, item by item."""


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
                    tick = self._waiting.popleft()
                    head = _stamped_until(tick.head, self._clock.monotonic_ns(), waited=True)
                    return replace(tick, head=head)
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


class Pacer:
    """Makes what comes too fast arrive as from a camera: each item when it is due, and stamped so.

    The schedule, not the reading, says when an item arrived: reading that falls behind shows as age.

    elastic  a network brings the items: where it has stalled, the schedule begins anew, and what had to wait
             comes at the pace of before instead of all at once
    """

    def __init__(self, clock: Clock, *, elastic: bool = False) -> None:
        self._clock, self._elastic = clock, elastic
        self._zero_ns = 0
        self._began_ns = 0

    def pace(self, item: MediaItem, stopped: threading.Event) -> MediaItem:
        if isinstance(item, SessionStart):
            self._zero_ns, self._began_ns = item.zero_ns, self._clock.monotonic_ns()
            return item
        if not isinstance(item, VideoFrame | AudioChunk):
            return item
        # Sound can only be there when its last sample is; a picture is there when it is shown.
        media_ns = item.end_ns if isinstance(item, AudioChunk) else item.pts_ns
        due_ns = self._began_ns + media_ns - self._zero_ns
        if self._elastic and item.arrival_ns - due_ns > STALL_NS:
            self._began_ns += item.arrival_ns - due_ns
            due_ns = item.arrival_ns
        wait_ns = due_ns - self._clock.monotonic_ns()
        if wait_ns > 0 and stopped.wait(wait_ns / NS):  # cut short: it is there before it was due
            due_ns = self._clock.monotonic_ns()
        return replace(item, arrival_ns=due_ns)


def pacer_for(pacing: Pacing, clock: Clock) -> Pacer | None:
    """What holds such a source back; None: a camera's items are there when they happen, and wait no more."""
    return None if pacing == "own" else Pacer(clock, elastic=pacing == "sent")


def paced(decoder: Decoder, clock: Clock, stopped: threading.Event) -> Iterator[MediaItem]:
    """Its items, each when it is due."""
    pacer = pacer_for(decoder.pacing, clock)
    for item in decoder:
        yield item if pacer is None else pacer.pace(item, stopped)


def dated(label: Label, clock: Clock) -> Label:
    """A live label as it is given out: with the wall clock of its tick's end, and where its time went."""
    head = _stamped_until(label.head, clock.monotonic_ns(), waited=False)
    now_ns = head.trace.stamps[-1].end_ns
    age_ns = now_ns - (last_arrival_ns(head.trace) or now_ns)
    return replace(label, head=head, time=utc_iso(clock.wall_ns() - age_ns), latency=latency(head))


def _stamped_until(head: TickHead, now_ns: int, *, waited: bool) -> TickHead:
    """With an `analyze` stamp from the end of the last one until now: time in the queue, or of computing."""
    stamps = head.trace.stamps
    since_ns = stamps[-1].end_ns if stamps else now_ns
    return stamped(head, "analyze", since_ns, now_ns if waited else since_ns, now_ns)
