from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.ticks.assemble import PATIENCE_TICKS, Assembler
from streamfuse.ticks.lag import WAIT_MAX_NS
from streamfuse.types import MS, NS, SAMPLE_NS, MediaItem, Tick, Trace
from tests.ticks.media import (
    CONTEXT,
    HOP,
    HOP_NS,
    Camera,
    assembler,
    chunk,
    number_of,
    ramp,
    run,
    start,
)

T0 = 5_000 * NS
"""Monotonic time at which the session begins in these tests."""


def live(**settings: int) -> Assembler:
    made = assembler("live", **settings)
    made.push(start(), T0)
    return made


def drive(made: Assembler, arrivals: list[tuple[int, MediaItem]]) -> list[tuple[int, Tick]]:
    """Push each item at its time and poll at each deadline, as the service's loop does."""
    out: list[tuple[int, Tick]] = []
    for now_ns, item in arrivals:
        while (due_ns := made.deadline_ns) is not None and due_ns <= now_ns:
            ticks = made.poll(due_ns)
            assert ticks, "a deadline that brings nothing would be polled for ever"
            out += [(due_ns, tick) for tick in ticks]
        out += [(now_ns, tick) for tick in made.push(item, now_ns)]
    return out


def test_tick_goes_out_when_both_watermarks_have_passed_its_end() -> None:
    made, camera = live(), Camera()
    assert made.push(camera.frame(0, 0, 60 * MS), T0) == []
    assert made.push(chunk(0, HOP), T0 + 1) == []
    # 60 + 40 ms: its duration says that no frame of this tick is still to come.
    (tick,) = made.push(camera.frame(1, 60 * MS, 40 * MS), T0 + 2)
    assert (number_of(tick), tick.head.partial) == (1, False)
    assert made.deadline_ns is None


def test_slower_track_is_waited_for_40_ms_and_not_longer() -> None:
    made, camera = live(), Camera()
    for i in range(5):
        made.push(camera.frame(i, i * 20 * MS, 20 * MS), T0 + i)
    assert made.deadline_ns == T0 + 4 + 40 * MS
    assert made.poll(T0 + 3 + 40 * MS) == []
    (tick,) = made.poll(T0 + 4 + 40 * MS)
    assert (tick.head.audio, tick.head.partial, number_of(tick)) == ("missing", True, 4)
    assert not tick.samples.any()
    assert made.counters["partial"] == 1


@pytest.mark.parametrize(
    ("samples", "frame_ms", "wait_ms"),
    [(160, 20, 40), (160, 83, 124.5), (1024, 40, 96), (2048, 40, 192), (160, 2000, 1000)],
)
def test_wait_follows_the_measured_packets_of_the_slower_track(
    samples: int, frame_ms: int, wait_ms: float
) -> None:
    made, camera = live(), Camera()
    for i in range(9):
        made.push(chunk(i * samples, samples), T0)
        made.push(camera.frame(i, i * frame_ms * MS, frame_ms * MS), T0)
    made.poll(T0 + 60 * NS)
    made.push(chunk(9 * samples, samples), T0 + 60 * NS)
    made.push(camera.frame(9, 20 * NS, HOP_NS), T0 + 61 * NS)
    assert made.deadline_ns == T0 + 61 * NS + wait_ms * MS


def test_wait_that_is_configured_is_taken() -> None:
    made = live(max_wait_ms=7)
    made.push(chunk(0, HOP), T0)
    assert made.deadline_ns == T0 + 7 * MS
    assert len(made.poll(T0 + 7 * MS)) == 1


def test_late_sound_is_dropped_and_counted_but_kept_as_context() -> None:
    made, camera = live(max_wait_ms=0), Camera()
    made.push(chunk(0, 1000), T0)
    (first,) = made.push(camera.frame(0, 0, HOP_NS), T0)
    assert (first.head.audio, first.head.partial) == ("ok", True)
    assert np.array_equal(first.samples[CONTEXT:], np.r_[ramp(0, 1000), np.zeros(600)])
    made.push(chunk(1000, 1000), T0)
    assert made.counters["late_audio_samples"] == 600
    (second,) = made.push(camera.frame(1, HOP_NS, HOP_NS), T0)
    assert np.array_equal(second.samples[: CONTEXT + 400], ramp(HOP - CONTEXT, CONTEXT + 400))


def test_late_frame_is_counted_and_still_the_newest_one() -> None:
    made, camera = live(max_wait_ms=0), Camera()
    (first,) = made.push(chunk(0, HOP), T0)
    made.push(camera.frame(0, 50 * MS), T0)
    (second,) = made.push(chunk(HOP, HOP), T0)
    (third,) = made.push(chunk(2 * HOP, HOP), T0)
    assert [t.head.video for t in (first, second, third)] == ["missing", "ok", "held"]
    assert made.counters["late_frames"] == 1
    assert camera.renders == {0: 1}


def test_late_frames_that_no_tick_shows_are_not_rendered() -> None:
    made, camera = live(max_wait_ms=0), Camera()
    made.push(chunk(0, HOP), T0)
    for i in range(3):
        made.push(camera.frame(i, i * MS), T0)
    made.push(chunk(HOP, HOP), T0)
    assert camera.renders == {2: 1}


@pytest.mark.parametrize("dead", ["video", "audio"])
def test_dead_track_is_not_waited_for_until_it_gives_a_sign_of_life(dead: str) -> None:
    made, camera = live(), Camera()

    def item(track: str, k: int) -> MediaItem:
        return chunk(k * HOP, HOP) if track == "audio" else camera.frame(k, k * HOP_NS, HOP_NS)

    alive = "video" if dead == "audio" else "audio"
    arrivals = [(T0 + k * HOP_NS, item(alive, k)) for k in range(PATIENCE_TICKS + 10)]
    ages = [at - (T0 + t.head.index * HOP_NS) for at, t in drive(made, arrivals)]
    # One hop long is the packet, so the wait is 150 ms, while there is hope.
    assert ages[:PATIENCE_TICKS] == [150 * MS] * PATIENCE_TICKS
    assert ages[PATIENCE_TICKS + 1 :] == [0] * (len(ages) - PATIENCE_TICKS - 1)
    k = PATIENCE_TICKS + 10
    made.push(item(dead, k), T0 + k * HOP_NS)
    (back,) = made.push(item(alive, k), T0 + k * HOP_NS)
    assert (back.head.video, back.head.audio, back.head.partial) == ("ok", "ok", False)
    assert made.push(item(alive, k + 1), T0 + (k + 1) * HOP_NS) == []


def test_stall_of_both_tracks_is_no_reason_to_give_one_up() -> None:
    made, camera = live(), Camera()
    for i in range(13):  # what had piled up: all the video first
        assert made.push(camera.frame(i, i * HOP_NS, HOP_NS), T0 + 3 * NS) == []
    ticks = [t for i in range(13) for t in made.push(chunk(i * HOP, HOP), T0 + 3 * NS + MS)]
    assert [(t.head.video, t.head.audio, t.head.partial) for t in ticks] == [("ok", "ok", False)] * 13


def test_frame_that_claims_to_last_for_ever_does_not_run_ahead() -> None:
    made, camera = assembler("live"), Camera()
    made.push(start(tracks=frozenset({"video"})), T0)
    ticks = [
        t
        for i in range(40)
        for t in made.push(camera.frame(i, i * 50 * MS, 25 * NS if i > 9 else 50 * MS), T0)
    ]
    assert [t.head.index for t in ticks] == list(range(20))
    assert made.counters["late_frames"] == 0


def test_frames_without_duration_are_given_the_measured_one() -> None:
    made, camera = assembler("live"), Camera()
    made.push(start(tracks=frozenset({"video"})), T0)
    ticks = [t for i in range(8) for t in made.push(camera.frame(i, i * 50 * MS, 0), T0)]
    assert [number_of(t) for t in ticks] == [1, 3, 5, 7]


def test_new_session_puts_out_what_waited() -> None:
    made = live()
    made.push(chunk(0, HOP), T0)
    (tick,) = made.push(start(7), T0)
    assert (tick.head.session, tick.head.index) == (0, 0)
    assert made.deadline_ns is None
    assert made.poll(T0 + NS) == []


def test_skew_says_how_much_later_the_sound_of_a_moment_comes() -> None:
    """Whether the tick has both whole or not, and wherever its picture lies in it."""
    made, camera = live(), Camera()
    frame = replace(camera.frame(0, 40 * MS, 60 * MS), arrival_ns=T0 + 40 * MS + 20 * MS)
    made.push(frame, T0 + 60 * MS)
    (tick,) = made.push(replace(chunk(0, HOP), arrival_ns=T0 + HOP_NS + 320 * MS), T0 + HOP_NS + 320 * MS)
    assert tick.head.skew_ns == 300 * MS
    made.push(replace(chunk(HOP, HOP), arrival_ns=T0 + 2 * HOP_NS), T0 + 2 * HOP_NS)
    frame = replace(camera.frame(1, HOP_NS, HOP_NS), arrival_ns=T0 + HOP_NS + 150 * MS)
    (tick,) = made.push(frame, T0 + HOP_NS + 150 * MS)
    assert tick.head.skew_ns == -150 * MS


def test_skew_of_one_track_is_none() -> None:
    made, camera = live(max_wait_ms=0), Camera()
    (tick,) = made.push(replace(camera.frame(0, 0, HOP_NS), arrival_ns=T0 + MS), T0 + MS)
    assert tick.head.skew_ns == 0


@st.composite
def broadcasts(draw: st.DrawFn) -> tuple[int, int, list[int], list[int]]:
    """Frame time in ms, samples in a packet, and how late each frame and each packet comes, in ms."""
    frame_ms = draw(st.sampled_from([20, 40, 66, 83, 200]))
    packet = draw(st.sampled_from([160, 320, 1024, 2048]))
    count = 4 * NS // MS
    delays = st.integers(0, 30) | st.sampled_from([0, 90, 400, 1500])
    frames, packets = count // frame_ms, count * 16 // packet
    late = st.tuples(
        st.lists(delays, min_size=frames, max_size=frames),
        st.lists(delays, min_size=packets, max_size=packets),
    )
    return frame_ms, packet, *draw(late)


def arrivals_of(
    frame_ms: int, packet: int, delays: tuple[list[int], list[int]]
) -> list[tuple[int, MediaItem]]:
    """Each item comes when it has been recorded and its delay is over, never before the one before it."""
    camera, arrivals, at = Camera(), [], 0
    for i, delay in enumerate(delays[0]):
        at = max(at, T0 + ((i + 1) * frame_ms + delay) * MS)
        arrivals.append((at, camera.frame(i, i * frame_ms * MS, frame_ms * MS)))
    at = 0
    for i, delay in enumerate(delays[1]):
        at = max(at, T0 + (i + 1) * packet * SAMPLE_NS + delay * MS)
        arrivals.append((at, chunk(i * packet, packet)))
    return sorted(arrivals, key=lambda pair: pair[0])


@settings(max_examples=60)
@given(broadcasts(), st.sampled_from([None, 0, 40, 300]))
def test_live_every_tick_once_in_order_within_its_wait(broadcast: tuple, max_wait_ms: int | None) -> None:
    frame_ms, packet, *delays = broadcast
    made = assembler("live", **({} if max_wait_ms is None else {"max_wait_ms": max_wait_ms}))
    made.push(start(), T0)
    arrivals = arrivals_of(frame_ms, packet, (delays[0], delays[1]))
    timed = drive(made, arrivals)
    ticks = [t for _, t in timed] + made.flush()
    assert [t.head.index for t in ticks] == list(range(len(ticks)))

    wait_ms = max_wait_ms if max_wait_ms is not None else WAIT_MAX_NS // MS  # it follows the delays
    passed = {}
    for at, item in arrivals:
        end = item.end_ns if hasattr(item, "end_ns") else item.pts_ns + item.dur_ns
        for k in range(end // HOP_NS):
            passed.setdefault(k, at)
    for at, tick in timed:
        assert at <= passed[tick.head.index] + wait_ms * MS

    total = packet * len(delays[1])
    in_time = sum(int(np.count_nonzero(t.samples[CONTEXT:])) for t in ticks)
    assert in_time + made.counters["late_audio_samples"] == total
    assert made.counters["partial"] == sum(t.head.partial for t in ticks)
    for tick in ticks:
        if not tick.head.partial:
            k = tick.head.index
            assert np.array_equal(tick.samples[CONTEXT:], _zero_after(total, k))


def _zero_after(total: int, k: int) -> np.ndarray:
    own = ramp(k * HOP, HOP)
    own[max(0, total - k * HOP) :] = 0
    return own


@settings(max_examples=30)
@given(st.sampled_from([20, 40, 66, 83]), st.sampled_from([160, 320, 1024, 2048]), st.integers(0, 2**32))
def test_live_in_time_makes_the_ticks_of_the_recording(frame_ms: int, packet: int, seed: int) -> None:
    rng = random.Random(seed)
    delays = (
        [rng.randrange(20) for _ in range(3000 // frame_ms)],
        [rng.randrange(20) for _ in range(48_000 // packet)],
    )
    arrivals = arrivals_of(frame_ms, packet, delays)
    # The first packets are not measured yet: what is waited for at first is what the test gives it.
    made = live(max_wait_ms=250)
    ticks = [t for _, t in drive(made, arrivals)] + made.flush()
    wanted = run([start(), *(item for _, item in arrivals)])
    assert made.counters["partial"] == 0
    # Live, the skew is one of arrivals, which a recording has not.
    told = [replace(t.head, trace=Trace(), skew_ns=0) for t in ticks]
    assert told == [replace(t.head, skew_ns=0) for t in wanted]
    assert [number_of(t) for t in ticks] == [number_of(t) for t in wanted]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(ticks, wanted, strict=True))


@pytest.mark.parametrize("slow", ["video", "audio"])
def test_track_that_always_comes_late_is_waited_for_once_that_is_known(slow: str) -> None:
    """An encoder that gives the sound 300 ms after the picture: with a wait of 40 ms it is never heard."""
    made, camera = live(), Camera()
    arrivals: list[tuple[int, MediaItem]] = []
    for k in range(600):  # 12 s of 20 ms packets
        late = {"video": 0, "audio": 0, slow: 300 * MS}
        at_ns = T0 + (k + 1) * 20 * MS
        arrivals.append((at_ns + late["video"], camera.frame(k, k * 20 * MS, 20 * MS)))
        arrivals.append((at_ns + late["audio"], chunk(k * 320, 320)))
    ticks = drive(made, sorted(arrivals, key=lambda arrival: arrival[0]))
    known = [(at, tick.head) for at, tick in ticks if tick.head.index >= 40]
    assert {(head.video, head.audio, head.partial) for _, head in known} == {("ok", "ok", False)}
    # They go out when the slower track is there, not when the wait is over.
    assert {at - (T0 + (head.index + 1) * HOP_NS) for at, head in known} == {300 * MS}


def test_track_that_was_away_for_a_while_is_not_waited_for_longer_afterwards() -> None:
    made, camera = live(), Camera()
    arrivals: list[tuple[int, MediaItem]] = []
    for k in range(600):
        at_ns = T0 + (k + 1) * 20 * MS
        arrivals.append((at_ns, camera.frame(k, k * 20 * MS, 20 * MS)))
        if not 200 <= k < 400:  # 4 s without sound
            arrivals.append((at_ns, chunk(k * 320, 320)))
    ticks = drive(made, arrivals)
    assert all(at - (T0 + (t.head.index + 1) * HOP_NS) <= 40 * MS for at, t in ticks)
    assert ticks[-1][1].head.audio == "ok"


@pytest.mark.parametrize("short_ns", [1, MS])
def test_last_frame_of_a_tick_ends_it_in_spite_of_rounding(short_ns: int) -> None:
    """30 fps in whole nanoseconds: 66,666,666 + 33,333,333 is one short of the hop."""
    made, camera = live(), Camera()
    made.push(chunk(0, HOP), T0)
    for i in range(3):
        ticks = made.push(camera.frame(i, i * 33 * MS, 34 * MS - short_ns * (i == 2)), T0 + i)
    (tick,) = ticks
    assert (number_of(tick), tick.head.partial, made.deadline_ns) == (2, False, None)
    # Sound is exact: a tick never goes out without its last samples.
    made.push(camera.frame(3, HOP_NS, HOP_NS), T0 + 10)
    assert made.push(chunk(HOP, HOP - 1), T0 + 10) == []
