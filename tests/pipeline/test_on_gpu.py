"""Where decoded pictures stay, and a recording whose pictures do. Software frames stand in for NVDEC's."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from streamfuse.checkpoint.identity import differences, identity
from streamfuse.config import AppConfig, DecodeConfig
from streamfuse.errors import ConfigError
from streamfuse.labels.lines import label_line
from streamfuse.media import device_frames
from streamfuse.media.device_frames import Gpu
from streamfuse.media.source import parse_source
from streamfuse.model.runtime import load_model
from streamfuse.pipeline import recorded
from streamfuse.pipeline.on_gpu import stays_on
from streamfuse.pipeline.recorded import Processing
from streamfuse.ticks.resume import ResumePoint
from streamfuse.types import DevicePicture, Label
from tests.clips import Clip


@pytest.mark.parametrize(
    ("hwaccel", "device", "index"),
    [
        ("none", "cuda:0", None),
        ("cuda", "cpu", None),  # decoded there, and copied down
        ("cuda:1", "cpu", None),
        ("cuda", "cuda:0", 0),
        ("cuda", "cuda:3", 3),  # the model's own
        ("cuda:3", "cuda:3", 3),
    ],
)
def test_pictures_stay_where_they_are_decoded_and_analysed(
    hwaccel: str, device: str, index: int | None
) -> None:
    gpu = stays_on(DecodeConfig(hwaccel=hwaccel), device)
    assert (None if gpu is None else gpu.index) == index


def test_two_gpus_in_one_process_are_refused() -> None:
    rule = r"must name the GPU of the model .*, got cuda:1 \[model on cuda:0\]; decode.hwaccel: cuda is"
    with pytest.raises(ConfigError, match=rule):
        stays_on(DecodeConfig(hwaccel="cuda:1"), "cuda:0")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clip(seconds=3.0, fps=25, width=640, height=480).write(tmp_path_factory.mktemp("clip") / "c.mkv")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[DevicePicture]:
    """Pictures stay "on the GPU"; those that were asked for on the host. The model runs on the CPU."""
    asked: list[DevicePicture] = []
    real = device_frames.device_picture

    def device_picture(frame, gpu, look, on_host):
        def told():
            asked.append(made)
            return on_host()

        made = real(frame, gpu, look, told)
        return made

    monkeypatch.setattr(recorded, "stays_on", lambda decode, device: Gpu(0, nullcontext))
    monkeypatch.setattr("streamfuse.media.frames.gpu_of", lambda frame: 0)
    monkeypatch.setattr("streamfuse.media.frames.device_picture", device_picture)
    monkeypatch.setitem(device_frames.FORMATS, "yuv420p", ("420", 1))
    return asked


def processing(clip: Path, model: Path, resume: ResumePoint | None = None) -> Processing:
    source, loaded = parse_source(str(clip)), load_model(model, device="cpu")
    return Processing(source, loaded, AppConfig(), name="c", resume=resume)


def told(run: Processing) -> tuple[list[str], ResumePoint]:
    with run:
        lines = [label_line(item) for item in run if isinstance(item, Label)]
        return lines, run.point()


def test_recording_gives_the_same_labels_and_the_same_checkpoint(
    clip: Path, tiny_model: Path, kept: list[DevicePicture], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = told(processing(clip, tiny_model))
    assert len(kept) == len(set(map(id, kept))) == 30 <= len(there[0])  # the last sound holds a picture
    with monkeypatch.context() as patched:
        patched.setattr(recorded, "stays_on", lambda decode, device: None)
        here = told(processing(clip, tiny_model))
    assert there == here
    assert len(there[1].digests) == 10


def test_recording_is_taken_up_after_the_same_ticks(
    clip: Path, tiny_model: Path, kept: list[DevicePicture]
) -> None:
    run = processing(clip, tiny_model)
    with run:
        for _ in zip(run.by_tick(), range(15), strict=False):
            point = run.point()
    ticks = processing(clip, tiny_model, resume=point)._ticks
    indices = [item.head.index for item in ticks if hasattr(item, "head")]
    assert indices[0] == point.index + 1 and len(indices) >= 10


def test_checkpoint_of_the_other_arrangement_is_another_run(clip: Path) -> None:
    """Pictures that were not shrunk on their way give other bytes."""
    config = AppConfig(decode=DecodeConfig(hwaccel="cuda"))
    facts = {"model_sha256": "ab", "device": "cuda:0"}
    kept, copied = (identity(parse_source(str(clip)), "c", config, **facts, kept=on) for on in (True, False))
    assert differences(copied, kept) == ["decode.pictures on the GPU instead of unset"]
