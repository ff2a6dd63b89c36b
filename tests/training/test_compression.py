"""Compression noise is that of a JPEG encoder, and a still does not stand still while it is learned."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from streamfuse.training import augment, motion
from streamfuse.training.compression import compressed
from tests.training.tree import stripes

RNG = np.random.default_rng(4)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("quality", [15, 50, 85])
@pytest.mark.parametrize("side", [64, 45])
def test_it_is_what_a_jpeg_of_that_quality_makes_of_it(side: int, quality: int) -> None:
    picture = stripes((0.7, 0.4), RNG, side)
    ours = compressed(torch.from_numpy(picture)[None, None] / 255.0, quality)[0, 0].numpy() * 255.0
    theirs = jpeg(picture, quality).astype(np.float32)
    lost = np.abs(theirs - picture).mean()
    assert lost > 1.0 and np.abs(ours - picture).mean() == pytest.approx(lost, rel=0.1)
    # libjpeg rounds to whole levels, and its integer transform now and then a coefficient to the next step.
    whole = side // 8 * 8
    assert np.abs(ours - theirs)[:whole, :whole].mean() < 0.15 * lost + 0.3


def test_each_plane_of_a_batch_is_compressed_by_itself() -> None:
    pictures = torch.rand(2, 3, 20, 30)
    one = compressed(pictures, 40)
    assert one.shape == pictures.shape and one.min() >= 0.0 and one.max() <= 1.0
    torch.testing.assert_close(one[1, 2], compressed(pictures[1, 2][None], 40)[0])


def test_training_clips_are_compressed_as_often_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = torch.rand(3, 1, 16, 16)
    rng = np.random.default_rng(0)
    changed = [not torch.equal(motion.encoded(pictures, rng), pictures) for _ in range(200)]
    assert 0.35 < np.mean(changed) < 0.65
    asked: list[int] = []
    monkeypatch.setattr(motion, "COMPRESSED_SHARE", 1.0)
    monkeypatch.setattr(motion, "compressed", lambda x, quality: (asked.append(quality), x)[1])
    augment.camera(pictures, 12, rng)
    assert len(asked) == 1, "one quality for all ticks of a stream"


def still(channels: int = 1) -> torch.Tensor:
    picture = torch.from_numpy(stripes((0.7, 0.4), RNG, 40)).float() / 255.0
    return picture.expand(6, channels, 40, 40)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_still_is_filmed_by_a_camera_that_moves(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    monkeypatch.setattr(motion, "COMPRESSED_SHARE", 0.0)
    moved = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(torch, "randn", lambda shape, **_: torch.zeros(shape))  # no noise of the sensor
        seen = augment.camera(still(channels), 32, rng)
        assert seen.shape == (6, channels, 32, 32)
        moved.append(float((seen[-1] - seen[0]).abs().mean()))
    assert np.median(moved) > 0.02 and min(moved) > 1e-3


def test_a_camera_that_moves_by_itself_is_not_moved_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "camera_path", lambda *_: pytest.fail("a clip has its own motion"))
    clip = still().clone()
    clip[3] = 0.5
    augment.camera(clip, 32, np.random.default_rng(1))
