from __future__ import annotations

import gc
import random
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.errors import StageError
from streamfuse.ticks.assemble import INTERLEAVE_MAX_NS
from streamfuse.types import MS, NS, SAMPLE_NS, AudioChunk, Picture, TrackEnd, VideoFrame
from tests.ticks.media import (
    CONTEXT,
    HOP,
    HOP_NS,
    Camera,
    Session,
    assembler,
    assert_ticks,
    chunk,
    chunks_of,
    film,
    frames_of,
    merged,
    number_of,
    ramp,
    run,
    sessions,
    start,
)


@settings(max_examples=150)
@given(sessions(), st.integers(0, 2**32))
def test_ticks_any_chunking_and_interleaving_match_the_definition(session: Session, seed: int) -> None:
    rng = random.Random(seed)
    sizes = rng.choice([[1024], [160], [7777], [441, 640], [1, 3, 1600, 5000]])
    camera = Camera()
    sound = chunks_of(session, lambda: rng.choice(sizes))
    items = merged(frames_of(session, camera), sound, rng)
    ticks = run([start(zero_ns=session.zero_ns), *items])
    assert_ticks(ticks, session)
    shown = {number_of(tick) for tick in ticks} - {None}
    assert camera.renders == dict.fromkeys(shown, 1)


@settings(max_examples=50)
@given(sessions(), st.integers(-SAMPLE_NS // 2, SAMPLE_NS // 2 - 1), st.integers(0, 2**32))
def test_ticks_sound_between_two_samples_goes_to_the_nearest(
    session: Session, off_ns: int, seed: int
) -> None:
    rng = random.Random(seed)
    sound = chunks_of(session, lambda: rng.choice([1, 700, 1024]), off_ns)
    ticks = run([start(zero_ns=session.zero_ns), *merged(frames_of(session, Camera()), sound, rng)])
    assert_ticks(ticks, session)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30), st.lists(st.integers(-150, 150), min_size=30))
def test_sound_with_jittering_pts_is_joined_without_a_hole(counts: list[int], jitter: list[int]) -> None:
    made, items, at = assembler(), [start(tracks=frozenset({"audio"}))], 0
    for i, count in enumerate(counts):
        off = jitter[i] if i else 0
        items.append(AudioChunk((at + off) * SAMPLE_NS, ramp(at, count)))
        at += count
    ticks = run(items, made)
    # Nothing was cut or filled in as long as the step stays below 10 ms.
    joined = np.concatenate([t.samples[CONTEXT:] for t in ticks])[:at]
    assert np.array_equal(joined, ramp(0, at))
    assert made.counters["gap_samples"] == made.counters["overlap_samples"] == 0


def test_sound_that_drifts_is_brought_back_to_its_pts() -> None:
    made, items = assembler(), [start(tracks=frozenset({"audio"}))]
    for i in range(100):  # every chunk of 1000 samples claims 1010
        items.append(AudioChunk(i * 1010 * SAMPLE_NS, ramp(i * 1000, 1000)))
    ticks = run(items, made)
    assert len(ticks) == -(-(99 * 1010 + 1000) // HOP)
    assert 99 * 10 - 160 <= made.counters["gap_samples"] <= 99 * 10


def test_sound_that_overlaps_is_cut_whatever_the_chunks() -> None:
    def joined(*pieces: AudioChunk) -> tuple[np.ndarray, int]:
        made = assembler()
        ticks = run([start(tracks=frozenset({"audio"})), chunk(0, 1000), *pieces], made)
        return np.concatenate([t.samples[CONTEXT:] for t in ticks]), made.counters["overlap_samples"]

    again = AudioChunk(500 * SAMPLE_NS, ramp(5000, 800))
    parts = [AudioChunk((500 + i) * SAMPLE_NS, ramp(5000 + i, 400)) for i in (0, 400)]
    whole, cut = joined(again)
    assert cut == 500
    assert np.array_equal(whole[990:1300], np.r_[ramp(990, 10), ramp(5500, 300)])
    assert np.array_equal(joined(*parts)[0], whole)
    assert joined(*parts)[1] == 500


def test_last_tick_is_filled_up_with_zeros() -> None:
    ticks = run([start(), chunk(0, HOP + 1), Camera().frame(0, 0)])
    assert [(t.head.video, t.head.audio) for t in ticks] == [("ok", "ok"), ("held", "ok")]
    assert ticks[1].samples[CONTEXT] == HOP + 1
    assert not ticks[1].samples[CONTEXT + 1 :].any()
    assert np.array_equal(ticks[1].samples[:CONTEXT], ramp(HOP - CONTEXT, CONTEXT))
    assert not ticks[0].samples[:CONTEXT].any()


def test_frame_at_the_tick_end_belongs_to_the_next_tick() -> None:
    camera = Camera()
    ticks = run([start(), camera.frame(0, HOP_NS - 1, 1), camera.frame(1, HOP_NS, 1)])
    assert [number_of(t) for t in ticks] == [0, 1]


def test_frame_without_a_duration_still_gets_its_tick() -> None:
    assert [number_of(t) for t in run([start(), Camera().frame(0, HOP_NS, 0)])] == [None, 0]


@pytest.mark.parametrize(("hold_max_ms", "held"), [(0, 0), (100, 1), (1000, 10), (2500, 25)])
def test_picture_is_held_for_hold_max_and_no_longer(hold_max_ms: int, held: int) -> None:
    items = [start(), Camera().frame(0, 0), chunk(0, 40 * HOP)]
    ticks = run(items, assembler(hold_max_ms=hold_max_ms))
    assert [t.head.video for t in ticks] == ["ok"] + ["held"] * held + ["missing"] * (39 - held)
    assert len({id(t.picture) for t in ticks[: held + 1]}) == 1
    assert all((t.picture is None) == (t.head.video == "missing") for t in ticks)


def test_frames_early_and_out_of_order_are_dropped_and_counted() -> None:
    made, camera = assembler(), Camera()
    pts = [-1, 50, 40, 50, 60]
    items = [start(zero_ns=NS), *(camera.frame(i, NS + p * MS) for i, p in enumerate(pts))]
    assert [number_of(t) for t in run(items, made)] == [4]
    assert (made.counters["early_frames"], made.counters["reordered_frames"]) == (1, 2)
    assert camera.renders == {4: 1}


def test_sound_before_zero_is_cut_and_counted() -> None:
    made = assembler()
    ticks = run([start(zero_ns=NS), AudioChunk(NS - 100 * SAMPLE_NS, ramp(-100, 300))], made)
    assert made.counters["early_samples"] == 100
    assert np.array_equal(ticks[0].samples[CONTEXT : CONTEXT + 201], np.r_[ramp(0, 200), 0])


def test_ticks_wait_for_the_other_track_or_its_end() -> None:
    made, camera = assembler(), Camera()
    made.push(start())
    assert made.push(chunk(0, 5 * HOP)) == []
    # A frame's own duration may lie, so only the next frame says that a tick has its newest one.
    assert made.push(camera.frame(0, 0, 10 * HOP_NS)) == []
    assert [t.head.index for t in made.push(camera.frame(1, 2 * HOP_NS))] == [0, 1]
    assert [t.head.index for t in made.push(TrackEnd("video"))] == [2, 3, 4]
    # The first frame claimed a whole second, but the end is the last frame's: no sixth tick.
    assert made.push(TrackEnd("audio")) == []
    assert made.flush() == []


@pytest.mark.parametrize("only", ["video", "audio"])
def test_track_that_was_not_selected_is_not_waited_for(only: str) -> None:
    made, camera = assembler(), Camera()
    made.push(start(tracks=frozenset({only})))
    item = chunk(0, 3 * HOP) if only == "audio" else camera.frame(0, 3 * HOP_NS)
    ticks = made.push(item)
    assert [t.head.index for t in ticks] == [0, 1, 2]
    assert all(t.samples.shape == (CONTEXT + HOP,) for t in ticks)
    assert not any(t.head.partial for t in ticks)


def test_track_far_behind_is_not_waited_for_and_its_late_part_dropped_and_counted() -> None:
    made, camera = assembler(), Camera()
    seconds = INTERLEAVE_MAX_NS // NS + 2
    ticks = [
        t for item in [start(), *(chunk(i * 16_000, 16_000) for i in range(seconds))] for t in made.push(item)
    ]
    assert len(ticks) == 20
    ticks += made.push(camera.frame(0, 0))
    ticks += [t for i in range(1, seconds * 10) for t in made.push(camera.frame(i, i * HOP_NS))]
    ticks += made.flush()
    assert made.counters["late_frames"] == 20
    assert [number_of(t) for t in ticks] == [None] * 20 + list(range(20, seconds * 10))
    assert set(camera.renders.values()) == {1}


def test_track_that_ends_long_before_the_other_makes_no_tick_partial() -> None:
    made, camera = assembler(), Camera()
    ticks = [t for item in (start(), chunk(0, HOP)) for t in made.push(item)]
    seconds = INTERLEAVE_MAX_NS // NS + 2
    for i in range(seconds * 10):
        ticks += made.push(camera.frame(i, i * HOP_NS, HOP_NS))
    ticks += made.flush()
    assert [t.head.audio for t in ticks] == ["ok"] + ["missing"] * (seconds * 10 - 1)
    assert not any(t.head.partial for t in ticks)
    assert made.counters["partial"] == 0


def test_sound_far_behind_is_dropped_and_counted_but_kept_as_context() -> None:
    made, camera = assembler(), Camera()
    ticks = made.push(start())
    for i in range(302):
        ticks += made.push(camera.frame(i, i * HOP_NS, HOP_NS))
    assert [t.head.index for t in ticks] == [0, 1]
    ticks = made.push(chunk(0, 3 * HOP)) + made.flush()
    assert made.counters["late_audio_samples"] == 2 * HOP
    assert np.array_equal(ticks[0].samples, ramp(2 * HOP - CONTEXT, CONTEXT + HOP))


def test_item_on_another_clock_is_dropped_and_counted() -> None:
    made, camera = assembler(), Camera()
    items = [start(), *(chunk(i * HOP, HOP) for i in range(3)), camera.frame(0, 10**18)]
    assert [t.head.video for t in run(items, made)] == ["missing"] * 3
    assert made.counters["ahead_items"] == 1


def test_waiting_frames_hold_pictures_not_decoder_frames() -> None:
    class Heavy:
        def __call__(self) -> Picture:
            return Picture((np.zeros((2, 2), np.uint8),))

    made, alive = assembler(), weakref.WeakSet()
    made.push(start())
    for i in range(290 * 4):
        render = Heavy()
        alive.add(render)
        made.push(VideoFrame(i * 25 * MS, 25 * MS, render))
        del render
    gc.collect()
    assert len(alive) == 1


def test_session_start_flushes_the_old_session_and_starts_anew() -> None:
    made, camera = assembler(), Camera()
    items = [start(), chunk(0, HOP + 5), camera.frame(0, 0)]
    old = [t for item in items for t in made.push(item)]
    old += made.push(start(1, zero_ns=NS, offset_ns=150 * MS))
    assert [(t.head.session, t.head.index, t.head.start_ns) for t in old] == [(0, 0, 0), (0, 1, HOP_NS)]
    new = made.push(chunk(0, HOP, zero_ns=NS)) + made.flush()
    assert [(t.head.session, t.head.index, t.head.start_ns) for t in new] == [(1, 0, 150 * MS)]
    assert new[0].head.video == "missing"
    assert not new[0].samples[:CONTEXT].any()
    assert made.counters["sessions"] == 2


def test_trace_has_the_last_arrival_of_each_track_that_the_tick_uses() -> None:
    camera = Camera()
    items = [start(), camera.frame(0, 0, arrival_ns=5), camera.frame(1, 30 * MS, arrival_ns=7)]
    items += [camera.frame(2, HOP_NS, arrival_ns=9)]
    items += [chunk(0, 1000, arrival_ns=6), chunk(1000, 1000, arrival_ns=8), chunk(2000, 2000, arrival_ns=10)]
    traces = [(t.head.trace.video_arrival_ns, t.head.trace.audio_arrival_ns) for t in run(items)]
    assert traces == [(7, 8), (9, 10), (9, 10)]


def test_reset_is_as_new() -> None:
    made = assembler()
    first = run(film(), made)
    counters = made.counters
    made.reset()
    assert made.counters["ticks"] == 0
    second = run(film(), made)
    assert [t.head for t in first] == [t.head for t in second]
    assert made.counters == counters


def test_push_against_the_contract_is_an_error() -> None:
    made = assembler()
    with pytest.raises(StageError, match=r"first item must be a SessionStart, got AudioChunk \[cam\]"):
        made.push(chunk(0, 10))
    made.push(start(tracks=frozenset({"audio"})))
    with pytest.raises(StageError, match=r"not selected or has ended, got video \[cam session 0\]"):
        made.push(Camera().frame(0, 0))
    made.push(TrackEnd("audio"))
    with pytest.raises(StageError, match="not selected or has ended, got audio"):
        made.push(chunk(0, 10))
    made.flush()
    with pytest.raises(StageError, match=r"no push\(\) after flush\(\)"):
        made.push(start(1))
