"""What a model file says about itself: `streamfuse.json`, beside the program in the same file.

Everything that is needed to run the model is here, so that preprocessing never disagrees with training.
Imports no torch: `inspect`, the labels and the pipeline read it cheaply.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import msgspec

from streamfuse.errors import ModelError
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.types import SAMPLE_RATE

CONTRACT = 1
"""Version of the agreement between a model file and this program: see DESIGN, "The model file"."""
SPEC_FILE = "streamfuse.json"
VIEWS = ("frame", "face")
"""What the pipeline can show a model: the whole picture, and the crop around a face."""
MAX_CLIP_FRAMES = 64
"""The longest window of a clip model; at 128 px in colour it holds 12 MB for each stream."""

Checked = TypeVar("Checked")


def _check(rules: tuple[tuple[str, object, bool, str], ...], where: str) -> None:
    for name, got, holds, rule in rules:
        if not holds:
            raise ModelError(f"{name} must be {rule}", got=got, where=where)


def _distinct(names: tuple[str, ...]) -> bool:
    return len(set(names)) == len(names) and all(names)


class HeadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question the model answers.

    labels       by name and in the order of the logits
    temperature  logits are divided by it before the softmax or sigmoid
    threshold    softmax: a winner below it is "unknown"; sigmoid: a label above it is said
    """

    name: str
    labels: tuple[str, ...]
    kind: Literal["softmax", "sigmoid"] = "softmax"
    temperature: float = 1.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        least = 2 if self.kind == "softmax" else 1
        _check(
            (
                ("name", repr(self.name), bool(self.name), "not empty"),
                ("labels", list(self.labels), _distinct(self.labels), "distinct and not empty"),
                ("labels", list(self.labels), len(self.labels) >= least, f"{least} or more"),
                ("temperature", self.temperature, 0 < self.temperature < math.inf, "positive"),
                ("threshold", self.threshold, 0 <= self.threshold <= 1, "in 0..1"),
            ),
            f"head {self.name}",
        )


class VideoSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """frames: 1 for a streaming model, T for a model of sliding clips; hop_ms: length of a tick."""

    frames: int = 1
    hop_ms: int = 100
    picture: FrameSpec = FrameSpec()

    def __post_init__(self) -> None:
        _check(
            (
                ("frames", self.frames, 1 <= self.frames <= MAX_CLIP_FRAMES, f"in 1..{MAX_CLIP_FRAMES}"),
                ("hop_ms", self.hop_ms, 10 <= self.hop_ms <= 10_000, "in 10..10000"),
            ),
            "video spec",
        )

    @property
    def hop_ns(self) -> int:
        return self.hop_ms * 1_000_000


class StateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One state tensor: its shape for one stream, and which dimension is the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"
    batch_dim: int = 0

    def __post_init__(self) -> None:
        inside = 0 <= self.batch_dim < len(self.shape)
        _check(
            (
                ("shape", list(self.shape), all(n > 0 for n in self.shape), "positive"),
                ("batch_dim", self.batch_dim, inside, "a dimension of the shape"),
                ("shape", list(self.shape), inside and self.shape[self.batch_dim] == 1, "of one stream"),
            ),
            f"state {self.name}",
        )

    def batched(self, batch: int) -> tuple[int, ...]:
        """The shape for this many streams."""
        return (*self.shape[: self.batch_dim], batch, *self.shape[self.batch_dim + 1 :])


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of our networks it is; enough to build it again for training.

    sound         the sound branch: "lstm", or "conv", which looks at the spectrum first
    memory_ticks  the running means are plain means up to here and then forget at this rate
    max_gap_ms    a modality that was away for longer begins anew
    """

    preset: str = "base"
    fusion: str = "gated"
    sound: str = "lstm"
    memory_ticks: int = 32
    max_gap_ms: int = 2000

    def __post_init__(self) -> None:
        _check(
            (
                ("memory_ticks", self.memory_ticks, 1 <= self.memory_ticks <= 100_000, "in 1..100000"),
                ("max_gap_ms", self.max_gap_ms, 0 <= self.max_gap_ms <= 3_600_000, "in 0..3600000"),
            ),
            "network spec",
        )


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A set of recordings the model learned from."""

    name: str
    licence: str
    use: str = ""


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured figure, the data it was measured on and the command that measured it."""

    measure: str
    value: float
    data: str
    command: str


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about a model file but its weights.

    views       in the order of the V of `video`; `present` has these and then the sound
    network     None for a network that is not ours
    warm_ticks  from this tick on (counted from one) an answer sees none of the zeros of the start
    """

    name: str
    heads: tuple[HeadSpec, ...]
    contract: int = CONTRACT
    views: tuple[str, ...] = ("frame",)
    video: VideoSpec = VideoSpec()
    audio: MfccSpec = MfccSpec()
    network: NetworkSpec | None = None
    state: tuple[StateSpec, ...] = ()
    warm_ticks: int = 0
    training: tuple[DataSource, ...] = ()
    quality: tuple[Quality, ...] = ()
    description: str = ""
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        heads = tuple(head.name for head in self.heads)
        known = bool(self.views) and _distinct(self.views) and set(self.views) <= set(VIEWS)
        samples = self.video.hop_ms * self.audio.sample_rate
        whole = samples % 1000 == 0 and samples // 1000 % self.audio.hop_length == 0
        frame_ms = 1000 * self.audio.hop_length / self.audio.sample_rate
        _check(
            (
                ("contract", self.contract, self.contract == CONTRACT, str(CONTRACT)),
                ("heads", list(heads), bool(heads) and _distinct(heads), "one or more, of distinct names"),
                ("views", list(self.views), known, f"distinct and of {', '.join(VIEWS)}"),
                ("sample_rate", self.audio.sample_rate, self.audio.sample_rate == SAMPLE_RATE, "16000"),
                ("hop_ms", self.video.hop_ms, whole, f"whole MFCC frames of {frame_ms:g} ms"),
                ("warm_ticks", self.warm_ticks, self.warm_ticks >= 0, "0 or more"),
            ),
            f"model {self.name}",
        )

    @property
    def preset(self) -> str:
        return self.network.preset if self.network else "foreign"

    @property
    def picture_side(self) -> int:
        """Largest short side, in pixels, of the pictures that ticks should bring for this model.

        Twice its size is enough to shrink well; a face fills a part of the picture, and needs more.
        """
        return (3 if "face" in self.views else 2) * self.video.picture.size

    @property
    def hop_samples(self) -> int:
        return self.video.hop_ms * self.audio.sample_rate // 1000

    @property
    def frames_per_tick(self) -> int:
        """MFCC frames in one tick."""
        return self.hop_samples // self.audio.hop_length

    @property
    def max_gap_ticks(self) -> int:
        return self.network.max_gap_ms // self.video.hop_ms if self.network else 0

    def video_shape(self, batch: int = 1) -> tuple[int, int, int, int, int, int]:
        """(B, V, T, C, H, W)."""
        picture = self.video.picture
        return (batch, len(self.views), self.video.frames, picture.channels, picture.size, picture.size)

    def audio_shape(self, batch: int = 1) -> tuple[int, int, int]:
        """(B, Ta, n_mfcc): the frames of the ticks that `video` covers."""
        return (batch, self.video.frames * self.frames_per_tick, self.audio.n_mfcc)

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode()


class _Version(msgspec.Struct):
    contract: int


def read_spec(text: bytes, where: object) -> ModelSpec:
    """Parse and check `streamfuse.json`; ModelError names what is wrong with it."""
    version = _decode(text, _Version, where).contract
    if version != CONTRACT:
        raise ModelError(
            f"a model file must follow contract {CONTRACT}",
            got=f"contract {version}",
            where=where,
            hint="export it again with this version of streamfuse",
        )
    return _decode(text, ModelSpec, where)


def _decode(text: bytes, kind: type[Checked], where: object) -> Checked:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{SPEC_FILE} must describe the model", got=error, where=where) from error
