"""Live in one process: the oldest tick is dropped, and the next one says so."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from streamfuse.config import TickConfig
from streamfuse.pipeline.live import LiveTicks
from streamfuse.ticks.assemble import Assembler
from streamfuse.types import MS, AudioChunk, MediaItem, SessionStart, TrackEnd

DEADLINE_S = 10


def audio_items(ticks: int) -> list[MediaItem]:
    start = SessionStart(0, 0, 0, frozenset({"audio"}))
    chunks = [AudioChunk(i * 100 * MS, np.zeros(1600, np.float32)) for i in range(ticks)]
    return [start, *chunks, TrackEnd("audio")]


def assembler() -> Assembler:
    return Assembler("live", TickConfig(), mode="live", hop_ns=100 * MS, context_samples=352)


class Wire:
    """Media that come when the test says so; `drained` is set when all of them were taken in."""

    def __init__(self) -> None:
        self._items: queue.Queue[MediaItem | BaseException | None] = queue.Queue()
        self.asked = threading.Semaphore(0)

    def __iter__(self) -> Iterator[MediaItem]:
        while True:
            self.asked.release()
            item = self._items.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def send(self, *items: MediaItem | BaseException | None) -> None:
        """Send, and wait until the reader has taken each and asks for the next."""
        for item in items:
            assert self.asked.acquire(timeout=DEADLINE_S)
            self._items.put(item)
        if items[-1] is not None and not isinstance(items[-1], BaseException):
            assert self.asked.acquire(timeout=DEADLINE_S)
            self.asked.release()


def test_nothing_is_dropped_when_the_reader_keeps_up() -> None:
    wire = Wire()
    live = LiveTicks(wire, assembler(), limit=2)
    ticks = iter(live)
    start, *chunks, _ = audio_items(5)
    wire.send(start)
    got = []
    for chunk in chunks:
        wire.send(chunk)
        got.append(next(ticks))
    wire.send(None)
    assert list(ticks) == []
    assert [(tick.head.index, tick.head.dropped) for tick in got] == [(i, 0) for i in range(5)]
    assert live.dropped == 0


def test_oldest_is_dropped_and_the_next_one_says_how_many() -> None:
    wire = Wire()
    live = LiveTicks(wire, assembler(), limit=2)
    wire.send(*audio_items(6)[:-1])
    wire.send(None)
    assert [(tick.head.index, tick.head.dropped) for tick in live] == [(4, 4), (5, 0)]
    assert live.dropped == 4


def test_error_comes_after_the_ticks_before_it() -> None:
    wire = Wire()
    live = LiveTicks(wire, assembler(), limit=8)
    wire.send(*audio_items(2)[:-1])
    wire.send(ConnectionError("the camera left"))
    got = []
    with pytest.raises(ConnectionError, match="the camera left"):
        for tick in live:
            got.append(tick.head.index)
    assert got == [0, 1]


def test_close_ends_the_iteration() -> None:
    wire = Wire()
    live = LiveTicks(wire, assembler())
    wire.send(*audio_items(1)[:-1])
    ticks = iter(live)
    assert next(ticks).head.index == 0
    live.close()
    assert list(ticks) == []
    wire.send(None)
