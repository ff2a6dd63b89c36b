"""Stage two of a folder of recordings: the picture branch and its heads.

A pretrained branch keeps its lowest layers. What they make of a pool of clips is computed once; the layers
above learn from that, slowly, and only the new ones at the full rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.model.network import Network
from streamfuse.model.spec import ModelSpec
from streamfuse.training.branches import branch_state, fused, heads_of, keep_statistics
from streamfuse.training.losses import masked_cross_entropy
from streamfuse.training.motion import Camera
from streamfuse.training.placing import in_bfloat16, moved
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import HELD_OUT_BATCHES, Groups, Report, learn
from streamfuse.training.settings import PictureSettings

FRAME = 0
"""The view that pictures are learned for."""
Filmed = tuple[Tensor, Tensor, Tensor]
"""What is shown (pictures, or what the frozen layers made of them), its places and its emotions."""


class Seeing:
    """The picture branch above its frozen layers, its heads, and their loss."""

    def __init__(
        self, network: Network, spec: ModelSpec, settings: PictureSettings, dropout: float, device: str
    ) -> None:
        self.branch, self.heads = network.videos[FRAME].to(device), heads_of(network, FRAME, spec)
        self.frozen = settings.frozen_blocks if spec.preset == "lite" else 0
        self.settings, self.dropout, self.device, self.size = settings, dropout, device, network.size
        below = [] if self.frozen else [self.branch.stem]
        self.trunk = nn.ModuleList([*below, *self.branch.blocks[self.frozen :]])
        self.new = nn.ModuleList([self.branch.last, *self.heads.values()]).to(device)
        self.learned = nn.ModuleList([*self.trunk, *self.new])
        if self.frozen:
            keep_statistics(self.learned)
            self.branch.last.train()
        else:
            self.learned.train()

    @property
    def groups(self) -> Groups:
        share = self.settings.trunk_rate if self.frozen else 1.0
        return [(list(self.trunk.parameters()), share), (list(self.new.parameters()), 1.0)]

    def loss(self, batch: Filmed) -> Tensor:
        shown, wanted_place, wanted_emotion = moved(batch, self.device)
        settings, training = self.settings, self.learned.training
        state = branch_state(self.branch.state_shapes(self.size), settings.batch, self.device)
        with in_bfloat16(self.device, settings.bfloat16):
            if self.frozen:
                feature, _fresh = self.branch.upper(shown, self.frozen, state)
            else:
                feature, _fresh = self.branch.clip(shown, state)
        y = F.dropout(feature.float(), self.dropout, training)
        smoothing = settings.smoothing if training else 0.0
        place = wanted_place[:, None].expand(-1, settings.ticks)
        emotion = wanted_emotion[:, None].expand(-1, settings.ticks)
        loss = masked_cross_entropy(self.heads["scene"](y), place, None, smoothing)
        return loss + masked_cross_entropy(self.heads["emotion"](y), emotion, None, smoothing)

    def source(self, camera: Camera, clips: int, report: Report) -> Pool | Film:
        """What batches are drawn from: so many clips behind the frozen layers, or the camera itself."""
        if not self.frozen:
            return Film(camera)
        below, place, emotion = [], [], []
        fast, batch = fused(self.branch), self.settings.batch
        for done in range(0, clips, batch):
            filmed = camera.batch(batch)
            shown = moved(filmed.frames, self.device).flatten(0, 1)
            with torch.no_grad(), in_bfloat16(self.device, self.settings.bfloat16):
                made = fast.lower(shown, self.frozen)
            below.append(made.view(batch, self.settings.ticks, *made.shape[1:]).half().cpu().contiguous())
            place.append(filmed.place)
            emotion.append(filmed.emotion)
            report("film", done / clips, {"clips": done})
        rng = np.random.default_rng(batch)
        return Pool(torch.cat(below), torch.cat(place), torch.cat(emotion), rng)


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


@dataclass(frozen=True, slots=True)
class Film:
    """A camera, for what has no frozen layers."""

    camera: Camera

    @property
    def rng(self) -> np.random.Generator:
        return self.camera.rng

    def batch(self, clips: int) -> Filmed:
        batch = self.camera.batch(clips)
        return batch.frames, batch.place, batch.emotion


def train_picture(
    network: Network,
    spec: ModelSpec,
    camera: Camera,
    settings: PictureSettings,
    dropout: float,
    report: Report,
    keep: Keeper | None = None,
    held: Camera | None = None,
    device: str = "cpu",
) -> None:
    """Learn to see. held: of held-out groups, to end early by. The network is left on the CPU."""
    stage = Seeing(network, spec, settings, dropout, device)
    source = stage.source(camera, settings.pool, report)
    draw, looked = partial(source.batch, settings.batch), None
    if held is not None:
        pool = stage.source(held, HELD_OUT_BATCHES * settings.batch, report)
        looked = partial(pool.batch, settings.batch)
    learn("picture", stage, draw, settings, report, rng=source.rng, keep=keep, held=looked)
    network.cpu()
