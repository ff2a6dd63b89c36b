"""The last stage of a folder of recordings: everything above the branches, on pairs composed by label."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from streamfuse.model.network import Network
from streamfuse.model.spec import ModelSpec
from streamfuse.training.hearing import SOUND_WEIGHT
from streamfuse.training.losses import masked_cross_entropy, masked_sigmoid
from streamfuse.training.pairs import PairBatch, Pairs
from streamfuse.training.placing import moved
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import Groups, Report, learn
from streamfuse.training.settings import FusionSettings


class Joining:
    """The fusion and the absence vectors, and their loss on features of the branches, which stand still.

    The branches' own heads have learned in their stages; here they learn only where the fusion uses them.
    """

    def __init__(self, network: Network, spec: ModelSpec, settings: FusionSettings, device: str) -> None:
        network.to(device)
        self.network, self.settings, self.device = network, settings, device
        absent: Any = network.absent
        self.learned = nn.ModuleList([network.fusion, nn.ParameterList([absent])]).train()
        self.names = [head.name for head in spec.heads]

    @property
    def groups(self) -> Groups:
        return [(list(self.learned.parameters()), 1.0)]

    def loss(self, batch: PairBatch) -> Tensor:
        batch = moved(batch, self.device)
        gone = torch.split(self.network.absent, self.network.dims)
        features = [
            torch.where(batch.present[:, m, None], one, gone[m])[:, None]
            for m, one in enumerate(batch.features)
        ]
        logits = dict(zip(self.names, self.network.fusion(features, batch.present), strict=True))
        smoothing = self.settings.smoothing if self.learned.training else 0.0
        losses = [
            masked_cross_entropy(logits[name], batch.targets(name)[:, None], None, smoothing)
            for name in ("scene", "emotion")
        ]
        if "sound" in logits:
            asked = batch.asked[:, None]
            losses.append(SOUND_WEIGHT * masked_sigmoid(logits["sound"], batch.sounds[:, None], asked))
        return torch.stack(losses).sum()


def train_fusion(
    network: Network,
    spec: ModelSpec,
    pairs: Pairs,
    settings: FusionSettings,
    report: Report,
    keep: Keeper | None = None,
    held: Pairs | None = None,
    device: str = "cpu",
) -> None:
    """Learn to do both. held: of held-out groups, to end early by. The network is left on the CPU."""
    draw = partial(pairs.batch, settings.batch)
    looked = None if held is None else partial(held.batch, settings.batch)
    stage = Joining(network, spec, settings, device)
    learn("fusion", stage, draw, settings, report, rng=pairs.rng, keep=keep, held=looked)
    network.cpu()
