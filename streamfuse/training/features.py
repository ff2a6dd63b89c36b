"""Log-mel spectra for training, and the step from them to the MFCC that the model hears.

The caches hold log-mel spectra and not MFCC, because noise can be mixed and bands can be masked in
them; `mfcc_from_log_mel` is exactly the second half of `streamfuse.kernels.mfcc` (a test holds both
together), so that training and running can not disagree.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamfuse.kernels.spec import MfccSpec

F32 = npt.NDArray[np.float32]


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


@lru_cache(maxsize=8)
def mel_filters(spec: MfccSpec) -> Tensor:
    """HTK triangles without area norm, (n_fft // 2 + 1, n_mels) float32."""
    low, high = _mel(np.array([spec.f_min, spec.f_max], dtype=np.float64))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, spec.n_mels + 2) / 2595.0) - 1.0)
    bins = np.arange(spec.n_fft // 2 + 1) * (spec.sample_rate / spec.n_fft)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32))


@lru_cache(maxsize=8)
def dct_matrix(spec: MfccSpec) -> Tensor:
    """The orthonormal DCT-II, (n_mels, n_mfcc) float32."""
    n = np.arange(spec.n_mels) + 0.5
    basis = np.cos(math.pi / spec.n_mels * n[:, None] * np.arange(spec.n_mfcc)) * math.sqrt(2.0 / spec.n_mels)
    basis[:, 0] *= math.sqrt(0.5)
    return torch.from_numpy(basis.astype(np.float32))


def log_mel(samples: F32, spec: MfccSpec) -> F32:
    """Return the log-mel spectrum of a whole clip, zeros before its start.

    samples  (n,) float32 in [-1, 1]
    returns  (n // hop_length, n_mels) float32; frame i ends at sample (i + 1) * hop_length
    """
    frames = len(samples) // spec.hop_length
    if frames == 0:
        return np.empty((0, spec.n_mels), np.float32)
    padded = torch.from_numpy(samples[: frames * spec.hop_length]).float()
    padded = torch.nn.functional.pad(padded, (spec.n_fft - spec.hop_length, 0))
    window = torch.hann_window(spec.win_length, periodic=True)
    spectrum = torch.stft(
        padded, spec.n_fft, spec.hop_length, spec.win_length, window, center=False, return_complex=True
    )
    power = spectrum.real.square() + spectrum.imag.square()
    bands: F32 = torch.log((power.T @ mel_filters(spec)).clamp_min(spec.log_floor)).numpy()
    return bands


def mfcc_from_log_mel(bands: Tensor, spec: MfccSpec) -> Tensor:
    """(..., n_mels) log-mel -> (..., n_mfcc) MFCC."""
    return bands @ dct_matrix(spec).to(bands.device)
