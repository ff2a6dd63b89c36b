"""The face view on real clips: the share of ticks with a face, and how steady the crop is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.faces.view import FaceView
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import VideoFrame
from tests.faces.drawing import head

SIDE = 288
"""What the default model asks for: three times its size."""
MOST_TICKS = 100


def watch(path: Path) -> tuple[list[bool], np.ndarray]:
    """Whether there is a face in each tick, and (n, 3) middle and side of the crop where there is."""
    view, there, crops = FaceView(), [], []
    with open_decoder(
        parse_source(str(path)),
        decode=DecodeConfig(audio=False),
        ticks=TickConfig(),
        mode="recorded",
        picture_side=SIDE,
    ) as decoder:
        newest = -1
        for item in decoder:
            if len(there) == MOST_TICKS:
                break
            if not isinstance(item, VideoFrame) or item.pts_ns // 100_000_000 == newest:
                continue
            newest = item.pts_ns // 100_000_000
            there.append(view.see(head(newest), item.render()) is not None)
            if there[-1]:
                crops.append([one.value for one in view.state.steady or ()])
    return there, np.array(crops)


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    ("clip", "least"),
    [
        ("obama_speech.mp4", 0.98),
        ("franck.mp4", 0.98),
        ("carphone_pristine.mp4", 0.98),
        ("movie.avi", 0.98),
        ("movie-hello.mp4", 0.9),  # a face of 25 pixels
    ],
)
def test_clip_with_a_face_has_it_in_nearly_every_tick_and_steadily(
    shared: Path, clip: str, least: float
) -> None:
    there, crops = watch(shared / "media" / clip)

    assert np.mean(there) >= least
    # Jitter is what is left of the movement when its even part is taken away.
    jitter = np.abs(np.diff(crops, 2, axis=0)).mean(0) / np.median(crops[:, 2])
    assert (jitter < 0.02).all(), f"shares of a face: {jitter}"


@pytest.mark.needs_shared
@pytest.mark.parametrize("clip", ["cityCC0.mpg", "diver.mov", "motion.mov", "oa4_launch.webm"])
def test_clip_without_a_face_has_none(shared: Path, clip: str) -> None:
    there, _ = watch(shared / "media" / clip)
    assert len(there) >= 40
    assert not any(there)


@pytest.mark.needs_shared
def test_clip_whose_face_goes_away_has_one_and_then_none(shared: Path) -> None:
    there, _ = watch(shared / "media" / "face_noface.mov")
    last = len(there) - there[::-1].index(True)
    assert all(there[:last])
    assert 15 <= last <= 35
