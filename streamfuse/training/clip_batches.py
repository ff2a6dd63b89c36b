"""Streams to learn from: windows of clips, bent, with what is right at each tick.

Everything that is drawn comes from one generator, so that its state is all that a resumed run needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamfuse.kernels.mfcc import mfcc
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.training import augment
from streamfuse.training.clip_store import FULL, ClipStore, ClipTicks
from streamfuse.training.clip_ticks import targets_of
from streamfuse.training.datasets.clips import Clip
from streamfuse.training.features import log_mel, mfcc_from_log_mel
from streamfuse.training.settings import ClipSettings
from streamfuse.types import F32

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """B streams of T ticks; a model of clips of K frames gets K - 1 pictures more, before the first tick.

    video    (B, V, K - 1 + T, C, S, S), normalised as the frame window does it
    audio    (B, T * n, n_mfcc)
    present  (B, V + 1)
    targets  by head: (B, T, classes), NaN where not known
    """

    video: Tensor
    audio: Tensor
    present: Tensor
    targets: dict[str, Tensor]


class ClipBatches:
    """Draws batches from decoded clips; the same seed, the same batches.

    bent  False: for looking, not for learning: nothing is bent, masked or left out
    """

    def __init__(
        self,
        store: ClipStore,
        clips: Sequence[Clip],
        settings: ClipSettings,
        seed: int,
        *,
        bent: bool = True,
    ) -> None:
        self.store, self.clips, self.settings, self.bent = store, tuple(clips), settings, bent
        self.spec: ModelSpec = store.spec
        self.rng = np.random.default_rng(seed)
        self.odds = _odds(self.clips)

    def batch(self, streams: int) -> ClipBatch:
        """Streams of clips drawn at random, rare labels somewhat more often than they occur."""
        chosen = self.rng.choice(len(self.clips), streams, p=self.odds)
        return self._stacked([self._stream(self.clips[int(one)]) for one in chosen])

    def of(self, clips: Sequence[Clip]) -> ClipBatch:
        """One stream of each of these clips."""
        return self._stacked([self._stream(one) for one in clips])

    def _stacked(self, rows: list[tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]]) -> ClipBatch:
        video, audio, present, targets = zip(*rows, strict=True)
        named = {head: torch.stack([one[head] for one in targets]) for head in targets[0]}
        return ClipBatch(torch.stack(video), torch.stack(audio), torch.stack(present), named)

    def _stream(self, clip: Clip) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        ticks = self.store.read(clip)
        wanted = self.settings.ticks
        start = int(self.rng.integers(0, max(1, ticks.count - wanted + 1))) if self.bent else 0
        places = np.arange(start, start + wanted)
        inside = places < ticks.count
        targets = {
            head.name: self._target(clip, head, places, inside, ticks.count) for head in self.spec.heads
        }
        present = self._there(ticks.present[places[inside]])
        both = np.array([present[:-1].any(), present[-1]])
        fade = self._fate(both) if self.bent else np.ones(2)
        sound = self._sound(ticks, start, targets) * np.float32(fade[1])
        views = [self._pictures(ticks, places, view) for view in range(len(self.spec.views))]
        pictures = torch.stack(views) * float(fade[0])
        audio = self._mfcc(sound)
        left = np.append(np.repeat(fade[0] > 0, len(views)), fade[1] > 0)
        return pictures, audio, torch.from_numpy(present & left), targets

    def _there(self, present: Bools) -> Bools:
        """(V + 1,): what a stream of these ticks has. A face comes and goes, and counts where it is mostly
        there: the others are there if they are at all.
        """
        mostly = np.array([*(view == "face" for view in self.spec.views), False])
        return np.asarray(np.where(mostly, present.mean(0) >= 0.5, present.any(0)))

    def _target(
        self, clip: Clip, head: HeadSpec, places: npt.NDArray[np.int64], inside: Bools, n: int
    ) -> Tensor:
        marks = clip.marks_of(head.name)
        several = head.kind == "sigmoid"
        full = targets_of(marks, head.labels, n, self.spec.video.hop_ns, clip.start_ns, several)
        found = np.full((len(places), len(head.labels)), np.nan, np.float32)
        found[inside] = full[places[inside]]
        return torch.from_numpy(found)

    def _fate(self, present: Bools) -> npt.NDArray[np.float64]:
        """(pictures, sound): 0 is missing; below 1 it fades as the other stays ("softhard" dropout,
        Chumachenko et al., arXiv 2201.11095)."""
        drawn, settings = self.rng.random(), self.settings
        a = float(self.rng.uniform(0.0, 1.0))
        if not present.all():
            return np.ones(2)
        if drawn < settings.missing:
            return np.array([0.0, 1.0])
        if drawn < 2 * settings.missing:
            return np.array([1.0, 0.0])
        if self.rng.random() < settings.faded:
            # Never to nothing: what is told to be there is there.
            return np.clip([2 * a, 2 - 2 * a], 0.1, 1.0)
        return np.ones(2)

    def _sound(self, ticks: ClipTicks, start: int, targets: dict[str, Tensor]) -> F32:
        """The window's samples and the context before it, (context + T * hop,) float32."""
        spec, rng, settings = self.spec, self.rng, self.settings
        # Whole MFCC hops, so that the frames lie as those of the analyzer do.
        hop, step = spec.hop_samples, spec.audio.hop_length
        context = -(-spec.audio.context_samples // step) * step
        wanted = context + settings.ticks * hop
        factor = 1.0
        if self.bent and settings.speed and not _changes(targets):
            factor = round(float(rng.uniform(1 - settings.speed, 1 + settings.speed)), 2)
        begin = start * hop - context
        end = begin + int(wanted * factor) + 1
        taken = ticks.samples[max(begin, 0) : end].astype(np.float32) / FULL
        wave = np.concatenate([np.zeros(max(-begin, 0), np.float32), taken])
        if factor != 1.0 and len(wave):
            wave = augment.faster(wave, factor)
        wave = np.pad(wave[:wanted], (0, max(0, wanted - len(wave))))
        if self.bent and rng.random() < settings.reverberation:
            wave = augment.in_a_room(wave, rng)
        if self.bent and rng.random() < settings.noise:
            wave = augment.with_noise(wave, rng)
        gain = float(np.exp(rng.normal(0.0, 0.5))) if self.bent else 1.0
        return np.clip(wave * gain, -1.0, 1.0).astype(np.float32)

    def _mfcc(self, wave: F32) -> Tensor:
        spec = self.spec.audio
        if not (self.bent and self.settings.masks):
            return torch.from_numpy(mfcc(wave, spec)[-self._frames() :])
        bands = torch.from_numpy(log_mel(wave, spec))
        masked = augment.spec_augment(bands[-self._frames() :], self.settings.masks, self.rng)
        return mfcc_from_log_mel(masked, spec)

    def _frames(self) -> int:
        return self.settings.ticks * self.spec.frames_per_tick

    def _pictures(self, ticks: ClipTicks, places: npt.NDArray[np.int64], view: int) -> Tensor:
        """Normalised pictures of the window, and before it those that a clip model looks back on."""
        spec = self.spec.video.picture
        before = self.spec.video.frames - 1
        wanted = np.concatenate([np.arange(places[0] - before, places[0]), places])
        # As the analyzer has it: the first picture stands for those before it, and the last one is held.
        shown = np.flatnonzero(ticks.present[:, view])
        if not len(shown):
            shown = np.arange(1)
        taken = ticks.pictures[shown[np.clip(np.searchsorted(shown, wanted, "right") - 1, 0, None)], view]
        seen = torch.from_numpy(taken).float() / 255.0
        seen = augment.camera(seen, spec.size, self.rng) if self.bent else shrunk(seen, spec.size)
        shape = (1, spec.channels, 1, 1)
        mean = torch.tensor(spec.mean[: spec.channels]).view(shape)
        return (seen - mean) / torch.tensor(spec.std[: spec.channels]).view(shape)


def shrunk(pictures: Tensor, size: int) -> Tensor:
    """(T, C, S, S) to (T, C, size, size)."""
    if pictures.size(-1) == size:
        return pictures
    return torch.nn.functional.interpolate(pictures, (size, size), mode="bilinear", antialias=True)


def _changes(targets: dict[str, Tensor]) -> bool:
    """Does any label change within the window? Then sound and time must stay together."""
    return any(bool((one[1:] != one[:-1]).logical_and(~one[1:].isnan()).any()) for one in targets.values())


def _odds(clips: Sequence[Clip]) -> npt.NDArray[np.float64]:
    """Half way to balance: a clip's weight is the mean of 1 / sqrt(count) of its labels."""
    counts: dict[tuple[str, str], int] = {}
    for clip in clips:
        for mark in clip.marks:
            counts[(mark.head, mark.label)] = counts.get((mark.head, mark.label), 0) + 1
    weights = [
        float(np.mean([counts[(m.head, m.label)] ** -0.5 for m in clip.marks])) if clip.marks else 0.0
        for clip in clips
    ]
    odds = np.asarray(weights, np.float64)
    return np.asarray(odds / odds.sum())
