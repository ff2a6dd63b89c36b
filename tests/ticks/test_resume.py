"""A tick's digest is of all that the analysis sees, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamfuse.ticks.resume import CHECKED_TICKS, RecentTicks, tick_digest
from streamfuse.types import Picture, Stamp, Tick, TickHead, Trace


def a_tick(index: int = 0, session: int = 0) -> Tick:
    rng = np.random.default_rng(index)
    planes = tuple(rng.integers(0, 255, shape, np.uint8) for shape in ((12, 16), (6, 8), (6, 8)))
    head = TickHead("clip", session, index, 0, 100_000_000, "ok", "ok")
    return Tick(head, Picture(planes), rng.normal(size=1952).astype(np.float32))


def test_the_same_tick_has_the_same_digest_whatever_way_it_came() -> None:
    tick = a_tick()
    padded = tuple(np.pad(plane, 3)[3:-3, 3:-3] for plane in tick.picture.planes)
    late = Trace(5, 7, (Stamp("decode", 1, 2, 3),))
    other = Tick(replace(tick.head, trace=late), Picture(padded), tick.samples.copy())
    assert tick_digest(other) == tick_digest(tick)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: Tick(replace(t.head, index=1), t.picture, t.samples),
        lambda t: Tick(replace(t.head, offset_ns=1), t.picture, t.samples),
        lambda t: Tick(replace(t.head, video="held"), t.picture, t.samples),
        lambda t: Tick(replace(t.head, skew_ns=5), t.picture, t.samples),
        lambda t: Tick(t.head, replace(t.picture, full_range=True), t.samples),
        lambda t: Tick(t.head, replace(t.picture, planes=t.picture.planes[::-1]), t.samples),
        lambda t: Tick(t.head, None, t.samples),
        lambda t: Tick(t.head, t.picture, np.nextafter(t.samples, np.float32(9))),
    ],
)
def test_whatever_the_analysis_sees_changes_the_digest(change) -> None:
    assert tick_digest(change(a_tick())) != tick_digest(a_tick())


def test_a_point_is_of_its_session_alone() -> None:
    recent = RecentTicks()
    for tick in [*(a_tick(i) for i in range(4)), *(a_tick(i, 1) for i in range(3))]:
        recent.push(tick)
    point = recent.point(1, 2)
    assert point.digests == tuple(tick_digest(a_tick(i, 1)) for i in range(3))
    assert (point.first_checked, point.start_ns) == ((1, 0), 200_000_000)


def test_a_point_has_no_more_digests_than_are_compared() -> None:
    recent = RecentTicks(ahead=20)
    for index in range(40):
        recent.push(a_tick(index), b"%d" % index)
    point = recent.point(0, 25)
    assert len(point.digests) == CHECKED_TICKS
    assert point.first_checked == (0, 16)
    assert recent.faces(0, 25) == b"25"


def test_a_tick_of_long_ago_has_no_point() -> None:
    recent = RecentTicks()
    for index in range(30):
        recent.push(a_tick(index))
    with pytest.raises(LookupError):
        recent.point(0, 3)
