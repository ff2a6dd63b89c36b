"""The whole network: views and sound -> features -> one answer per head and tick."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from streamfuse.errors import ModelError
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.model.audio import AudioBranch
from streamfuse.model.clip3d import CLIP_FRAMES, Clip3d
from streamfuse.model.conv_sound import ConvSound
from streamfuse.model.fusion import build_fusion
from streamfuse.model.gru_sound import GruSound
from streamfuse.model.lite import LiteBranch
from streamfuse.model.spec import HeadSpec, ModelSpec, NetworkSpec, StateSpec, VideoSpec
from streamfuse.model.video import VideoBranch


class Preset(NamedTuple):
    """The picture branch, its width, and the picture size it is meant for."""

    branch: Literal["movinet", "lite", "clip3d"]
    width: float
    size: int


PRESETS = {
    "tiny": Preset("movinet", 0.5, 96),
    "small": Preset("movinet", 0.75, 112),
    "base": Preset("movinet", 1.0, 128),
    "a0": Preset("movinet", 1.0, 172),
    "lite": Preset("lite", 1.0, 96),
    "clip3d": Preset("clip3d", 1.0, 64),
}


def build_branch(preset: str, channels: int, memory: int) -> VideoBranch | LiteBranch | Clip3d:
    """The picture branch of a preset. Each has `features`, `volumetric`, `state_shapes`, `clip`, `step`."""
    chosen = PRESETS[preset]
    if chosen.branch == "lite":
        return LiteBranch(channels, memory)
    if chosen.branch == "clip3d":
        return Clip3d(channels)
    return VideoBranch(channels, chosen.width, memory)


SOUND_BRANCHES: dict[str, type[AudioBranch] | type[ConvSound] | type[GruSound]] = {
    "lstm": AudioBranch,
    "gru": GruSound,
    "conv": ConvSound,
}


def frames_of(preset: str) -> int:
    """How many pictures a step is shown: one, or the window of a clip model."""
    return CLIP_FRAMES if PRESETS[preset].branch == "clip3d" else 1


def network_spec(
    heads: tuple[HeadSpec, ...],
    *,
    preset: str = "base",
    fusion: str = "gated",
    sound: str = "lstm",
    views: tuple[str, ...] = ("frame",),
    picture: FrameSpec | None = None,
    audio: MfccSpec | None = None,
    memory_ticks: int = 32,
    name: str = "",
) -> ModelSpec:
    """The description of one of our networks, complete but for what training adds.

    picture  by default luma at the preset's size: grey and coloured cameras then look alike
    """
    if preset not in PRESETS:
        raise ModelError("a preset must have a known name", got=preset, hint=f"one of {', '.join(PRESETS)}")
    if sound not in SOUND_BRANCHES:
        hint = f"one of {', '.join(SOUND_BRANCHES)}"
        raise ModelError("a sound branch must have a known name", got=sound, hint=hint)
    picture = picture or FrameSpec(size=PRESETS[preset].size, colour="luma")
    spec = ModelSpec(
        name=name or f"streamfuse-{preset}",
        heads=heads,
        views=views,
        video=VideoSpec(frames=frames_of(preset), picture=picture),
        audio=audio or MfccSpec(),
        network=NetworkSpec(preset=preset, fusion=fusion, sound=sound, memory_ticks=memory_ticks),
    )
    network = Network(spec)
    return msgspec.structs.replace(
        spec, state=tuple(network.state_spec()), warm_ticks=network.receptive_field
    )


class Network(nn.Module):
    """One branch per view, one for sound, absence vectors, and the fusion.

    State, a flat list: age (B, M), ticks since each modality was last present; then the states of the
    branches. A modality that is absent holds its state and ages; after `max_gap` ticks it is as new.
    """

    def __init__(self, spec: ModelSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        ours = spec.network
        if ours is None or ours.preset not in PRESETS:
            raise ModelError("a network needs a known preset", got=spec.preset, where=f"model {spec.name}")
        picture = spec.video.picture
        self.size = picture.size
        self.frames = spec.video.frames
        self.views = list(spec.views)
        self.max_gap = spec.max_gap_ticks
        # False: no branch depends on what came, so that one recording of a step holds for every step.
        self.shortcuts = True
        branches = [build_branch(ours.preset, picture.channels, ours.memory_ticks) for _ in spec.views]
        self.videos: Any = nn.ModuleList(branches)
        self.audio: Any = SOUND_BRANCHES[ours.sound](spec.audio.n_mfcc, dropout)
        dims = [branch.features for branch in branches] + [self.audio.features]
        self.modalities = len(dims)
        self.dims = dims
        self.absent = nn.Parameter(torch.randn(sum(dims)) * 0.1)
        classes = [len(head.labels) for head in spec.heads]
        self.fusion: Any = build_fusion(ours.fusion, dims, classes, dropout)
        # Calibration: what an answer is worth depends on what it rests on. Bit m of the column: modality m.
        self.register_buffer("certainty", torch.ones(len(classes), 2**self.modalities))
        self.certainty: Tensor
        state = self.state_spec()
        self.shapes = [list(one.shape) for one in state]
        self.batch_dims = [one.batch_dim for one in state]
        # A state named "past" holds the K-1 frames that one temporal convolution reaches back.
        pasts = [s[1] for n, s in branches[0].state_shapes(self.size) if n.endswith(".past")]
        self.receptive_field = self.frames + sum(pasts)
        self.video_states = len(branches[0].state_shapes(self.size))

    def state_spec(self) -> list[StateSpec]:
        """Every state tensor in order."""
        specs = [StateSpec("age", (1, self.modalities))]
        for view, branch in zip(self.views, self.videos, strict=True):
            specs += [StateSpec(f"{view}.{n}", tuple(s)) for n, s in branch.state_shapes(self.size)]
        for name, shape in self.audio.state_shapes():
            specs.append(StateSpec(f"audio.{name}", tuple(shape), batch_dim=int(name in "hc")))
        return specs

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        """The state of `batch` new streams: zeros, on the CPU."""
        state: list[Tensor] = []
        for shape, batch_dim in zip(self.shapes, self.batch_dims):  # noqa: B905 (TorchScript has no strict)
            full: list[int] = []
            for dim, length in enumerate(shape):
                full.append(batch if dim == batch_dim else length)
            state.append(torch.zeros(full))
        return state

    def clip(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """T ticks at once, for training; equal to T steps. The arguments are those of features().

        returns  logits (B, T, classes) per head; the same from each modality alone, modality after
                 modality; the state after the last tick
        """
        features, fresh = self.features(video, audio, present, state)
        return self.certain(self.fusion(features, present), present), self.fusion.unimodal(features), fresh

    def certain(self, logits: list[Tensor], present: Tensor) -> list[Tensor]:
        """The logits times what calibration found for these modalities together."""
        situation = torch.zeros(present.size(0), dtype=torch.long, device=present.device)
        for m in range(self.modalities):
            situation = situation + present[:, m].long() * (1 << m)
        scaled: list[Tensor] = []
        for head in range(len(logits)):
            scaled.append(logits[head] * self.certainty[head][situation][:, None, None])
        return scaled

    def features(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What each modality says in each of T ticks, absence vectors in place.

        video    (B, V, T, C, H, W); of a model of clips of K, K - 1 pictures more, before the first tick
        audio    (B, T * n, coefficients), n MFCC frames in each tick (0: the sound feature is held)
        present  (B, V + 1), the same for all T ticks
        returns  features (B, T, D_m), the views' and then the sound's; the state after the last tick
        """
        ticks = video.size(2) - self.frames + 1
        age = torch.where(present, torch.zeros_like(state[0]), state[0] + ticks)
        fresh = [age]
        features: list[Tensor] = []
        absent = torch.split(self.absent, self.dims)
        at = 1
        for m, branch in enumerate(self.videos):
            here = present[:, m]
            old = state[at : at + self.video_states]
            # NaN times zero is NaN: what is absent is replaced, never multiplied away.
            picture = torch.where(here[:, None, None, None, None], video[:, m], 0.0)
            feature, new = branch.clip(picture, old)
            features.append(torch.where(here[:, None, None], feature, absent[m]))
            fresh.extend(self.held(here, age[:, m], new, old, at))
            at += self.video_states
        here = present[:, -1]
        sound = torch.where(here[:, None, None], audio, 0.0)
        feature, new = self.audio.clip(sound, ticks, state[at:])
        features.append(torch.where(here[:, None, None], feature, absent[-1]))
        fresh.extend(self.held(here, age[:, -1], new, state[at:], at))
        return features, fresh

    def step(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The contract, at T = 1 by 2-D operations: what is exported. Evaluation mode only."""
        age = torch.where(present, torch.zeros_like(state[0]), state[0] + 1.0)
        fresh = [age]
        features: list[Tensor] = []
        absent = torch.split(self.absent, self.dims)
        at = 1
        for m, branch in enumerate(self.videos):
            here = present[:, m]
            old = state[at : at + self.video_states]
            rows = self.seen_rows(here)
            shown = video[:, m] if self.frames > 1 else video[:, m, 0]
            picture = torch.where(here.view([-1] + [1] * (shown.dim() - 1)), shown, 0.0)[rows]
            some, part = branch.step(picture, [one[rows] for one in old])
            feature = absent[m].expand(here.size(0), -1).index_copy(0, rows, some)
            new = [o.index_copy(0, rows, n) for o, n in zip(old, part)]  # noqa: B905
            features.append(torch.where(here[:, None], feature, absent[m]).unsqueeze(1))
            fresh.extend(self.held(here, age[:, m], new, old, at))
            at += self.video_states
        here = present[:, -1]
        # Of a window's sound the last tick's; what was before is in the state.
        heard = audio[:, audio.size(1) - audio.size(1) // self.frames :]
        sound = torch.where(here[:, None, None], heard, 0.0)
        feature, new = self.audio.step(sound, state[at:])
        features.append(torch.where(here[:, None], feature, absent[-1]).unsqueeze(1))
        fresh.extend(self.held(here, age[:, -1], new, state[at:], at))
        return [one[:, 0] for one in self.certain(self.fusion(features, present), present)], fresh

    def seen_rows(self, here: Tensor) -> Tensor:
        """The rows that a view's branch is computed for: on a CPU, what is not there costs nothing.

        Rows, and no `if` around the branch: freezing would keep its weights twice.
        """
        if here.is_cuda or not self.shortcuts:
            return torch.arange(here.size(0), device=here.device)
        return torch.nonzero(here).flatten()

    def held(self, here: Tensor, age: Tensor, new: list[Tensor], old: list[Tensor], at: int) -> list[Tensor]:
        """`new` where present; else `old`, or zeros where it is too old."""
        # On a CPU asking is cheaper than copying the state; a GPU would have to be waited for.
        if self.shortcuts and not here.is_cuda and bool(here.all()):
            return new
        stale = age > self.max_gap
        chosen: list[Tensor] = []
        for index in range(len(new)):
            shape = [1] * new[index].dim()
            shape[self.batch_dims[at + index]] = -1
            kept = old[index].masked_fill(stale.view(shape), 0.0)
            chosen.append(torch.where(here.view(shape), new[index], kept))
        return chosen


class Stepper(nn.Module):
    """A network behind the contract, by steps: what export_model() scripts, and nothing else of it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return self.network.init_state(batch)

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        return self.network.step(video, audio, present, state)


def build_network(spec: ModelSpec, *, dropout: float = 0.0, volumetric: bool = False) -> Network:
    """The network that `spec` describes, with new weights (seed torch before).

    dropout     before the heads and between the LSTM layers, while training
    volumetric  clips by conv3d; else by conv2d over folded frames: the same sums, and forward and
                backward take three quarters of the time on a CPU
    """
    network = Network(spec, dropout=dropout)
    for branch in network.videos:
        branch.volumetric = volumetric
    return network
