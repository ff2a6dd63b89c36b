"""Wraps undone and jumps told from reordering, as properties of plain numbers."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from streamfuse.media.timeline import Decoded, Line, Unwrapper, Verdict, ticks_to_ns
from streamfuse.types import MS, NS

WRAP = 1 << 33
GAP = 2000 * MS


def test_ticks_to_ns_is_exact() -> None:
    assert ticks_to_ns(WRAP, Fraction(1, 90_000)) == 95_443_717_688_888
    assert ticks_to_ns(90_000 * 3600 * 24 * 365, Fraction(1, 90_000)) == 3600 * 24 * 365 * NS
    assert ticks_to_ns(-1, Fraction(1, 90_000)) == -11_112  # rounded down, as for positive ones


@given(
    start=st.integers(0, WRAP - 1),
    steps=st.lists(st.integers(1, 90_000 * 3600 * 12), min_size=1, max_size=50),
)
def test_unwrapping_any_number_of_wraps_gives_back_the_true_time(start: int, steps: list[int]) -> None:
    true = [start]
    for step in steps:
        true.append(true[-1] + step)
    unwrap = Unwrapper(33)
    assert [unwrap(t % WRAP) for t in true] == true


@given(
    start=st.integers(WRAP - 20 * 3600, WRAP - 1),
    order=st.lists(st.integers(0, 7), min_size=20, max_size=80),
    late=st.integers(-90_000, 90_000),
)
def test_unwrapping_b_frames_and_a_second_track_around_the_wrap(
    start: int, order: list[int], late: int
) -> None:
    """Frames come out of order by up to 7 places, and the sound's stamps lie up to a second off."""
    unwrap = Unwrapper(33)
    for place, behind in enumerate(order):
        video = start + (place - behind) * 3600
        assert unwrap(video % WRAP) == video
        assert unwrap((video + late) % WRAP) == video + late


def test_unwrapping_three_wraps_with_frames_of_an_hour() -> None:
    hour = 90_000 * 3600
    unwrap = Unwrapper(33)
    seen = [unwrap(k * hour % WRAP) for k in range(100)]
    assert seen == [k * hour for k in range(100)]
    assert seen[-1] > 3 * WRAP


def test_unwrapping_where_pts_has_wrapped_and_ffmpeg_already_added_the_wrap() -> None:
    """Around a wrap FFmpeg itself lifts single pts over 2**33 (compute_pkt_fields)."""
    unwrap = Unwrapper(33)
    assert unwrap(WRAP - 100) == WRAP - 100
    assert unwrap(WRAP + 50) == WRAP + 50
    assert unwrap(150) == WRAP + 150


def test_unwrapping_a_clock_that_starts_again_is_a_step_back_not_a_wrap() -> None:
    unwrap = Unwrapper(33)
    hours_10 = 90_000 * 3600 * 10
    assert unwrap(hours_10) == hours_10
    assert unwrap(0) == 0


def test_unwrapper_without_bits_leaves_stamps_alone() -> None:
    unwrap = Unwrapper(None)
    assert [unwrap(t) for t in (5, WRAP, -3)] == [5, WRAP, -3]


def item(pts_ms: float, dur_ms: float = 40, parameters: object = "a", track: str = "video") -> Decoded:
    return Decoded(track, round(pts_ms * MS), round(dur_ms * MS), parameters, None)  # type: ignore[arg-type]


def line_at(pts_ms: float) -> Line:
    line = Line("video", joined=True, parameters="a")
    line.advance(round(pts_ms * MS), 40 * MS)
    return line


def judge(line: Line, pts_ms: float, reached_ms: float | None = None, parameters: object = "a") -> Verdict:
    reached = line.end_ns if reached_ms is None else round(reached_ms * MS)
    return line.judge(item(pts_ms, parameters=parameters), reached, GAP)


def test_judge_steps_around_each_limit() -> None:
    line = line_at(10_000)
    assert judge(line, 10_040) is Verdict.ON
    assert judge(line, 10_040 + 2000) is Verdict.ON
    assert judge(line, 10_040 + 2001) is Verdict.JUMP
    assert judge(line, 10_000) is Verdict.LATE
    assert judge(line, 9_001) is Verdict.LATE
    assert judge(line, 9_000) is Verdict.JUMP
    assert judge(line, 10_040, parameters="b") is Verdict.CHANGE


def test_a_hole_in_one_track_is_no_jump_while_the_other_goes_on() -> None:
    assert judge(line_at(10_000), 60_000, reached_ms=59_000) is Verdict.ON


def test_overlapping_sound_is_left_to_the_resampler() -> None:
    line = Line("audio", joined=True, parameters="a")
    line.advance(10 * NS, 20 * MS)
    assert line.judge(item(9_900, track="audio"), line.end_ns, GAP) is Verdict.ON


def test_suspects_must_agree_with_each_other() -> None:
    line = line_at(0)
    assert line.suspect(item(90_000), Verdict.JUMP, GAP) == (0, False)
    assert line.suspect(item(50_000), Verdict.JUMP, GAP) == (1, False)
    assert line.suspect(item(50_040), Verdict.JUMP, GAP) == (0, True)


def test_a_new_size_needs_five_frames_alike() -> None:
    line = line_at(0)
    verdicts = [line.suspect(item(40 * k, parameters="b"), Verdict.CHANGE, GAP) for k in range(1, 6)]
    assert [confirmed for _, confirmed in verdicts] == [False, False, False, False, True]
