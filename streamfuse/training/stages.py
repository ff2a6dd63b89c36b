"""The three stages: learn to hear, learn to see, learn to do both.

Each branch first learns alone, with a head of every kind on it (they stay on as auxiliary heads and as
the votes of late fusion); then the branches stand still and the fusion learns from their features on
pairs composed by label, with each modality missing in turn.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from streamfuse.kernels.spec import MfccSpec
from streamfuse.model.audio import AudioBranch
from streamfuse.model.lite import Conv, LiteBranch
from streamfuse.model.network import Network
from streamfuse.model.spec import ModelSpec
from streamfuse.training.datasets.meaning import FEELINGS
from streamfuse.training.features import mfcc_from_log_mel
from streamfuse.training.losses import masked_cross_entropy, masked_sigmoid
from streamfuse.training.motion import Camera
from streamfuse.training.pairs import PairBatch, Pairs
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import HELD_OUT_BATCHES, Report, held_out, run_stage
from streamfuse.training.settings import FusionSettings, PictureSettings, SoundSettings
from streamfuse.training.sound import SoundBatch, SoundMixer

FEELING_WEIGHT, PLACE_WEIGHT, SOUND_WEIGHT = 0.5, 0.5, 10.0
"""Beside an emotion loss of weight 1. Sounds are a mean over eleven labels, most of them not there."""
SCENE_FRAMES = 70
"""A place is asked for more and more surely over this many frames of sound."""
MEMORY_FRAMES = (50.0, 200.0)
"""The longest memory of the LSTM's layers at the start, the last layer's last."""
FRAME = 0
"""The view that pictures are learned for."""


def heads_of(network: Network, modality: int, spec: ModelSpec) -> dict[str, nn.Module]:
    """The auxiliary heads on one modality, by the name of the head."""
    some = network.fusion.unimodal.by_modality[modality]
    return {head.name: one for head, one in zip(spec.heads, some, strict=True)}


def branch_state(shapes: list[tuple[str, list[int]]], batch: int) -> list[Tensor]:
    """Zeros for `batch` streams of one branch."""
    return [
        torch.zeros([batch if dim == (1 if name in ("h", "c") else 0) else n for dim, n in enumerate(shape)])
        for name, shape in shapes
    ]


def set_sound_statistics(network: Network, mixer: SoundMixer, spec: MfccSpec, streams: int = 256) -> None:
    """Whiten by the mean and deviation of what training will hear, noise and silence included."""
    heard = mfcc_from_log_mel(mixer.batch(streams).bands, spec).flatten(0, 1)
    network.audio.set_statistics(heard)


def remember_long(lstm: nn.LSTM) -> None:
    """Begin with gates that remember for 2 frames to 2 s, and not for three frames as they would.

    A voice is judged over seconds, 100 frames each; gradients do not find that far back by themselves.
    Source: Tallec and Ollivier, "Can recurrent neural networks warp time?" (arXiv 1804.11188).
    """
    with torch.no_grad():
        for layer, longest in enumerate(MEMORY_FRAMES[-lstm.num_layers :]):
            bias = getattr(lstm, f"bias_hh_l{layer}")
            size = len(bias) // 4
            memory = torch.log(torch.empty(size).uniform_(1.0, longest))
            bias.zero_()
            bias[:size] = -memory
            bias[size : 2 * size] = memory
            getattr(lstm, f"bias_ih_l{layer}").zero_()


def train_sound(
    network: Network,
    spec: ModelSpec,
    mixer: SoundMixer,
    settings: SoundSettings,
    dropout: float,
    report: Report,
    keep: Keeper | None = None,
    held: SoundMixer | None = None,
) -> None:
    """Stage one: the sound branch and its heads. held: of held-out groups, to end early by."""
    audio, heads = network.audio, heads_of(network, len(spec.views), spec)
    feelings = nn.Linear(audio.features, len(FEELINGS))
    if isinstance(audio, AudioBranch):
        # One step a frame; the other branch makes one a tick, and needs no help to look back.
        remember_long(audio.lstm)
    learned = nn.ModuleList([audio, feelings, *heads.values()]).train()
    frames = spec.frames_per_tick
    ends = torch.arange(settings.ticks) * frames + frames - 1
    sure = ((ends - 20.0) / (SCENE_FRAMES - 20.0)).clamp(0.0, 1.0)

    def loss_on(batch: SoundBatch) -> Tensor:
        mfcc = mfcc_from_log_mel(batch.bands, spec.audio)
        state = branch_state(audio.state_shapes(), settings.batch)
        parts = []
        for start in range(0, settings.ticks, settings.chunk_ticks):
            some = mfcc[:, start * frames : (start + settings.chunk_ticks) * frames]
            state = [one.detach() for one in state]
            feature, state = audio.clip(some, some.size(1) // frames, state)
            parts.append(feature)
        y = F.dropout(torch.cat(parts, 1), dropout, learned.training)
        heard, smoothing = batch.heard[:, ends], settings.smoothing if learned.training else 0.0
        loss = masked_cross_entropy(heads["emotion"](y), batch.emotion[:, ends], heard, smoothing)
        loss = loss + FEELING_WEIGHT * masked_cross_entropy(
            feelings(y), batch.feeling[:, ends], heard, smoothing
        )
        asked = sure.expand(settings.batch, -1)
        place = batch.place[:, None].expand(-1, settings.ticks)
        loss = loss + PLACE_WEIGHT * masked_cross_entropy(heads["scene"](y), place, asked, smoothing)
        if "sound" in heads:
            target = batch.sounds[:, None].expand(-1, settings.ticks, -1)
            loss = loss + SOUND_WEIGHT * masked_sigmoid(
                heads["sound"](y), target, asked * batch.asked[:, None]
            )
        return loss

    if keep is not None:
        keep.rngs = (mixer.rng,)
    check = None if held is None else held_out(partial(held.batch, settings.batch), loss_on)
    run_stage(
        "sound", learned, [(list(learned.parameters()), 1.0)], settings,
        lambda _: loss_on(mixer.batch(settings.batch)), report, keep=keep, check=check,
    )  # fmt: skip


def keep_statistics(module: nn.Module) -> None:
    """Training mode but for batch normalisation: pretrained statistics are better than a small batch's."""
    module.train()
    for one in module.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.eval()


def train_picture(
    network: Network,
    spec: ModelSpec,
    camera: Camera,
    settings: PictureSettings,
    dropout: float,
    report: Report,
    keep: Keeper | None = None,
    held: Camera | None = None,
) -> None:
    """Stage two: the picture branch and its heads. held: of held-out groups, to end early by.

    A pretrained branch keeps its lowest layers. What they make of a pool of clips is computed once; the
    layers above learn from that, slowly, and only the new ones at the full rate.
    """
    branch, heads = network.videos[FRAME], heads_of(network, FRAME, spec)
    frozen = settings.frozen_blocks if spec.preset == "lite" else 0
    blocks = branch.blocks[frozen:]
    learned = nn.ModuleList([*([] if frozen else [branch.stem]), *blocks, branch.last, *heads.values()])
    if frozen:
        keep_statistics(learned)
        branch.last.train()
    else:
        learned.train()

    def source_of(some: Camera, clips: int) -> Pool | Camera:
        return film_pool(branch, some, settings, frozen, clips, report) if frozen else some

    def drawn(source: Pool | Camera) -> Filmed:
        if isinstance(source, Pool):
            return source.batch(settings.batch)
        batch = source.batch(settings.batch)
        return batch.frames, batch.place, batch.emotion

    def loss_on(batch: Filmed) -> Tensor:
        shown, wanted_place, wanted_emotion = batch
        state = branch_state(branch.state_shapes(network.size), settings.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            feature, _fresh = branch.upper(shown, frozen, state) if frozen else branch.clip(shown, state)
        y = F.dropout(feature.float(), dropout, learned.training)
        smoothing = settings.smoothing if learned.training else 0.0
        place = wanted_place[:, None].expand(-1, settings.ticks)
        emotion = wanted_emotion[:, None].expand(-1, settings.ticks)
        loss = masked_cross_entropy(heads["scene"](y), place, None, smoothing)
        return loss + masked_cross_entropy(heads["emotion"](y), emotion, None, smoothing)

    source = source_of(camera, settings.pool)
    check = None
    if held is not None:
        looked = source_of(held, HELD_OUT_BATCHES * settings.batch)
        check = held_out(partial(drawn, looked), loss_on)
    if keep is not None:
        keep.rngs = (source.rng,)
    trunk = [p for part in (learned[: -1 - len(heads)]) for p in part.parameters()]
    new = [p for part in (branch.last, *heads.values()) for p in part.parameters()]
    groups = [(trunk, settings.trunk_rate if frozen else 1.0), (new, 1.0)]
    run_stage(
        "picture", learned, groups, settings, lambda _: loss_on(drawn(source)), report, keep=keep, check=check
    )


Filmed = tuple[Tensor, Tensor, Tensor]
"""What is shown (pictures, or what the frozen layers made of them), its places and its emotions."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What the frozen layers made of clips, (N, T, C, H, W) float16; place and emotion (N,)."""

    below: Tensor
    place: Tensor
    emotion: Tensor
    rng: np.random.Generator

    def batch(self, clips: int) -> Filmed:
        some = torch.from_numpy(self.rng.choice(len(self.place), clips, replace=False))
        return self.below[some].float(), self.place[some], self.emotion[some]


def fused(branch: LiteBranch) -> LiteBranch:
    """A copy with its normalisations folded into the convolutions: half the time of a frozen layer."""
    copied = copy.deepcopy(branch).eval()
    for part in copied.modules():
        if isinstance(part, Conv):
            part.conv = fuse_conv_bn_eval(part.conv, part.norm)
            part.norm = nn.Identity()  # type: ignore[assignment]
    return copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def film_pool(
    branch: LiteBranch, camera: Camera, settings: PictureSettings, frozen: int, clips: int, report: Report
) -> Pool:
    """Film so many clips and put them through the frozen layers."""
    fast = fused(branch)
    below, place, emotion = [], [], []
    for done in range(0, clips, settings.batch):
        batch = camera.batch(settings.batch)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            made = fast.lower(batch.frames.flatten(0, 1), frozen)
        below.append(made.view(settings.batch, settings.ticks, *made.shape[1:]).half().contiguous())
        place.append(batch.place)
        emotion.append(batch.emotion)
        report("film", done / clips, {"clips": done})
    return Pool(torch.cat(below), torch.cat(place), torch.cat(emotion), np.random.default_rng(settings.batch))


def train_fusion(
    network: Network,
    spec: ModelSpec,
    pairs: Pairs,
    settings: FusionSettings,
    report: Report,
    keep: Keeper | None = None,
    held: Pairs | None = None,
) -> None:
    """Stage three: everything above the branches, on composed pairs of their features.

    The branches' own heads have learned in their stages; here they learn only where the fusion uses them.
    held  of held-out groups, to end early by
    """
    absent: Any = network.absent
    learned = nn.ModuleList([network.fusion, nn.ParameterList([absent])]).train()
    names = [head.name for head in spec.heads]

    def loss_on(batch: PairBatch) -> Tensor:
        gone = absent.split(network.dims)
        features = [
            torch.where(batch.present[:, m, None], one, gone[m])[:, None]
            for m, one in enumerate(batch.features)
        ]
        logits = dict(zip(names, network.fusion(features, batch.present), strict=True))
        smoothing = settings.smoothing if learned.training else 0.0
        losses = [
            masked_cross_entropy(logits[name], batch.targets(name)[:, None], None, smoothing)
            for name in ("scene", "emotion")
        ]
        if "sound" in logits:
            asked = batch.asked[:, None]
            losses.append(SOUND_WEIGHT * masked_sigmoid(logits["sound"], batch.sounds[:, None], asked))
        return torch.stack(losses).sum()

    if keep is not None:
        keep.rngs = (pairs.rng,)
    check = None if held is None else held_out(partial(held.batch, settings.batch), loss_on)
    run_stage(
        "fusion", learned, [(list(learned.parameters()), 1.0)], settings,
        lambda _: loss_on(pairs.batch(settings.batch)), report, keep=keep, check=check,
    )  # fmt: skip
