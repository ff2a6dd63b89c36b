"""Streams of sound to learn from: speech and scenery, mixed and bent in the log-mel domain.

A stream is a few seconds. Power adds in each band, so mixing is logaddexp; gain is a constant, a
microphone a slow curve over the bands, another voice a stretch of the band axis. Nothing here knows
what is later: the targets say from which frame on an answer can be expected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from streamfuse.kernels.spec import MfccSpec
from streamfuse.training.cache import SoundCache
from streamfuse.training.datasets.meaning import (
    EMOTIONS,
    FEELINGS,
    SOUND_PLACES,
    SOUNDS,
    emotion_index,
)
from streamfuse.training.datasets.recordings import Part

F32 = npt.NDArray[np.float32]
NATS_PER_DB = np.log(10.0) / 10.0
FLOOR = float(np.log(1e-10))
"""The log-mel of digital silence."""
SPEECH_SHARE, SILENCE_SHARE = 0.62, 0.03
BACKGROUND_SHARE, SECOND_SOUND_SHARE = 0.3, 0.2
THROATS, PACES = (0.85, 1.15), (0.85, 1.18)
"""How far the bands and the time of a voice are stretched: speakers are few, and of few kinds."""
LEAST_SNR_TO_HEAR_DB = 10.0
"""Speech further above its background than this: nobody is asked what the background is."""
ONSET_FRAMES = 50.0
"""An answer about a voice is expected to become sure over this time after it begins."""
HELD_FRAMES = 40
"""And to stay for this long after it ends."""
SILENT_FRAMES = 20
"""Nobody is heard for this long: `none`."""
IGNORED = -1


@dataclass(frozen=True, slots=True)
class SoundBatch:
    """B streams of T frames. A target of -1 and a weight of 0 are left out of the loss.

    bands    (B, T, n_mels) log-mel
    emotion  (B, T) class of the emotion head; feeling (B, T) of FEELINGS; heard (B, T) their weight
    place    (B,); sounds (B, len(SOUNDS)) several at once; asked (B,) weight of the sounds
    """

    bands: Tensor
    emotion: Tensor
    feeling: Tensor
    heard: Tensor
    place: Tensor
    sounds: Tensor
    asked: Tensor


def warp(bands: F32, over_bands: float, over_time: float) -> F32:
    """Stretch log-mel (T, M) along its bands (a longer or shorter throat) and in time (a slower talker)."""
    frames = max(8, int(len(bands) * over_time))
    theta = torch.tensor([[[over_bands, 0.0, over_bands - 1.0], [0.0, 1.0, 0.0]]])
    grid = F.affine_grid(theta, [1, 1, frames, bands.shape[1]], align_corners=True)
    image = torch.from_numpy(bands)[None, None]
    bent: F32 = F.grid_sample(image, grid, padding_mode="border", align_corners=True)[0, 0].numpy()
    return bent


def active(bands: F32) -> tuple[int, int]:
    """First and last frame within 30 dB of the loudest."""
    level = np.logaddexp.reduce(bands, axis=1)
    loud = np.flatnonzero(level > level.max() - 30.0 * NATS_PER_DB)
    return int(loud[0]), int(loud[-1])


def loudness(bands: F32) -> float:
    return float(np.logaddexp.reduce(bands, axis=None) - np.log(bands.size))


class SoundMixer:
    """Draws streams from one part of a cache; the same seed, the same streams."""

    def __init__(
        self, cache: SoundCache, spec: MfccSpec, frames: int, seed: int, part: Part = "train"
    ) -> None:
        self.cache, self.spec, self.frames = cache, spec, frames
        self.rng = np.random.default_rng(seed)
        self.speech: dict[tuple[str, str], list[int]] = {}
        self.scenery: dict[str, list[int]] = {}
        for index, row in enumerate(cache.rows):
            if row.part != part or cache.length(index) < SILENT_FRAMES:
                continue
            if row.kind == "speech":
                self.speech.setdefault((row.source, row.label), []).append(index)
            else:
                self.scenery.setdefault(row.label, []).append(index)
        self.voices = [key for key in self.speech if key[1] in FEELINGS]
        self.voice_odds = _odds([1.0 if emotion_index(key[1]) > 0 else 0.35 for key in self.voices])
        self.labels = list(self.scenery)
        self.label_odds = _odds(
            [3.0 if one in SOUNDS else 1.0 if one in SOUND_PLACES else 0.5 for one in self.labels]
        )

    def batch(self, streams: int) -> SoundBatch:
        rows = [self.stream() for _ in range(streams)]
        return SoundBatch(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))

    def stream(self) -> tuple[npt.NDArray[np.generic], ...]:
        """One row of a SoundBatch."""
        self.emotion = np.full(self.frames, IGNORED)
        self.feeling = np.full(self.frames, IGNORED)
        self.heard = np.zeros(self.frames, np.float32)
        self.place, self.asked = IGNORED, 1.0
        self.sounds = np.zeros(len(SOUNDS), np.float32)
        bands = self._room()
        drawn = self.rng.random()
        if drawn < SPEECH_SHARE and self.voices:
            bands = self._speak(bands)
        elif drawn < 1.0 - SILENCE_SHARE and self.labels:
            bands = np.logaddexp(bands, self._scene())
            self._nobody()
        else:
            self._nobody()
        return (
            self._microphone(bands), self.emotion, self.feeling, self.heard,
            np.array(self.place), self.sounds, np.array(self.asked, np.float32),
        )  # fmt: skip

    def _nobody(self) -> None:
        self.emotion[SILENT_FRAMES:] = EMOTIONS.index("none")
        self.heard[SILENT_FRAMES:] = 0.6

    def _room(self) -> F32:
        """The noise of a room and its electronics, or digital silence."""
        rng, shape = self.rng, (self.frames, self.spec.n_mels)
        if rng.random() < 0.5:
            return np.full(shape, FLOOR, np.float32)
        slope = np.linspace(0.0, rng.normal(-2.0, 2.0), shape[1])
        hiss = 0.7 * np.log(rng.exponential(1.0, shape) + 1e-3)
        return (rng.normal(-19.0, 3.0) + slope + hiss).astype(np.float32)

    def _draw_scenery(self) -> int:
        chosen = self.scenery[self.labels[self.rng.choice(len(self.labels), p=self.label_odds)]]
        odds = _odds([np.sqrt(self.cache.length(index)) for index in chosen])
        return chosen[self.rng.choice(len(chosen), p=odds)]

    def _crop(self, index: int) -> F32:
        """As many frames as a stream has, from anywhere in the recording, repeated where it is shorter."""
        bands = self.cache.bands(index)
        if len(bands) < self.frames:
            bands = np.concatenate([bands] * (self.frames // len(bands) + 1))
        start = self.rng.integers(0, len(bands) - self.frames + 1)
        return bands[start : start + self.frames]

    def _name(self, index: int) -> None:
        """Add what this recording is to the targets."""
        label = self.cache.rows[index].label
        if label in SOUNDS:
            self.sounds[SOUNDS.index(label)] = 1.0
        self.place = SOUND_PLACES.get(label, IGNORED)

    def _scene(self) -> F32:
        rng, index = self.rng, self._draw_scenery()
        bands = self._crop(index)
        if rng.random() < 0.5:
            bands = warp(bands, rng.uniform(*THROATS), 1.0)
        bands = bands + np.float32(rng.normal(0.0, 1.5))
        self._name(index)
        if rng.random() < SECOND_SOUND_SHARE:
            first, other = self.place, self._draw_scenery()
            more = self._crop(other)
            level = loudness(bands) - loudness(more) + rng.uniform(-6.0, 6.0) * NATS_PER_DB
            bands = np.logaddexp(bands, more + np.float32(level))
            self._name(other)
            self.place = first if self.place == first else IGNORED
        return bands

    def _speak(self, room: F32) -> F32:
        """Put a voice into the room, sometimes with a scene around it."""
        rng = self.rng
        key = self.voices[rng.choice(len(self.voices), p=self.voice_odds)]
        index = self.speech[key][rng.integers(len(self.speech[key]))]
        voice = warp(self.cache.bands(index), rng.uniform(*THROATS), rng.uniform(*PACES))
        voice = voice + np.float32(rng.normal(0.0, 1.2))
        first, last = active(voice)
        cut = int(rng.integers(0, first + 1)) if rng.random() < 0.7 else 0
        start = int(rng.integers(0, 50)) if rng.random() < 0.4 else 0
        voice = voice[cut : cut + self.frames - start]
        end = start + len(voice)
        bands = room.copy()
        bands[start:end] = np.logaddexp(bands[start:end], voice)
        self._hear(key[1], start + first - cut, min(start + last - cut, self.frames - 1))
        if rng.random() < BACKGROUND_SHARE and self.labels:
            bands = self._surround(bands, voice)
        return bands

    def _hear(self, label: str, first: int, last: int) -> None:
        frame = np.arange(self.frames)
        sure = np.clip((frame - first) / ONSET_FRAMES, 0.0, 1.0) * (frame <= last + HELD_FRAMES)
        self.heard = sure.astype(np.float32)
        self.feeling[sure > 0] = FEELINGS.index(label)
        self.emotion[sure > 0] = emotion_index(label)
        before = (frame > SILENT_FRAMES) & (frame < first - 5)
        self.emotion[before] = EMOTIONS.index("none")
        self.heard[before] = 0.15

    def _surround(self, bands: F32, voice: F32) -> F32:
        index = self._draw_scenery()
        scene = self._crop(index)
        snr = self.rng.uniform(3.0, 30.0)
        level = loudness(voice) - loudness(scene) - snr * NATS_PER_DB
        if snr < LEAST_SNR_TO_HEAR_DB:
            self._name(index)
            self.asked = 0.5
        else:
            self.asked = 0.0
        mixed: F32 = np.logaddexp(bands, scene + np.float32(level))
        return mixed

    def _microphone(self, bands: F32) -> F32:
        """A microphone's curve, a gain, and SpecAugment's masks over bands (arXiv 1904.08779)."""
        rng, count = self.rng, bands.shape[1]
        if rng.random() < 0.5:
            x = np.linspace(-1.0, 1.0, count)
            ripple = np.cos(np.pi * (x * rng.uniform(0.5, 2.0) + rng.uniform(0.0, 2.0)))
            curve = rng.normal(0.0, 0.6) * x + rng.normal(0.0, 0.5) * ripple
            bands = bands + curve.astype(np.float32)
        bands = bands + np.float32(rng.normal(0.0, 1.0))
        for _ in range(2):
            wide = int(rng.integers(0, 8))
            low = int(rng.integers(0, count - wide + 1))
            if wide and rng.random() < 0.5:
                bands[:, low : low + wide] = bands[:, low : low + wide].mean()
        return np.maximum(bands, FLOOR).astype(np.float32)


def _odds(weights: list[float]) -> npt.NDArray[np.float64]:
    odds = np.asarray(weights, np.float64)
    return odds / odds.sum() if odds.size else odds
