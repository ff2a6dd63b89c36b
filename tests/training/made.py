"""A small model of generated clips, trained once for all tests that want one that knows something."""

from __future__ import annotations

from pathlib import Path

from streamfuse.training.clip_run import ClipRun
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.settings import TrainConfig, read_train_config

SETTINGS = """
name: made
dropout: 0.0
keep_every: 7
data:
  - {layout: synthetic, count: 30, seconds: 2}
network: {preset: tiny, fusion: concat, picture_side: 32, memory_ticks: 4}
clips: {steps: 90, batch: 6, ticks: 8, chunk_ticks: 4, rate: 0.008, smoothing: 0.0, check_every: 90,
  noise: 0.0, reverberation: 0.1, missing: 0.15, faded: 0.0, masks: 0}
"""


def settings(folder: Path, **clips: object) -> TrainConfig:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.yaml"
    path.write_text(SETTINGS)
    config = read_train_config(path)
    return config.model_copy(update={"clips": config.clips.model_copy(update=clips)})


def run_of(folder: Path, config: TrainConfig, told: list[str] | None = None) -> ClipRun:
    def report(stage: str, _: float, figures: dict[str, float]) -> None:
        if told is not None:
            told.append(f"{stage} {figures}")

    assert isinstance(config.data, tuple)
    return ClipRun(config, read_clips(config.data), folder / "work", report, lambda *_: None)
