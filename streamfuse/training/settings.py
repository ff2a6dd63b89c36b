"""The configuration of a training run: what `configs/train/*.yaml` may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError

from streamfuse.errors import ConfigError
from streamfuse.section import Section
from streamfuse.training.datasets.entry import DataEntry
from streamfuse.training.datasets.recordings import FOLDER, Division
from streamfuse.training.datasets.table import read_text


class DataSettings(Section):
    """How the recordings are divided; see datasets/recordings.py. Unset: as for the default model."""

    test_splits: tuple[str, ...] = FOLDER.test_splits
    tune_splits: tuple[str, ...] = FOLDER.tune_splits
    tune_groups: tuple[str, ...] = FOLDER.tune_groups
    tune_share: float = Field(FOLDER.tune_share, ge=0, lt=1)

    def division(self) -> Division:
        return Division(self.test_splits, self.tune_splits, self.tune_groups, self.tune_share)


class NetworkSettings(Section):
    preset: str = "lite"
    fusion: str = "hybrid"
    sound: Literal["lstm", "gru", "conv"] = "lstm"
    """The sound branch."""
    views: tuple[Literal["frame", "face"], ...] = ("frame",)
    memory_ticks: int = Field(32, ge=1, le=100_000)
    picture_side: int | None = Field(None, ge=32, le=512)
    """Side of the picture in pixels; unset: the preset's own."""
    colour: Literal["luma", "rgb"] = "luma"
    """Learned from a list of data sets: what the pictures are made of."""
    pretrained: str | None = None
    """EfficientNet-Lite0 weights for the preset `lite`; see training/pretrained.py."""
    frozen: bool = False
    """Learned from a list of data sets: the pretrained layers stay as they are, one picture at a time; only
    what is above them learns."""


class StageSettings(Section):
    """One stage of training. It ends after `steps` or `minutes`, whichever is first."""

    steps: int = Field(1000, ge=0)
    minutes: float | None = Field(None, gt=0)
    """Off by default: a wall-clock limit makes a run that can not be repeated exactly."""
    batch: int = Field(64, ge=1, le=4096)
    rate: float = Field(2e-3, gt=0, le=1)
    decay: float = Field(1e-2, ge=0, le=1)
    smoothing: float = Field(0.1, ge=0, lt=1)
    check_every: int = Field(250, ge=1)
    """Steps from one look at the held-out groups to the next."""
    patience: int = Field(0, ge=0)
    """End after so many looks without a gain, and keep the best weights; 0: never before its time."""


class SoundSettings(StageSettings):
    ticks: int = Field(40, ge=4, le=600)
    """Length of one training stream."""
    chunk_ticks: int = Field(40, ge=1, le=600)
    """Gradients go back this far; the state is carried on, detached."""


class PictureSettings(StageSettings):
    batch: int = Field(32, ge=1, le=4096)
    ticks: int = Field(2, ge=1, le=64)
    frozen_blocks: int = Field(6, ge=0, le=6)
    """`lite`: the stem and this many blocks keep their weights; the seventh looks back."""
    bfloat16: bool = False
    """Convolutions in bfloat16: twice as fast on a processor that has it, far slower on one that has not."""
    pool: int = Field(10_000, ge=1)
    """Clips that are filmed and put through those frozen layers, once."""
    trunk_rate: float = Field(0.2, ge=0, le=1)
    """Rate of the pretrained layers above those, as a share of `rate`."""


class FaceSettings(StageSettings):
    """The face view's branch, for models with one."""

    steps: int = Field(1200, ge=0)
    batch: int = Field(32, ge=1, le=4096)
    decay: float = Field(0.05, ge=0, le=1)
    trunk_rate: float = Field(0.25, ge=0, le=1)
    bfloat16: bool = False
    feelings: float = Field(0.5, ge=0)
    """Weight of the loss of all feelings beside that of the head."""


class FusionSettings(StageSettings):
    batch: int = Field(256, ge=1, le=4096)
    clips: int = Field(6000, ge=1)
    """Clips that are filmed, and streams that are mixed, for the fusion to learn from."""
    streams: int = Field(3000, ge=1)


class DistilSettings(Section):
    """Learn from another model's answers beside the labels: a teacher in one modality can train the other."""

    teacher: Path
    sees: Literal["both", "video", "audio"] = "both"
    """What the teacher is shown; the student is shown everything."""
    weight: float = Field(1.0, gt=0, le=100)
    temperature: float = Field(2.0, ge=1, le=20)


class ClipSettings(StageSettings):
    """The one stage of a list of data sets: everything is learned at once, from clips."""

    batch: int = Field(16, ge=1, le=4096)
    smoothing: float = Field(0.05, ge=0, lt=1)
    patience: int = Field(8, ge=0)
    ticks: int = Field(40, ge=1, le=6000)
    """Length of one training stream, from a random start in its clip."""
    chunk_ticks: int = Field(20, ge=1, le=6000)
    """Gradients go back this far; the state is carried on, detached."""
    auxiliary: float = Field(0.3, ge=0, le=10)
    """Weight of the losses of each modality alone."""
    missing: float = Field(0.25, ge=0, le=0.5)
    """Share of the streams without picture; as many without sound."""
    faded: float = Field(0.25, ge=0, le=1)
    """Share of the others in which one modality fades as the other stays."""
    speed: float = Field(0.1, ge=0, lt=0.5)
    """Sound is played faster or slower by up to this share."""
    noise: float = Field(0.5, ge=0, le=1)
    """Share of the streams with noise, 0 to 30 dB below the sound."""
    reverberation: float = Field(0.3, ge=0, le=1)
    masks: int = Field(2, ge=0, le=10)
    """SpecAugment: so many masks over bands, and over time."""
    mixed: bool = True
    """On a GPU: bfloat16 where it is safe."""
    memory_mb: int = Field(1024, ge=1)
    """Decoded clips that are kept in memory; the others are read from the cache on disk."""
    distil: DistilSettings | None = None


def _kind_of_data(value: object) -> str:
    return "list" if isinstance(value, list | tuple) else "folder"


Data = Annotated[
    Annotated[DataSettings, Tag("folder")] | Annotated[tuple[DataEntry, ...], Tag("list")],
    Discriminator(_kind_of_data),
]
"""A mapping: how one folder of audio.csv and images.csv is divided. A list: data sets of clips."""


class TrainConfig(Section):
    name: str = "streamfuse"
    seed: int = 0
    threads: int = Field(1, ge=1, le=256)
    dropout: float = Field(0.2, ge=0, lt=1)
    sound_head: bool = True
    device: Literal["cpu", "cuda"] = "cpu"
    keep_every: int = Field(100, ge=1)
    """Steps from one writing of what a killed run goes on from to the next."""
    data: Data = DataSettings()
    network: NetworkSettings = NetworkSettings()
    sound: SoundSettings = SoundSettings()
    picture: PictureSettings = PictureSettings()
    faces: FaceSettings = FaceSettings()
    fusion: FusionSettings = FusionSettings()
    clips: ClipSettings = ClipSettings()


def read_train_config(path: Path | None) -> TrainConfig:
    """Read a YAML file of settings; all defaults where `path` is None.

    raises  ConfigError naming the first thing that is wrong
    """
    if path is None:
        return TrainConfig()
    try:
        said = yaml.safe_load(read_text(path, "a configuration file"))
        return TrainConfig.model_validate(said or {})
    except yaml.YAMLError as error:
        raise ConfigError("not valid YAML", got=error, where=path) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"`{key}`: {first['msg']}", got=first["input"], where=path) from None


def division_of(config: TrainConfig) -> Division:
    """How a folder of recordings is divided; ConfigError for a configuration of a list of data sets."""
    if isinstance(config.data, DataSettings):
        return config.data.division()
    hint = "leave `--data DIR` out, or the list `data:`"
    raise ConfigError("a folder is divided by a mapping `data:`", got="a list of data sets", hint=hint)
