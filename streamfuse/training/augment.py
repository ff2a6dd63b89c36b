"""What training does to sound and pictures so that a model does not learn them by heart.

Sound is bent as a wave by torchaudio: speed, a room, noise; then SpecAugment masks its spectrum. Pictures
of one stream are bent alike in all its ticks, for a camera does not jump; but one
before a still moves. All of it is causal.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional as audio
from torch import Tensor

from streamfuse.training.motion import camera_path, encoded, looked_at
from streamfuse.types import F32, SAMPLE_RATE

LEAST_REVERBERATION_S, MOST_REVERBERATION_S = 0.1, 0.6
LEAST_SNR_DB, MOST_SNR_DB = 0.0, 30.0
WIDEST_BAND_MASK, LONGEST_TIME_MASK = 8, 20


def faster(wave: F32, factor: float) -> F32:
    """Played at `factor` times its speed (and pitch), in steps of a hundredth."""
    rate = round(100 * factor)
    if rate == 100:
        return wave
    changed: F32 = audio.resample(torch.from_numpy(wave), rate, 100, lowpass_filter_width=4).numpy()
    return changed


def in_a_room(wave: F32, rng: np.random.Generator) -> F32:
    """Convolved with decaying noise: the direct sound first, then a room of 0.1 to 0.6 s."""
    decay_s = rng.uniform(LEAST_REVERBERATION_S, MOST_REVERBERATION_S)
    t = np.arange(int(decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    # 60 dB down at the end.
    response = rng.normal(size=len(t)) * np.exp(-math.log(1000.0) * t / decay_s)
    response *= rng.uniform(0.2, 0.8) / max(float(np.sqrt((response**2).sum())), 1e-9)
    response[0] = 1.0
    echo = audio.fftconvolve(torch.from_numpy(wave), torch.from_numpy(response.astype(np.float32)))
    heard: F32 = echo[: len(wave)].numpy()
    return heard


def with_noise(wave: F32, rng: np.random.Generator) -> F32:
    """Noise of some colour, 0 to 30 dB below the sound; silence stays silent."""
    if not float(np.abs(wave).max()):
        return wave
    # White, pink or brown, shaped by its spectrum: a recursive filter in torchaudio without its native
    # library takes two seconds for one of sound.
    slope = float(rng.choice([0.0, 0.5, 1.0]))
    spectrum = np.fft.rfft(rng.normal(size=len(wave)))
    shaped = spectrum * np.maximum(np.arange(len(spectrum)), 1.0) ** -slope
    coloured = torch.from_numpy(np.fft.irfft(shaped, len(wave)).astype(np.float32))
    snr = torch.tensor(rng.uniform(LEAST_SNR_DB, MOST_SNR_DB), dtype=torch.float32)
    mixed: F32 = audio.add_noise(torch.from_numpy(wave), coloured, snr).numpy()
    return mixed


def spec_augment(bands: Tensor, masks: int, rng: np.random.Generator) -> Tensor:
    """Mask up to `masks` runs of bands and of frames of log-mel (T, M) by its mean (arXiv 1904.08779)."""
    bands = bands.clone()
    mean = float(bands.mean())
    for _ in range(masks):
        wide, long = int(rng.integers(0, WIDEST_BAND_MASK)), int(rng.integers(0, LONGEST_TIME_MASK))
        low = int(rng.integers(0, max(1, bands.size(1) - wide)))
        start = int(rng.integers(0, max(1, bands.size(0) - long)))
        bands[:, low : low + wide] = mean
        bands[start : start + long] = mean
    return bands


def camera(pictures: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """(T, C, S, S) in [0, 1] -> (T, C, size, size): one crop, mirror, light, noise and encoder for all ticks.

    A still is filmed by a camera that moves: what never moves would be learned as a sign of what it shows.
    """
    if len(pictures) > 1 and bool((pictures == pictures[:1]).all()):
        seen = looked_at(pictures, camera_path(rng, 1, len(pictures)), size)
    else:
        seen = cropped(pictures, size, rng)
    gain, offset = math.exp(rng.normal(0.0, 0.25)), rng.normal(0.0, 0.05)
    seen = (seen - 0.5) * gain + 0.5 + offset
    level = float(rng.choice([0.0, 0.01, 0.03, 0.07], p=[0.4, 0.3, 0.2, 0.1]))
    if level:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        seen = seen + level * torch.randn(seen.shape, generator=generator)
    return encoded(seen.clamp(0.0, 1.0), rng)


def cropped(pictures: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """One crop and mirror for all ticks."""
    side = pictures.size(-1)
    wide = int(rng.integers(round(0.75 * side), side + 1))
    x, y = (int(rng.integers(0, side - wide + 1)) for _ in range(2))
    seen = pictures[:, :, y : y + wide, x : x + wide]
    if wide != size:
        seen = F.interpolate(seen, (size, size), mode="bilinear", antialias=wide > size)
    return seen.flip(-1) if rng.random() < 0.5 else seen
