"""The resampler against soxr, and its bookkeeping of time against arithmetic."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.media.resample import RESYNC_NS, Resampler
from streamfuse.types import MS, NS, SAMPLE_NS
from tests.clips import audio_frame, tone

F32 = npt.NDArray[np.float32]


def frame(
    samples: npt.NDArray[np.generic], rate: int, layout: str = "mono", form: str = "flt"
) -> av.AudioFrame:
    return audio_frame(np.atleast_2d(samples), form, layout, rate)


def feed(
    made: Resampler, samples: F32, rate: int, *, cuts: list[int], first_ns: int = 0
) -> list[tuple[int, F32]]:
    """Push `samples` cut into pieces of the given lengths, over and over."""
    pieces: list[tuple[int, F32]] = []
    at = turn = 0
    while at < len(samples):
        part = samples[at : at + cuts[turn % len(cuts)]]
        pieces += made.push(frame(part, rate), first_ns + at * NS // rate)
        at, turn = at + len(part), turn + 1
    return pieces + made.flush()


def joined(pieces: list[tuple[int, F32]]) -> F32:
    """All samples, after checking that each piece begins where the last one ended."""
    at = pieces[0][0]
    for pts, samples in pieces:
        assert pts == at
        assert samples.dtype == np.float32
        at += len(samples) * SAMPLE_NS
    return np.concatenate([samples for _, samples in pieces])


@pytest.mark.parametrize(
    "rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000]
)
def test_every_rate_agrees_with_soxr(rate: int) -> None:
    random = np.random.default_rng(1)
    time = np.arange(rate) / rate
    source = sum(0.1 * np.sin(2 * np.pi * hz * time + random.random()) for hz in (60, 440, 1000, 2500, 3300))
    source = source.astype(np.float32)
    ours = joined(feed(Resampler(), source, rate, cuts=[1024]))
    theirs = soxr.resample(source, rate, 16_000, quality="VHQ")
    assert len(ours) == 16_000
    # The first and last 10 ms differ by how each filter imagines what lies outside.
    assert np.abs(ours[160:-160] - theirs[160 : 16_000 - 160]).max() < 2e-4


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_what_lies_above_8_khz_does_not_fold_back(rate: int) -> None:
    ours = joined(feed(Resampler(), tone(1, rate, 9_500, 0.9), rate, cuts=[1024]))
    assert np.abs(ours[200:-200]).max() < 0.9 * 10 ** (-60 / 20)


@settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=6), rate=st.sampled_from([8_000, 44_100, 48_000])
)
def test_any_cut_into_chunks_gives_the_same_samples(cuts: list[int], rate: int) -> None:
    source = np.random.default_rng(2).uniform(-0.9, 0.9, 12_000).astype(np.float32)
    whole = joined(feed(Resampler(), source, rate, cuts=[len(source)]))
    assert np.array_equal(joined(feed(Resampler(), source, rate, cuts=cuts)), whole)
    assert len(whole) == -(-len(source) * 16_000 // rate)


@pytest.mark.parametrize("rate", [44_100, 11_025, 48_000])
def test_no_drift_over_ten_minutes(rate: int) -> None:
    """A click every minute is found where it was put, to the sample."""
    source = np.zeros(600 * rate, np.float32)
    clicks = np.arange(60, 600, 60)
    for second in clicks:
        source[second * rate - 20 : second * rate + 21] = 0.9
    made = joined(feed(Resampler(), source, rate, cuts=[1024 * 32 + 7]))
    assert len(made) == 600 * 16_000
    found = [int(np.abs(made[(s - 30) * 16_000 : (s + 30) * 16_000]).argmax()) for s in clicks]
    loud = made > 0.45
    edges = np.flatnonzero(loud[1:] & ~loud[:-1])
    width = 41 * 16_000 / rate
    assert len(found) == len(edges) == 9
    assert np.abs(edges + width / 2 - clicks * 16_000).max() <= 1.0


CHANNELS = {
    "mono": 1,
    "stereo": 2,
    "2.1": 3,
    "3.0": 3,
    "quad": 4,
    "5.0": 5,
    "5.1": 6,
    "7.1": 8,
    "hexagonal": 6,
}


@pytest.mark.parametrize("layout", CHANNELS)
@pytest.mark.parametrize("form", ["flt", "s16", "s32", "u8", "dbl"])
def test_every_layout_keeps_its_loudness_and_never_clips(layout: str, form: str) -> None:
    both = np.repeat(tone(0.25, 48_000, 440, 0.8)[None], CHANNELS[layout], 0)
    made = Resampler()
    samples = joined(made.push(frame(both, 48_000, layout, form), 0) + made.flush())
    middle = samples[400:-400]
    assert 0.79 <= np.abs(middle).max() <= 0.81


def test_each_ear_weighs_the_same() -> None:
    left = np.stack([tone(0.25, 48_000, 440, 0.8), np.zeros(12_000, np.float32)])
    levels = []
    for both in (left, left[::-1]):
        made = Resampler()
        levels.append(
            np.abs(joined(made.push(frame(both, 48_000, "stereo"), 0) + made.flush())[400:-400]).max()
        )
    assert levels == pytest.approx([0.4, 0.4], abs=0.005)


def test_stamps_that_jitter_are_not_believed() -> None:
    """mkv rounds to a millisecond, RTP jitters by more."""
    random = np.random.default_rng(3)
    made, source = Resampler(), tone(10, 48_000)
    pieces: list[tuple[int, F32]] = []
    for at in range(0, len(source), 1024):
        pieces += made.push(
            frame(source[at : at + 1024], 48_000), at * NS // 48_000 + int(random.integers(-39, 40)) * MS
        )
    samples = joined(pieces + made.flush())
    assert (made.gaps, made.overlaps) == (0, 0)
    assert len(samples) == 160_000


def test_a_gap_is_a_step_in_the_time_of_the_next_piece() -> None:
    made, source = Resampler(), tone(1, 48_000)
    pieces = (
        made.push(frame(source, 48_000), 0) + made.push(frame(source, 48_000), NS + 500 * MS) + made.flush()
    )
    assert made.gaps == 1
    ends = [pts + len(samples) * SAMPLE_NS for pts, samples in pieces]
    assert NS in ends
    assert NS + 500 * MS in [pts for pts, _ in pieces]
    assert sum(len(samples) for _, samples in pieces) == 32_000


def test_sound_that_was_sent_twice_is_given_once() -> None:
    made, source = Resampler(), tone(2, 48_000)
    pieces = made.push(frame(source[:48_000], 48_000), 0)
    pieces += made.push(frame(source[24_000:], 48_000), 500 * MS) + made.flush()
    samples = joined(pieces)
    assert made.overlaps == 1
    expected = joined(feed(Resampler(), source, 48_000, cuts=[4096]))
    assert len(samples) == len(expected)
    assert np.abs(samples - expected)[:15_900].max() < 1e-4
    assert np.abs(samples - expected)[16_100:].max() < 1e-4


@pytest.mark.parametrize(
    ("error", "resyncs"), [(Fraction(1, 1000), 7), (Fraction(-1, 1000), 7), (Fraction(1, 100), 74)]
)
def test_a_sound_card_with_a_wrong_clock_stays_within_80_ms(error: Fraction, resyncs: int) -> None:
    """600 s whose stamps run 0.1 % or 1 % off the count of samples (here in 100 ms frames)."""
    made = Resampler()
    silence = np.zeros(4_800, np.float32)
    worst = 0
    for k in range(6000):
        stamp = int(k * 100 * MS * (1 + error))
        pts, samples = made.push(frame(silence, 48_000), stamp)[-1]
        worst = max(worst, abs(pts + len(samples) * SAMPLE_NS - stamp - 100 * MS))
    assert made.gaps + made.overlaps == resyncs
    assert worst <= RESYNC_NS + 10 * MS
    assert (made.gaps > 0) == (error > 0)


def test_pieces_lie_on_one_grid_of_samples_through_gaps() -> None:
    made, source = Resampler(), tone(0.1, 48_000)
    pieces: list[tuple[int, F32]] = []
    for start in (1_234_567, 300_000_001, 777_777_777):
        pieces += made.push(frame(source, 48_000), start)
    pieces += made.flush()
    assert {(pts - 1_234_567) % SAMPLE_NS for pts, _ in pieces} == {0}


def test_a_change_of_number_format_is_seamless() -> None:
    made, source = Resampler(), tone(1, 48_000)
    pieces = made.push(frame(source[:24_000], 48_000), 0)
    pieces += made.push(frame(source[24_000:], 48_000, form="s16"), 500 * MS) + made.flush()
    samples = joined(pieces)
    assert len(samples) == 16_000
    assert (made.gaps, made.overlaps) == (0, 0)
    expected = joined(feed(Resampler(), source, 48_000, cuts=[4096]))
    assert np.abs(samples - expected)[np.r_[100:7_900, 8_100:15_900]].max() < 1e-3


def test_damaged_samples_become_finite_and_bounded() -> None:
    source = tone(0.2, 48_000)
    source[4000:4100] = np.nan
    source[5000:5100] = np.inf
    source[6000:6100] = 1e30
    made = Resampler()
    samples = joined(made.push(frame(source, 48_000), 0) + made.flush())
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.0


def test_sixteen_kilohertz_mono_passes_unchanged() -> None:
    source = tone(0.5, 16_000)
    assert np.array_equal(joined(feed(Resampler(), source, 16_000, cuts=[441])), source)
