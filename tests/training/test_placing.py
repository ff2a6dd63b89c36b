"""Where a stage learns: its module and its batches lie on one device, also where that is no CPU.

There is no GPU here. Torch's `meta` device computes nothing, but refuses an operation of tensors of two
devices as a GPU does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from streamfuse.errors import BackendError
from streamfuse.model.network import Network, build_network
from streamfuse.model.spec import ModelSpec
from streamfuse.training import fit, hearing, joining, portraits, seeing
from streamfuse.training.cache import PictureCache, cache_pictures, cache_sound
from streamfuse.training.datasets.meaning import EMOTIONS, PLACES, SOUNDS
from streamfuse.training.datasets.recordings import Division, Recordings, read_recordings
from streamfuse.training.hearing import Hearing
from streamfuse.training.joining import Joining
from streamfuse.training.motion import Camera
from streamfuse.training.pairs import Heard, Pairs, Seen
from streamfuse.training.placing import moved
from streamfuse.training.portraits import Reading
from streamfuse.training.seeing import Film, Seeing
from streamfuse.training.settings import (
    FaceSettings,
    FusionSettings,
    PictureSettings,
    SoundSettings,
    TrainConfig,
)
from streamfuse.training.sound import SoundMixer
from streamfuse.training.train import Run, model_spec
from tests.training.made import run_of, settings
from tests.training.tree import write_tree

Learning = tuple[Any, Any]
"""A stage on `meta`, and a batch for it on the CPU."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    folder = write_tree(tmp_path_factory.mktemp("placing") / "data")
    return read_recordings(folder, Division(("dev",), ("fold4",)))


@pytest.fixture(scope="module")
def pictures(recordings: Recordings, tmp_path_factory: pytest.TempPathFactory) -> PictureCache:
    return cache_pictures(recordings.pictures, tmp_path_factory.mktemp("pictures"), [])


def model(sound: str = "lstm") -> tuple[Network, ModelSpec]:
    network = {"preset": "tiny", "fusion": "hybrid", "sound": sound, "picture_side": 32, "memory_ticks": 8}
    spec = model_spec(TrainConfig.model_validate({"network": {**network, "views": ("frame", "face")}}))
    return build_network(spec, dropout=0.1), spec


def listening(recordings: Recordings, sound: str, folder: Path) -> Learning:
    network, spec = model(sound)
    cache = cache_sound(recordings.sound, spec.audio, folder, [])
    mixer = SoundMixer(cache, spec.audio, 8 * spec.frames_per_tick, 0)
    stage = Hearing(network, spec, SoundSettings(batch=2, ticks=8, chunk_ticks=4), 0.1, "meta")
    return stage, mixer.batch(2)


def looking(pictures: PictureCache) -> Learning:
    network, spec = model()
    stage = Seeing(network, spec, PictureSettings(batch=2, ticks=2), 0.1, "meta")
    source = stage.source(Camera(pictures, spec.video.picture, 2, 0), 2, lambda *_: None)
    assert isinstance(source, Film)
    return stage, source.batch(2)


def reading() -> Learning:
    network, spec = model()
    shown, some = torch.randn(2, 1, 1, 32, 32), torch.arange(2)
    return Reading(network, spec, FaceSettings(batch=2), 0.1, "meta"), (shown, some, some)


def joined() -> Learning:
    network, spec = model()
    some = torch.arange(20)
    seen = Seen(
        tuple(torch.randn(20, dim) for dim in network.dims[:2]), (torch.ones(20, dtype=torch.bool),) * 2,
        some % len(PLACES), some % len(EMOTIONS),
    )  # fmt: skip
    heard = Heard(
        torch.randn(20, network.dims[2]), some % len(PLACES), some % len(EMOTIONS),
        torch.zeros(20, len(SOUNDS)), torch.ones(20),
    )  # fmt: skip
    return Joining(network, spec, FusionSettings(batch=4), "meta"), Pairs(seen, heard, 0).batch(4)


def on_one_device(stage: Any, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loss: Tensor = stage.loss(batch)
    assert loss.device.type == "meta"
    loss.backward()
    learned = [one for one in stage.learned.parameters() if one.grad is not None]
    assert learned and all(one.grad is not None and one.grad.device.type == "meta" for one in learned)
    # And were the batch left behind, it would be told.
    for room in (hearing, seeing, portraits, joining, fit):
        monkeypatch.setattr(room, "moved", lambda some, _: some)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"device|meta"):
        stage.loss(batch)


@pytest.mark.parametrize("sound", ["lstm", "gru", "conv"])
def test_hearing_is_learned_on_one_device(
    recordings: Recordings, sound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_one_device(*listening(recordings, sound, tmp_path), monkeypatch)


def test_seeing_is_learned_on_one_device(pictures: PictureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    on_one_device(*looking(pictures), monkeypatch)


def test_faces_are_learned_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    on_one_device(*reading(), monkeypatch)


def test_fusion_is_learned_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    on_one_device(*joined(), monkeypatch)


@pytest.mark.parametrize("layers", [torch.nn.LSTM(4, 64, 2), torch.nn.GRU(4, 64, 2)])
def test_gates_begin_with_memories_of_seconds(layers: torch.nn.LSTM | torch.nn.GRU) -> None:
    """By torch's own layers: of a state 1 - 1/T is left after a frame that says nothing."""
    torch.manual_seed(0)
    hearing.remember_long(layers)
    with torch.no_grad():
        for one in layers.parameters():
            if one.dim() == 2:
                one.zero_()
        kept = torch.ones(2, 1, 64)
        if isinstance(layers, torch.nn.LSTM):
            _, (_, left) = layers(torch.zeros(1, 1, 4), (torch.zeros(2, 1, 64), kept))
        else:
            _, left = layers(torch.zeros(1, 1, 4), kept)
    frames = 1.0 / (1.0 - left[:, 0])
    assert 40 < frames[0].max() < 52 and 150 < frames[1].max() < 202
    assert (frames > 1.99).all()


def test_a_batch_is_moved_whole() -> None:
    _, batch = joined()
    there = moved(batch, "meta")
    assert type(there) is type(batch)
    assert {one.device.type for one in (*there.features, there.present, there.sounds)} == {"meta"}
    assert moved((torch.ones(1), {"a": torch.ones(1)}), "meta")[1]["a"].device.type == "meta"
    with pytest.raises(TypeError, match="a batch is made of tensors, got float"):
        moved((1.0,), "meta")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    config = TrainConfig(device="cuda")
    with pytest.raises(BackendError, match="training on cuda needs a torch with CUDA, got torch"):
        Run(config, tmp_path / "not there", tmp_path, lambda *_: None, lambda *_: None)
    clips = settings(tmp_path).model_copy(update={"device": "cuda"})
    with pytest.raises(BackendError, match="training on cuda needs a torch with CUDA, got torch"):
        run_of(tmp_path, clips)


@pytest.mark.needs_cuda
def test_a_folder_is_learned_from_on_a_gpu(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "data")
    config = TrainConfig.model_validate(
        {
            "device": "cuda",
            "data": {"test_splits": ["dev"], "tune_splits": ["fold4"]},
            "network": {"preset": "tiny", "fusion": "hybrid", "picture_side": 32, "memory_ticks": 8},
            "sound": {"steps": 3, "batch": 4, "ticks": 8, "chunk_ticks": 4},
            "picture": {"steps": 3, "batch": 4, "ticks": 2, "bfloat16": True},
            "fusion": {"steps": 3, "batch": 8, "clips": 32, "streams": 32},
        }
    )
    run = Run(config, data, tmp_path / "work", lambda *_: None, lambda *_: None)
    before = {name: one.clone() for name, one in run.network.state_dict().items()}
    run.learn()
    after = run.network.state_dict()
    assert all(one.device.type == "cpu" and torch.isfinite(one).all() for one in after.values())
    for part in ("audio.", "videos.0.", "fusion."):
        assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith(part)), part
