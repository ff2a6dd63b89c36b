"""Losses, pairs and mixing: what is asked, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamfuse.kernels.mfcc import mfcc
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.training.cache import cache_pictures, cache_sound
from streamfuse.training.datasets.meaning import EMOTIONS, PLACES, SOUNDS
from streamfuse.training.datasets.recordings import Division, read_recordings
from streamfuse.training.features import log_mel, mfcc_from_log_mel
from streamfuse.training.losses import masked_cross_entropy, masked_sigmoid
from streamfuse.training.motion import Camera
from streamfuse.training.pairs import OVERLOOKED, Heard, Pairs, Seen
from streamfuse.training.sound import SoundMixer
from tests.training.tree import tone, write_tree

SPEC = MfccSpec()


def test_masked_cross_entropy_is_torchs_over_the_rows_that_were_asked() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([0, -1, 3, -1, 2, 1])
    asked = target >= 0
    wanted = F.cross_entropy(logits[asked], target[asked], label_smoothing=0.1)
    torch.testing.assert_close(masked_cross_entropy(logits, target, None, 0.1), wanted)


def test_masked_losses_ignore_nan_of_rows_not_asked_and_are_zero_for_none() -> None:
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]], requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([1, -1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad[0]).all()
    assert masked_cross_entropy(logits, torch.tensor([-1, -1])).item() == 0.0
    sounds = masked_sigmoid(logits, torch.zeros(2, 2), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(sounds, F.binary_cross_entropy_with_logits(logits[:1], torch.zeros(1, 2)))


def test_masked_cross_entropy_weights_count() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    target = torch.tensor([0, 0])
    sure = masked_cross_entropy(logits, target, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(sure, F.cross_entropy(logits[:1], target[:1]))


@pytest.mark.parametrize("seconds", [0.01, 0.5])
def test_log_mel_then_dct_is_the_kernels_mfcc(seconds: float) -> None:
    samples = tone(700.0, seconds, np.random.default_rng(3)).astype(np.float32)
    ours = mfcc_from_log_mel(torch.from_numpy(log_mel(samples, SPEC)), SPEC).numpy()
    # Both are float32 over 512-point spectra; the kernels' own gate against float64 is as wide.
    np.testing.assert_allclose(ours, mfcc(samples, SPEC), atol=1e-3)


def pairs() -> Pairs:
    """Features that say where they come from: the picture's index, and 1000 + the sound's."""
    places, emotions = len(PLACES), len(EMOTIONS)
    index = torch.arange(places + emotions - 1, dtype=torch.float32)[:, None]
    there = torch.ones(len(index), dtype=torch.bool)
    faced = torch.arange(len(index)) >= places
    seen = Seen(
        (index, 500 + index),
        (there, faced),
        torch.tensor([*range(places), *[-1] * (emotions - 1)]),
        torch.tensor([*[0] * places, *range(1, emotions)]),
    )
    heard = Heard(
        1000 + torch.arange(places + emotions, dtype=torch.float32)[:, None],
        torch.tensor([*range(places), *[-1] * emotions]),
        torch.tensor([*[0] * (places + 1), *range(1, emotions)]),
        torch.zeros(places + emotions, len(SOUNDS)),
        torch.ones(places + emotions),
    )
    return Pairs(seen, heard, seed=0)


def test_pairs_targets_are_those_of_what_is_there() -> None:
    made = pairs()
    batch = made.batch(2000)
    for n in range(2000):
        picture, sound = int(batch.features[0][n, 0]), int(batch.features[2][n, 0]) - 1000
        sees, faces, hears = (bool(one) for one in batch.present[n])
        assert sees or hears
        assert int(batch.features[1][n, 0]) == 500 + picture, "the face is the one in the picture"
        assert not faces or (sees and picture >= len(PLACES))
        place = int(made.seen.place[picture]) if sees else -1
        if place < 0 and hears:
            place = int(made.heard.place[sound])
        voice = int(made.heard.emotion[sound]) if hears else -1
        face = int(made.seen.emotion[picture]) if sees else -1
        assert int(batch.scene[n]) == place
        # A voice is believed before a still face; a face before the silence of a landscape.
        assert int(batch.emotion[n]) == (voice if voice > 0 else face if sees else voice)
        assert bool(batch.asked[n]) == hears
        if sees and hears and place >= 0 and int(made.heard.place[sound]) >= 0 and face == 0:
            assert int(made.heard.place[sound]) == place
    shares = batch.present.float().mean(0)
    assert torch.allclose(shares[[0, 2]], torch.tensor([0.75, 0.75]), atol=0.05)
    faced = batch.present[:, 0] & (batch.features[0][:, 0] >= len(PLACES))
    # Some faces are overlooked, as the detector overlooks them.
    assert abs(float(batch.present[faced, 1].float().mean()) - (1.0 - OVERLOOKED)) < 0.05


def test_pairs_same_seed_same_pairs() -> None:
    first, second = pairs().batch(50), pairs().batch(50)
    assert torch.equal(first.features[0], second.features[0])
    assert torch.equal(first.present, second.present)


def test_mixer_targets_follow_the_recordings_and_only_train_is_drawn(tmp_path: Path) -> None:
    rows = read_recordings(write_tree(tmp_path / "data"), Division(("dev",), ("fold4",))).sound
    dropped: list[str] = []
    cache = cache_sound(rows, SPEC, tmp_path / "cache", dropped)
    mixer = SoundMixer(cache, SPEC, 100, seed=1)
    drawn = {index for some in (*mixer.speech.values(), *mixer.scenery.values()) for index in some}
    assert {rows[index].part for index in drawn} == {"train"}
    batch = mixer.batch(200)
    assert batch.bands.shape == (200, 100, SPEC.n_mels)
    assert batch.bands.dtype == torch.float32
    assert torch.isfinite(batch.bands).all()
    heard = {int(one) for one in batch.emotion.unique()}
    assert heard == {-1, EMOTIONS.index("none"), EMOTIONS.index("happy"), EMOTIONS.index("sad")}
    assert {int(one) for one in batch.place.unique()} == {-1, PLACES.index("forest"), PLACES.index("coast")}
    named = batch.sounds.sum(0) > 0
    assert [SOUNDS[n] for n in torch.nonzero(named).flatten()] == ["waves", "birds"]
    voiced = (batch.emotion > 0).any(1)
    assert (batch.heard[voiced].max(1).values > 0.5).all()
    assert not dropped
    again = SoundMixer(cache, SPEC, 100, seed=1).batch(200)
    assert torch.equal(batch.bands, again.bands)


def test_cache_is_read_again_and_made_anew_for_other_settings(tmp_path: Path) -> None:
    rows = read_recordings(write_tree(tmp_path / "data")).sound[:3]
    told: list[int] = []

    def count(done: int, total: int, what: str) -> None:
        told.append(done)

    first = cache_sound(rows, SPEC, tmp_path / "cache", [], count)
    made = len(told)
    second = cache_sound(rows, SPEC, tmp_path / "cache", [], count)
    assert made > 0
    assert len(told) == made
    np.testing.assert_array_equal(first.store, second.store)
    cache_sound(rows, MfccSpec(n_mels=32, n_mfcc=20), tmp_path / "cache", [], count)
    assert len(told) > made


def test_cache_sound_that_can_not_be_decoded_is_reported(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "data")
    broken = folder / "sound" / "birds-train-0.wav"
    broken.write_bytes(b"this is no sound at all " * 100)
    dropped: list[str] = []
    cache = cache_sound(read_recordings(folder).sound, SPEC, tmp_path / "cache", dropped)
    assert len(dropped) == 1
    assert dropped[0].startswith("birds-train-0.wav: ")
    index = next(n for n, one in enumerate(cache.rows) if one.path == broken)
    assert cache.length(index) == 0


def test_camera_moves_and_normalises(tmp_path: Path) -> None:
    rows = read_recordings(write_tree(tmp_path / "data"), Division(("dev",), ("fold4",))).pictures
    cache = cache_pictures(rows, tmp_path / "cache", [])
    spec = FrameSpec(size=48, mean=(0.5,) * 3, std=(0.25,) * 3, colour="luma")
    batch = Camera(cache, spec, 3, seed=2).batch(8)
    assert batch.frames.shape == (8, 3, 1, 48, 48)
    assert float(batch.frames.min()) >= -2.0
    assert float(batch.frames.max()) <= 2.0
    assert {int(one) for one in batch.place.unique()} == {PLACES.index("forest"), PLACES.index("coast")}
    assert (batch.emotion == EMOTIONS.index("none")).all()
    assert not torch.equal(batch.frames[:, 0], batch.frames[:, 2])
