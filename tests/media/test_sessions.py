"""Sessions cut out of two tracks, without PyAV: the frames are numbers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamfuse.media.gate import Span
from streamfuse.media.sessions import Sessions
from streamfuse.media.timeline import Decoded
from streamfuse.types import MS, NS, AudioChunk, MediaItem, Mode, SessionStart, Track, TrackEnd, VideoFrame

V, A = 40, 20  # duration of a video and an audio item, ms


class Video:
    def push(self, item: Decoded, pts_ns: int) -> list[MediaItem]:
        return [VideoFrame(pts_ns, item.dur_ns, lambda: item.frame, item.arrival_ns)]

    def flush(self) -> list[MediaItem]:
        return []


class Audio:
    """Gives out each frame when the next one comes, as a resampler holds some back."""

    def __init__(self) -> None:
        self.held: list[MediaItem] = []

    def push(self, item: Decoded, pts_ns: int) -> list[MediaItem]:
        out, self.held = self.held, [AudioChunk(pts_ns, np.full(item.dur_ns // 62_500, 1, np.float32))]
        return out

    def flush(self) -> list[MediaItem]:
        out, self.held = self.held, []
        return out


def sessions(mode: Mode = "recorded", tracks: str = "va", **more: Any) -> Sessions:
    builders: dict[Track, Any] = {}
    if "v" in tracks:
        builders["video"] = Video()
    if "a" in tracks:
        builders["audio"] = Audio()
    return Sessions(builders, mode=mode, max_gap_ns=2 * NS, **more)


def video(ms: float, parameters: object = (320, 240)) -> Decoded:
    return Decoded("video", round(ms * MS), V * MS, parameters, ms)


def audio(ms: float, parameters: object = (48_000, "stereo")) -> Decoded:
    return Decoded("audio", round(ms * MS), A * MS, parameters, ms)


def both(start: float, end: float, lag: float = 0, **parameters: Any) -> list[Decoded]:
    """Both tracks over [start, end) ms, in the order of a file whose sound lags behind by `lag` ms."""
    items = [
        (k + 0.5, video(k, **{k: v for k, v in parameters.items() if k == "parameters"}))
        for k in np.arange(start, end, V)
    ]
    items += [(k + lag, audio(k)) for k in np.arange(start, end, A)]
    return [item for _, item in sorted(items, key=lambda pair: pair[0])]


def run(made: Sessions, items: list[Decoded]) -> list[MediaItem]:
    out = [media for item in items for media in made.push(item)]
    return out + made.end()


def starts(out: list[MediaItem]) -> list[SessionStart]:
    return [item for item in out if isinstance(item, SessionStart)]


def frames(out: list[MediaItem]) -> list[float]:
    return [item.pts_ns / MS for item in out if isinstance(item, VideoFrame)]


def sound_ms(out: list[MediaItem]) -> float:
    return sum(len(item.samples) for item in out if isinstance(item, AudioChunk)) / 16


def by_session(out: list[MediaItem]) -> list[list[MediaItem]]:
    parts: list[list[MediaItem]] = []
    for item in out:
        if isinstance(item, SessionStart):
            parts.append([])
        parts[-1].append(item)
    return parts


def test_one_session_of_two_tracks_is_complete() -> None:
    out = run(sessions(), both(0, 4000))
    assert starts(out) == [SessionStart(0, 0, 0, frozenset({"video", "audio"}))]
    assert frames(out) == [float(k) for k in range(0, 4000, V)]
    assert sound_ms(out) == 4000
    assert out[-2:] == [TrackEnd("video"), TrackEnd("audio")]


@pytest.mark.parametrize("lag", [-400, 0, 400])
def test_zero_is_the_smallest_pts_of_both_tracks_whichever_comes_first(lag: float) -> None:
    items = [i for i in both(1000, 3000, lag) if not (i.track == "video" and i.pts_ns < 1100 * MS)]
    out = run(sessions(), items)
    assert starts(out)[0].zero_ns == 1000 * MS
    assert sound_ms(out) == 2000


def test_live_zero_is_the_first_item_and_what_lies_before_is_counted() -> None:
    made = sessions("live")
    out = run(made, [video(1000), audio(960), audio(980), audio(1000), video(1040), audio(1020)])
    assert starts(out)[0].zero_ns == 1000 * MS
    assert sound_ms(out) == 40
    assert made.counters["before_start"] == 2


def test_a_late_track_does_not_hold_back_the_other() -> None:
    made = sessions()
    out: list[MediaItem] = []
    for k in range(0, 1200, V):
        out += made.push(video(k))
    assert frames(out)[-1] == 1160
    out += made.push(audio(1160)) + made.push(audio(1180)) + made.end()
    assert sound_ms(out) == 40
    assert len(starts(out)) == 1


@pytest.mark.parametrize("lag", [-300, 0, 300])
@pytest.mark.parametrize("second", [200_000, 0, 15_000])
def test_a_jump_of_both_tracks_loses_nothing(lag: float, second: float) -> None:
    items = both(10_000, 12_000, lag) + both(second, second + 2000, lag)
    # A muxer interleaves across the splice too: the sound of the first part trails into the second.
    items = _interleaved(items, 6 if lag else 0)
    out = run(sessions(), items)
    first, last = by_session(out)
    assert frames(first) == [float(k) for k in range(10_000, 12_000, V)]
    assert frames(last) == [float(k) for k in range(int(second), int(second) + 2000, V)]
    assert (sound_ms(first), sound_ms(last)) == (2000, 2000)
    again = starts(out)[1]
    assert (again.session, again.zero_ns) == (1, second * MS)
    assert again.offset_ns == 2000 * MS
    assert again.reason.startswith("time jumped " + ("back" if second < 10_000 else "forward"))


def _interleaved(items: list[Decoded], far: int) -> list[Decoded]:
    """Shift the sound `far` places later without changing either track's own order."""
    keyed = [(place + (far if item.track == "audio" else 0), place, item) for place, item in enumerate(items)]
    return [item for _, _, item in sorted(keyed, key=lambda k: k[:2])]


@pytest.mark.parametrize("second", [200_000, 0])
@pytest.mark.parametrize("first_to_jump", ["video", "audio"])
def test_live_what_trails_behind_a_jump_is_dropped_and_begins_nothing(
    second: float, first_to_jump: Track
) -> None:
    """A decoder holds a frame back: it comes out after the other track has jumped."""
    one, two = both(10_000, 12_000), both(second, second + 2000)
    held = next(i for i in reversed(one) if i.track != first_to_jump)
    one.remove(held)
    early = [i for i in two if i.track == first_to_jump][:5]
    items = [*one, *early, held, *(i for i in two if i not in early)]
    made = sessions("live")
    out = run(made, items)
    assert len(starts(out)) == 2
    assert made.counters["late"] == 1
    assert "realigned" not in made.counters
    assert starts(out)[1].zero_ns == second * MS


def test_a_hole_within_the_recordings_length_is_part_of_its_time() -> None:
    out = run(sessions(duration_ns=62 * NS), both(0, 2000) + both(60_000, 62_000))
    assert [s.offset_ns for s in starts(out)] == [0, 60 * NS]


def test_a_wild_stamp_is_dropped_and_begins_nothing() -> None:
    made = sessions()
    items = both(0, 2000)
    items.insert(20, video(90_000_000))
    items.insert(40, video(-50_000))
    out = run(made, items)
    assert len(starts(out)) == 1
    assert frames(out) == [float(k) for k in range(0, 2000, V)]
    assert made.counters["disproved"] == 2


def test_a_change_of_size_begins_a_session_where_both_tracks_have_got_to() -> None:
    made = sessions()
    items = both(0, 2000) + both(2000, 4000, parameters=(640, 360))
    first, last = by_session(run(made, items))
    start = last[0]
    assert isinstance(start, SessionStart)
    assert start.reason == "video changed to 640 360"
    assert 2000 <= start.zero_ns / MS <= 2200
    assert start.offset_ns == start.zero_ns
    # All the sound is there once, and no picture of the old size is in the new session.
    assert abs(sound_ms(first) + sound_ms(last) - 4000) <= A
    assert max(frames(first)) == 1960
    assert min(frames(last)) >= start.zero_ns / MS


def test_four_frames_of_a_false_size_change_nothing() -> None:
    made = sessions()
    items = both(0, 4000)
    items = [
        video(i.pts_ns / MS, (96, 64)) if i.track == "video" and 1000 <= i.pts_ns / MS < 1160 else i
        for i in items
    ]
    out = run(made, items)
    assert len(starts(out)) == 1
    assert len(frames(out)) == 96
    assert made.counters["disproved"] == 4


def test_picture_and_sound_that_change_together_make_one_new_session() -> None:
    second = [
        Decoded(i.track, i.pts_ns, i.dur_ns, (640, 360) if i.track == "video" else (16_000, "mono"), None)
        for i in both(0, 2000)
    ]
    for mode in ("recorded", "live"):
        out = run(sessions(mode), both(0, 2000) + second)  # type: ignore[arg-type]
        assert len(starts(out)) == 2, mode


def test_tracks_on_clocks_of_their_own_are_put_side_by_side() -> None:
    hours_50 = 180_678_000
    items = [i if i.track == "video" else audio(i.pts_ns / MS + hours_50) for i in both(0, 4000)]
    made = sessions("live")
    out = run(made, items)
    assert len(starts(out)) == 1
    assert made.counters["realigned"] == 1
    stamps = [i.pts_ns - starts(out)[0].zero_ns for i in out if isinstance(i, AudioChunk | VideoFrame)]
    assert min(stamps) >= 0
    assert max(stamps) < 4100 * MS


def test_known_starts_hours_apart_are_realigned_before_the_first_item() -> None:
    hours_50 = 180_678_000
    items = [i if i.track == "video" else audio(i.pts_ns / MS + hours_50) for i in both(0, 4000, -100)]
    out = run(sessions(starts={"video": 0, "audio": hours_50 * MS}), items)
    assert starts(out) == [SessionStart(0, 0, 0, frozenset({"video", "audio"}))]
    assert sound_ms(out) == 4000


def test_a_track_whose_clock_jumps_alone_is_taken_back_after_a_while() -> None:
    items: list[Decoded] = both(0, 2000)
    for item in both(2000, 30_000):
        items.append(item if item.track == "audio" else video(item.pts_ns / MS + 500_000))
    made = sessions()
    out = run(made, items)
    assert len(starts(out)) == 2
    assert made.counters["realigned"] == 1
    last = by_session(out)[1]
    assert sound_ms(last) > 15_000


def test_a_track_is_taken_back_when_the_other_went_back() -> None:
    items: list[Decoded] = both(600_000, 602_000)
    for item in both(602_000, 630_000):
        items.append(item if item.track == "audio" else video(item.pts_ns / MS - 500_000))
    made = sessions("live")
    out = run(made, items)
    assert len(starts(out)) == 2
    assert made.counters["realigned"] == 1
    assert sound_ms(by_session(out)[1]) > 15_000


def test_a_span_is_cut_to_the_sample() -> None:
    made = sessions(span=Span(0, 1_010 * MS, 2_030 * MS))
    out = run(made, both(0, 4000))
    assert starts(out)[0] == SessionStart(0, 1010 * MS, 1010 * MS, frozenset({"video", "audio"}))
    assert frames(out) == [float(k) for k in range(1040, 2030, V)]
    assert sound_ms(out) == 1020
    assert made.done


def test_sessions_number_from_the_first() -> None:
    out = run(sessions("live", first_session=7), both(0, 1000) + both(50_000, 51_000))
    assert [s.session for s in starts(out)] == [7, 8]


def test_position_never_falls_back() -> None:
    made = sessions("live")
    at = -1
    for item in both(5000, 7000) + both(0, 2000) + both(90_000, 91_000):
        made.push(item)
        assert made.position_ns >= at
        at = made.position_ns
    assert at == 5 * NS


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), mode=st.sampled_from(["recorded", "live"]))
def test_any_mangled_input_keeps_the_rules(seed: int, mode: Mode) -> None:
    """Drops, repetitions, wild stamps, jumps, size changes and swapped neighbours, in any order."""
    dice = random.Random(seed)
    items: list[Decoded] = []
    at = 0.0
    for _ in range(dice.randint(1, 5)):
        size = dice.choice([(320, 240), (640, 360)])
        items += both(at, at + dice.randint(1, 40) * 100, dice.choice([-300, 0, 300]), parameters=size)
        at += dice.choice([4000, -3000, 90_000, 4000.5])
    for _ in range(dice.randint(0, 8)):
        place = dice.randrange(len(items))
        action = dice.random()
        if action < 0.3:
            del items[place : place + dice.randint(1, 20)]
        elif action < 0.6:
            items.insert(place, items[dice.randrange(len(items))] if items else video(0))
        else:
            items.insert(place, video(dice.uniform(-1e6, 1e6), dice.choice([(320, 240), (96, 64)])))
        items = items or [video(0)]
    check_rules(run(sessions(mode), items))


def check_rules(out: list[MediaItem]) -> None:
    """What every stage after this relies on."""
    last: dict[str, int] = {}
    session, offset, reached = -1, 0, 0
    ended: set[str] = set()
    zero = 0
    for item in out:
        if isinstance(item, SessionStart):
            assert item.session == session + 1
            assert item.offset_ns >= offset
            assert item.offset_ns >= reached - NS  # a label's last tick may overlap, a session may not
            session, offset, zero = item.session, item.offset_ns, item.zero_ns
            last = {}
        elif isinstance(item, VideoFrame):
            assert session >= 0
            assert item.pts_ns >= zero
            assert item.pts_ns > last.get("video", -1 << 62)
            last["video"] = item.pts_ns
        elif isinstance(item, AudioChunk):
            assert session >= 0
            assert item.pts_ns >= zero
            assert len(item.samples)
            last["audio"] = item.pts_ns
        else:
            assert item.track not in ended
            ended.add(item.track)
    if session >= 0:
        assert ended == {"video", "audio"}


class Machine(RuleBasedStateMachine):
    """Frames, gaps, jumps, changes and reconnects in any order; time and session numbers only grow."""

    def __init__(self) -> None:
        super().__init__()
        self.made = sessions("live", first_session=3)
        self.at = 0
        self.size = (320, 240)
        self.out: list[MediaItem] = []
        self.position = 0

    @rule(count=st.integers(1, 8))
    def play(self, count: int) -> None:
        for _ in range(count):
            for item in (video(self.at, self.size), audio(self.at), audio(self.at + A)):
                self.out += self.made.push(item)
            self.at += V

    @rule(step=st.sampled_from([-90_000, -500, 300, 1900, 5000, 10**8]))
    def jump(self, step: int) -> None:
        self.at += step

    @rule()
    def resize(self) -> None:
        self.size = (640, 360) if self.size[0] == 320 else (320, 240)

    @rule(count=st.integers(1, 60))
    def sound_only(self, count: int) -> None:
        for _ in range(count):
            self.out += self.made.push(audio(self.at))
            self.at += A

    @invariant()
    def time_grows(self) -> None:
        assert self.made.position_ns >= self.position
        self.position = self.made.position_ns

    def teardown(self) -> None:
        out = self.out + self.made.end()
        numbers = [s.session for s in starts(out)]
        assert numbers == list(range(3, 3 + len(numbers)))
        offsets = [s.offset_ns for s in starts(out)]
        assert offsets == sorted(offsets)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=30, stateful_step_count=30)
