"""Stage one of a folder of recordings: the sound branch and its heads."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.kernels.spec import MfccSpec
from streamfuse.model.audio import AudioBranch
from streamfuse.model.gru_sound import GruSound
from streamfuse.model.network import Network
from streamfuse.model.spec import ModelSpec
from streamfuse.training.branches import branch_state, heads_of
from streamfuse.training.datasets.meaning import FEELINGS
from streamfuse.training.features import mfcc_from_log_mel
from streamfuse.training.losses import masked_cross_entropy, masked_sigmoid
from streamfuse.training.placing import moved
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import Groups, Report, learn
from streamfuse.training.settings import SoundSettings
from streamfuse.training.sound import SoundBatch, SoundMixer

FEELING_WEIGHT, PLACE_WEIGHT, SOUND_WEIGHT = 0.5, 0.5, 10.0
"""Beside an emotion loss of weight 1. Sounds are a mean over eleven labels, most of them not there."""
SCENE_FRAMES = 70
"""A place is asked for more and more surely over this many frames of sound."""
MEMORY_FRAMES = (50.0, 200.0)
"""The longest memory of the LSTM's layers at the start, the last layer's last."""


def set_sound_statistics(network: Network, mixer: SoundMixer, spec: MfccSpec, streams: int = 256) -> None:
    """Whiten by the mean and deviation of what training will hear, noise and silence included."""
    heard = mfcc_from_log_mel(mixer.batch(streams).bands, spec).flatten(0, 1)
    network.audio.set_statistics(heard)


def remember_long(layers: nn.LSTM | nn.GRU) -> None:
    """Begin with gates that remember for 2 frames to 2 s, and not for three frames as they would.

    A voice is judged over seconds, 100 frames each; gradients do not find that far back by themselves.
    Source: Tallec and Ollivier, "Can recurrent neural networks warp time?" (arXiv 1804.11188).
    """
    size = layers.hidden_size
    with torch.no_grad():
        for layer, longest in enumerate(MEMORY_FRAMES[-layers.num_layers :]):
            bias = getattr(layers, f"bias_hh_l{layer}")
            memory = torch.log(torch.empty(size).uniform_(1.0, longest))
            bias.zero_()
            # An LSTM's second gate keeps, its first one lets in; a GRU's second does both.
            if isinstance(layers, nn.LSTM):
                bias[:size] = -memory
            bias[size : 2 * size] = memory
            getattr(layers, f"bias_ih_l{layer}").zero_()


class Hearing:
    """The sound branch, its heads, and one for all feelings that goes with the stage; and their loss."""

    def __init__(
        self, network: Network, spec: ModelSpec, settings: SoundSettings, dropout: float, device: str
    ) -> None:
        self.audio, self.heads = network.audio, heads_of(network, len(spec.views), spec)
        self.feelings = nn.Linear(self.audio.features, len(FEELINGS))
        if isinstance(self.audio, AudioBranch):
            # One step a frame; the other branch makes one a tick, and needs no help to look back.
            remember_long(self.audio.gru if isinstance(self.audio, GruSound) else self.audio.lstm)
        self.learned = nn.ModuleList([self.audio, self.feelings, *self.heads.values()]).train().to(device)
        self.spec, self.settings, self.dropout, self.device = spec, settings, dropout, device
        frames = spec.frames_per_tick
        self.ends = torch.arange(settings.ticks, device=device) * frames + frames - 1
        self.sure = ((self.ends - 20.0) / (SCENE_FRAMES - 20.0)).clamp(0.0, 1.0)

    @property
    def groups(self) -> Groups:
        return [(list(self.learned.parameters()), 1.0)]

    def loss(self, batch: SoundBatch) -> Tensor:
        batch = moved(batch, self.device)
        training, ends = self.learned.training, self.ends
        y = F.dropout(self._features(batch), self.dropout, training)
        heard, smoothing = batch.heard[:, ends], self.settings.smoothing if training else 0.0
        loss = masked_cross_entropy(self.heads["emotion"](y), batch.emotion[:, ends], heard, smoothing)
        feeling = masked_cross_entropy(self.feelings(y), batch.feeling[:, ends], heard, smoothing)
        loss = loss + FEELING_WEIGHT * feeling
        asked = self.sure.expand(self.settings.batch, -1)
        place = batch.place[:, None].expand(-1, self.settings.ticks)
        loss = loss + PLACE_WEIGHT * masked_cross_entropy(self.heads["scene"](y), place, asked, smoothing)
        if "sound" in self.heads:
            target = batch.sounds[:, None].expand(-1, self.settings.ticks, -1)
            weight = asked * batch.asked[:, None]
            loss = loss + SOUND_WEIGHT * masked_sigmoid(self.heads["sound"](y), target, weight)
        return loss

    def _features(self, batch: SoundBatch) -> Tensor:
        """(B, ticks, F), in chunks through which the state is carried, detached."""
        settings, frames = self.settings, self.spec.frames_per_tick
        mfcc = mfcc_from_log_mel(batch.bands, self.spec.audio)
        state = branch_state(self.audio.state_shapes(), settings.batch, self.device)
        parts = []
        for start in range(0, settings.ticks, settings.chunk_ticks):
            some = mfcc[:, start * frames : (start + settings.chunk_ticks) * frames]
            state = [one.detach() for one in state]
            feature, state = self.audio.clip(some, some.size(1) // frames, state)
            parts.append(feature)
        return torch.cat(parts, 1)


def train_sound(
    network: Network,
    spec: ModelSpec,
    mixer: SoundMixer,
    settings: SoundSettings,
    dropout: float,
    report: Report,
    keep: Keeper | None = None,
    held: SoundMixer | None = None,
    device: str = "cpu",
) -> None:
    """Learn to hear. held: of held-out groups, to end early by. The network is left on the CPU."""
    draw = partial(mixer.batch, settings.batch)
    looked = None if held is None else partial(held.batch, settings.batch)
    stage = Hearing(network, spec, settings, dropout, device)
    learn("sound", stage, draw, settings, report, rng=mixer.rng, keep=keep, held=looked)
    network.cpu()
