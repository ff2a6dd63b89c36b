from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamfuse.config import TickConfig
from streamfuse.ticks.assemble import Assembler
from streamfuse.trace import last_arrival_ns, latency, latency_parts, stamped, sync_wait_ns, track_parts
from streamfuse.types import MS, Stamp, TickHead, Trace
from tests.ticks.media import CONTEXT, HOP, HOP_NS, Camera, chunk, start

TIMES = st.integers(1, 10**18)
NAMES = st.sampled_from(["decode_video", "decode_audio", "decode", "sync", "analyze", "publish"])
ANY_STAMPS = st.lists(st.builds(Stamp, NAMES, TIMES, TIMES, TIMES), max_size=6).map(tuple)
ARRIVALS = st.just(0) | TIMES


def head_with(trace: Trace, skew_ns: int = 0) -> TickHead:
    return TickHead("cam", 0, 7, 0, HOP_NS, "ok", "ok", skew_ns=skew_ns, trace=trace)


@given(ARRIVALS, ARRIVALS, ANY_STAMPS, TIMES)
def test_parts_sum_exactly_to_the_edge_age_whatever_the_stamps_say(
    video: int, audio: int, stamps: tuple, publish_ns: int
) -> None:
    trace = Trace(video, audio, stamps)
    parts = latency_parts(trace, publish_ns)
    arrival = max(video, audio)
    if arrival:
        assert (
            sum(parts.values()) == publish_ns - arrival == latency(head_with(trace), publish_ns)["edge_age"]
        )
    if 0 < arrival <= publish_ns:
        assert min(parts.values()) >= 0
    assert set(parts) == {"publish.transit"} | {
        f"{s.stage}.{part}"
        for s in stamps
        for part in ("transit", "queue_wait", "compute")
        if s.stage not in ("decode_video", "decode_audio")
    }


@given(ARRIVALS, ARRIVALS, ANY_STAMPS, TIMES, st.sampled_from(["video", "audio"]))
def test_parts_of_a_track_sum_exactly_to_its_age_whatever_the_stamps_say(
    video: int, audio: int, stamps: tuple, publish_ns: int, track: str
) -> None:
    trace, arrival = Trace(video, audio, stamps), {"video": video, "audio": audio}[track]
    parts = track_parts(trace, track, publish_ns)
    assert sum(parts.values()) == (publish_ns - arrival if arrival else 0)
    if 0 < arrival <= publish_ns:
        assert min(parts.values()) >= 0
        assert latency(head_with(trace), publish_ns)[f"{track}_age"] == sum(parts.values())


@st.composite
def journeys(draw: st.DrawFn) -> tuple[Trace, int, list[int]]:
    """A way through stages that follow one another, and how long each piece of it took."""
    arrival, first = draw(TIMES), draw(ARRIVALS)
    took = draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=13).filter(lambda t: len(t) % 3 == 1))
    at, times = arrival, []
    for duration in took:
        at += duration
        times.append(at)
    stages = [f"stage{i}" for i in range(len(took) // 3)]
    stamps = tuple(Stamp(name, *times[3 * i : 3 * i + 3]) for i, name in enumerate(stages))
    return Trace(arrival, min(first, arrival), stamps), at, took


@given(journeys())
def test_parts_of_an_orderly_way_are_what_each_piece_took(made: tuple) -> None:
    trace, publish_ns, took = made
    parts = latency_parts(trace, publish_ns)
    assert list(parts.values()) == took
    for stamp in trace.stamps:
        assert parts[f"{stamp.stage}.queue_wait"] == stamp.start_ns - stamp.enqueue_ns
        assert parts[f"{stamp.stage}.compute"] == stamp.end_ns - stamp.start_ns
    for before, after in pairwise(trace.stamps):
        assert parts[f"{after.stage}.transit"] == after.enqueue_ns - before.end_ns


def test_what_came_before_the_last_sample_counts_nothing() -> None:
    trace = Trace(1000, 400, (Stamp("decode", 300, 500, 1200), Stamp("analyze", 1250, 1300, 1900)))
    assert latency_parts(trace, 2000) == {
        "decode.transit": 0,
        "decode.queue_wait": 0,
        "decode.compute": 200,
        "analyze.transit": 50,
        "analyze.queue_wait": 50,
        "analyze.compute": 600,
        "publish.transit": 100,
    }


def test_stage_that_stamps_twice_has_its_parts_added() -> None:
    trace = Trace(10, 0, (Stamp("a", 11, 13, 16), Stamp("a", 20, 25, 31)))
    assert latency_parts(trace, 40) == {
        "a.transit": 5,
        "a.queue_wait": 7,
        "a.compute": 9,
        "publish.transit": 9,
    }


def test_label_without_a_sample_is_as_old_as_its_first_stamp() -> None:
    assert last_arrival_ns(Trace()) == 0
    assert latency_parts(Trace(), 50) == {"publish.transit": 0}
    assert sum(latency_parts(Trace(stamps=(Stamp("a", 10, 20, 30),)), 50).values()) == 40


def test_latency_tells_both_ages_skew_and_wait() -> None:
    trace = Trace(1000, 4000, (Stamp("sync", 2000, 5000, 5000),))
    told = latency(head_with(trace, skew_ns=-7), 9000, window_ns=600)
    assert {name: value for name, value in told.items() if "." not in name} == {
        "edge_age": 5000,
        "centre_age": 5300,
        "video_age": 8000,
        "audio_age": 5000,
        "av_skew": -7,
        "sync_wait": 3000,
    }
    assert sum(value for name, value in told.items() if "." in name) == told["edge_age"]
    assert latency(head_with(trace)) == latency(head_with(trace), 5000)
    assert latency(head_with(Trace(1, 2))) == {}
    assert "video_age" not in latency(head_with(Trace(0, 5)), 9)
    assert latency(head_with(Trace(0, 5)), 9)["centre_age"] == 4 + HOP_NS // 2


def test_stamped_adds_at_the_end_and_changes_nothing_else() -> None:
    head = head_with(Trace(1, 2, (Stamp("a", 1, 2, 3),)))
    more = stamped(head, "b", 4, 5, 6)
    assert [s.stage for s in more.trace.stamps] == ["a", "b"]
    assert head.trace.stamps == more.trace.stamps[:1]
    assert (more.index, more.trace.video_arrival_ns, more.trace.audio_arrival_ns) == (7, 1, 2)


def _live() -> Assembler:
    made = Assembler("cam", TickConfig(), mode="live", hop_ns=HOP_NS, context_samples=CONTEXT)
    made.push(start(), 0)
    return made


def test_assembler_stamps_the_decoding_of_the_last_item_and_the_wait_of_the_first() -> None:
    made, camera = _live(), Camera()
    made.push(camera.frame(0, 0, HOP_NS, arrival_ns=1000 * MS), 1005 * MS)
    (tick,) = made.push(chunk(0, HOP, arrival_ns=1020 * MS), 1021 * MS)
    trace = tick.head.trace
    assert trace == Trace(
        1000 * MS,
        1020 * MS,
        (
            Stamp("decode_video", 1000 * MS, 1000 * MS, 1005 * MS),
            Stamp("decode_audio", 1020 * MS, 1020 * MS, 1021 * MS),
            Stamp("decode", 1020 * MS, 1020 * MS, 1021 * MS),
            Stamp("sync", 1005 * MS, 1021 * MS, 1021 * MS),
        ),
    )
    assert sync_wait_ns(trace) == 16 * MS
    assert latency_parts(trace, 1030 * MS)["decode.compute"] == MS
    assert latency_parts(trace, 1030 * MS)["sync.queue_wait"] == 0
    assert track_parts(trace, "video", 1030 * MS) == {
        "decode.transit": 0,
        "decode.queue_wait": 0,
        "decode.compute": 5 * MS,
        "sync.transit": 0,
        "sync.queue_wait": 16 * MS,
        "sync.compute": 0,
        "publish.transit": 9 * MS,
    }
    assert track_parts(trace, "audio", 1030 * MS)["decode.compute"] == MS


def test_partial_tick_has_its_wait_on_the_critical_path() -> None:
    made = _live()
    made.push(chunk(0, HOP, arrival_ns=1000 * MS), 1001 * MS)
    (tick,) = made.poll(made.deadline_ns)
    parts = latency_parts(tick.head.trace, 1200 * MS)
    assert (parts["decode.compute"], parts["sync.queue_wait"]) == (MS, 150 * MS)
    assert sync_wait_ns(tick.head.trace) == 150 * MS


def test_recorded_ticks_carry_no_stamps() -> None:
    made = Assembler("cam", TickConfig(), mode="recorded", hop_ns=HOP_NS, context_samples=CONTEXT)
    made.push(start())
    made.push(chunk(0, HOP, arrival_ns=5))
    assert [t.head.trace for t in made.flush()] == [Trace(0, 5)]
