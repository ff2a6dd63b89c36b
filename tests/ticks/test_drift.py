"""Two clocks that run apart by a known amount, seen through a network that delays as it likes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streamfuse.ticks.drift import Drift
from streamfuse.types import MS, NS, SAMPLE_RATE, AudioChunk, MediaItem, SessionStart, VideoFrame

T0 = 5_000 * NS
START = SessionStart(0, 0, 0, frozenset({"video", "audio"}))


def broadcast(seconds: int, *, video_ppm: float, audio_ppm: float, seed: int = 1) -> list[MediaItem]:
    """Ten pictures and ten pieces of sound a second of two clocks that are so much too fast, as they arrive.

    Each is delayed by 20 to 60 ms, one in fifty by up to a second; the sound by 300 ms more, always.
    """
    chance = random.Random(seed)

    def late_ns() -> int:
        return chance.randrange(NS) if chance.random() < 0.02 else chance.randrange(20 * MS, 60 * MS)

    items: list[MediaItem] = []
    for index in range(seconds * 10):
        true_ns = index * 100 * MS
        video_ns, end_ns = (round(true_ns * (1 + ppm / 1e6)) for ppm in (video_ppm, audio_ppm))
        items.append(VideoFrame(video_ns, 0, lambda: None, T0 + true_ns + late_ns()))  # type: ignore[arg-type, return-value]
        samples = np.zeros(SAMPLE_RATE // 10, np.float32)
        sound_at_ns = T0 + true_ns + 300 * MS + late_ns()
        items.append(AudioChunk(end_ns - 100 * MS, samples, sound_at_ns))
    return items


def measured(items: list[MediaItem]) -> float | None:
    drift = Drift()
    for item in [START, *items]:
        drift.push(item)
    return None if drift.ppb is None else drift.ppb / 1000


@pytest.mark.parametrize(("video_ppm", "audio_ppm"), [(0, 0), (100, 0), (0, 100), (-40, 60), (250, 250)])
@pytest.mark.parametrize("seed", range(3))
def test_drift_is_that_of_the_two_clocks(video_ppm: float, audio_ppm: float, seed: int) -> None:
    ppm = measured(broadcast(1200, video_ppm=video_ppm, audio_ppm=audio_ppm, seed=seed))
    assert ppm == pytest.approx(video_ppm - audio_ppm, abs=5)


def test_drift_of_a_minute_is_known_roughly_and_before_not_at_all() -> None:
    assert measured(broadcast(60, video_ppm=1000, audio_ppm=0)) is None
    assert measured(broadcast(90, video_ppm=1000, audio_ppm=0)) == pytest.approx(1000, abs=150)


def test_drift_needs_both_tracks() -> None:
    items = broadcast(120, video_ppm=0, audio_ppm=0)
    assert measured([item for item in items if isinstance(item, VideoFrame)]) is None


def test_drift_begins_anew_with_a_session() -> None:
    drift = Drift()
    for item in [START, *broadcast(120, video_ppm=500, audio_ppm=0)]:
        drift.push(item)
    assert drift.ppb is not None
    drift.push(START)
    assert drift.ppb is None
