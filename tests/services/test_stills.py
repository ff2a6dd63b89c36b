"""The maker of stills: its rate, its times, the newest first, and frames that give none."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest

from streamfuse.config_live import PictureConfig
from streamfuse.services.stills import StillMaker
from streamfuse.types import MS, NS, SessionStart, Still, VideoFrame
from tests.hand_clock import HandClock

JPEG = b"\xff\xd8\xff\xff\xd9"
START = SessionStart(7, 5 * NS, 100 * NS, frozenset({"video"}))


class Watchers:
    """Takes what is published."""

    def __init__(self) -> None:
        self.told: list[Still] = []

    def publish(self, source: str, body: Still) -> None:
        assert source == body.source
        self.told.append(body)


class Bench:
    def __init__(self, fps: float = 2.0) -> None:
        self.clock, self.watchers = HandClock(), Watchers()
        config = PictureConfig(fps=fps, width=320, quality=70)
        self.maker = StillMaker("door", config, self.watchers, self.clock)  # type: ignore[arg-type]

    def ready(self) -> None:
        """Wait for the thread's next still and send it."""
        assert select.select([self.maker.wake], [], [], 10)[0], "no still came"
        self.maker.send()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.maker.close()


def frame(at_ns: int, arrival_ns: int = 0, jpeg: bytes = JPEG) -> VideoFrame:
    def still(width: int, quality: int) -> tuple[bytes, int, int]:
        assert (width, quality) == (320, 70)
        return jpeg, 320, 240

    return VideoFrame(at_ns, 40 * MS, lambda: None, arrival_ns, still)  # type: ignore[arg-type, return-value]


def test_still_has_the_time_of_the_labels_around_it(bench: Bench) -> None:
    bench.maker.session(START)
    bench.maker.offer(frame(5 * NS + 240 * MS, arrival_ns=bench.clock.now_ns - 30 * MS))
    bench.ready()
    wall_ns = bench.clock.now_ns - 30 * MS
    assert bench.watchers.told == [Still("door", 7, 100 * NS + 240 * MS, wall_ns, 320, 240, JPEG)]


def test_stills_are_made_at_their_rate_whatever_the_frames(bench: Bench) -> None:
    due = (0, 13, 25, 38, 50, 63, 75, 88)  # the first frames of every half second since the first of all
    bench.maker.session(START)
    for index in range(100):  # 4 s at 25 a second
        bench.clock.now_ns += 40 * MS
        bench.maker.offer(frame(5 * NS + index * 40 * MS))
        if index in due:
            bench.ready()
    assert [still.pts_ns for still in bench.watchers.told] == [100 * NS + index * 40 * MS for index in due]
    assert bench.maker.counters["pictures_skipped"] == 0


def test_frames_before_a_session_and_frames_without_a_picture_give_none(bench: Bench) -> None:
    bench.maker.offer(frame(0))
    bench.maker.session(START)
    bench.maker.offer(VideoFrame(0, 1, lambda: None))  # type: ignore[arg-type, return-value]
    bench.maker.send()
    assert bench.watchers.told == []
    assert bench.maker.counters == {"pictures": 0, "pictures_skipped": 0, "pictures_failed": 0}


def test_newest_frame_replaces_the_one_that_waits(bench: Bench) -> None:
    bench.maker.session(START)
    begun, go_on = threading.Event(), threading.Event()

    def slow(width: int, quality: int) -> tuple[bytes, int, int]:
        begun.set()
        assert go_on.wait(10)
        return JPEG, 1, 1

    bench.maker.offer(VideoFrame(5 * NS, 1, lambda: None, 0, slow))  # type: ignore[arg-type, return-value]
    assert begun.wait(10)
    for at_s in (6, 7, 8):  # the thread is busy all this time, and nothing here waits for it
        bench.clock.now_ns += NS
        bench.maker.offer(frame(at_s * NS))
    go_on.set()
    while len(bench.watchers.told) + bench.maker.counters["pictures_skipped"] < 4:
        bench.ready()
    assert bench.watchers.told[-1].pts_ns == 103 * NS
    assert bench.maker.counters["pictures_skipped"] >= 2


def test_frame_that_cannot_be_scaled_is_counted_and_the_next_is_made(bench: Bench) -> None:
    def broken(width: int, quality: int) -> tuple[bytes, int, int]:
        raise ValueError("a format nobody has heard of")

    bench.maker.session(START)
    bench.maker.offer(VideoFrame(5 * NS, 1, lambda: None, 0, broken))  # type: ignore[arg-type, return-value]
    while not bench.maker.counters["pictures_failed"]:
        bench.maker.send()
    bench.clock.now_ns += NS
    bench.maker.offer(frame(6 * NS))
    bench.ready()
    assert [still.pts_ns for still in bench.watchers.told] == [101 * NS]
