from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.media.soundtrack import Soundtrack
from streamfuse.media.source import parse_source
from streamfuse.types import NS, SessionStart
from tests.clips import Clip, tone

START = SessionStart(0, 0, 0, frozenset(("video", "audio")))


def read(
    clip: Path, *, steps: int = 20, to_ns: int = 2 * NS, session: SessionStart = START, from_ns: int = 0
) -> tuple[npt.NDArray[np.float32], Soundtrack]:
    track = Soundtrack(parse_source(str(clip)), DecodeConfig(), from_ns=from_ns)
    track.add_session(session)
    blocks = [block for step in range(1, steps + 1) for block in track.until(to_ns * step // steps)]
    blocks += track.rest()
    track.close()
    return np.concatenate(blocks, 1), track


@pytest.mark.parametrize("steps", [1, 7, 200])
def test_soundtrack_of_any_steps_is_every_sample_once(tmp_path: Path, steps: int) -> None:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 96_000).astype(np.float32)
    clip = Clip(video=None, audio="pcm_s16le", sample_format="s16", samples=samples).write(tmp_path / "a.wav")
    got, track = read(clip, steps=steps)
    assert (track.rate, track.layout) == (48_000, "stereo")
    np.testing.assert_allclose(got, np.stack([samples, samples]), atol=1 / 32767)


def test_soundtrack_late_track_begins_with_silence(tmp_path: Path) -> None:
    clip = Clip(2.0, audio_start=0.5, audio_seconds=1.0).write(tmp_path / "clip.mkv")
    got, track = read(clip)
    loud = np.flatnonzero(np.abs(got[0]) > 0.1)
    assert loud[0] / track.rate == pytest.approx(0.5, abs=0.03)
    assert got.shape[1] / track.rate == pytest.approx(1.5, abs=0.05)


def test_soundtrack_of_a_part_begins_there(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 96_000, dtype=np.float32)
    clip = Clip(video=None, audio="pcm_s16le", sample_format="s16", samples=ramp).write(tmp_path / "a.wav")
    got, _ = read(clip, from_ns=NS // 2)
    np.testing.assert_allclose(got[0], ramp[24_000:], atol=1e-3)


def test_soundtrack_tempo_of_its_clock_is_kept_by_silence_not_by_drift(tmp_path: Path) -> None:
    # Time stamps 5 % slower than the samples: within 30 ms of them, always.
    clip = Clip(2.0, audio_clock=1.05).write(tmp_path / "clip.mkv")
    got, track = read(clip, to_ns=3 * NS)
    assert got.shape[1] / track.rate == pytest.approx(2.1, abs=0.06)


def test_soundtrack_rates_that_aac_does_not_know_are_raised_to_one(tmp_path: Path) -> None:
    clip = Clip(video=None, audio="pcm_s16le", sample_format="s16", rate=37_800, samples=tone(2.0, 37_800))
    got, track = read(clip.write(tmp_path / "a.wav"))
    assert track.rate == 44_100
    assert got.shape[1] / track.rate == pytest.approx(2.0, abs=0.01)


def test_soundtrack_waits_for_a_session_it_does_not_know(tmp_path: Path) -> None:
    clip = Clip(2.0, start_ticks=90_000 * 50).write(tmp_path / "clip.mkv")
    track = Soundtrack(parse_source(str(clip)), DecodeConfig())
    track.add_session(START)
    assert list(track.until(NS)) == []
    track.add_session(SessionStart(1, 50 * NS, 0, START.tracks))
    samples = np.concatenate(list(track.until(NS)), 1)
    assert samples.shape[1] / track.rate == pytest.approx(1.0, abs=0.03)
    assert np.abs(samples[0, 4800:]).max() > 0.4
    track.close()
