"""The constants of an MFCC definition: computed in float64, rounded once, kept for a few specs."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamfuse.kernels.spec import MfccSpec
from streamfuse.types import F32

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]


class MfccTables(NamedTuple):
    """What the twins read.

    taper_at   where the window begins in the frame (int)
    taper      (even length,) float64: the window, halved: the real transform's 1/2 is in it
    twiddle    (n_fft / 2, 2) float64: cos, -sin of 2 pi k / (n_fft / 2)
    order      (n_fft / 2,) where bin k lies after the transform
    turn       (n_fft / 4 + 1, 2) float64: cos, sin of 2 pi k / n_fft
    first_bin  (n_mels,) first bin with weight in each band
    weight_at  (n_mels + 1,) where its weights begin in weights
    cosines    (n_mfcc rounded up to 4, n_mels) DCT-II, padded with zeros
    """

    taper_at: int
    taper: F64
    twiddle: F64
    order: I32
    turn: F64
    first_bin: I32
    weight_at: I32
    weights: F32
    log_floor: np.float32
    cosines: F32


def hann_in_frame(spec: MfccSpec) -> F64:
    """Periodic Hann window of win_length in the middle of n_fft, zeros around it."""
    window = np.zeros(spec.n_fft)
    left = (spec.n_fft - spec.win_length) // 2
    angle = 2 * np.pi * np.arange(spec.win_length) / spec.win_length
    window[left : left + spec.win_length] = 0.5 - 0.5 * np.cos(angle)
    return window


def mel_matrix(spec: MfccSpec) -> F64:
    """(n_mels, n_fft / 2 + 1): HTK triangles of height 1, equally spaced in 2595 log10(1 + f / 700)."""
    low_mel, high_mel = (2595 * np.log10(1 + f / 700) for f in (spec.f_min, spec.f_max))
    mels = np.linspace(low_mel, high_mel, spec.n_mels + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.arange(spec.n_fft // 2 + 1) * spec.sample_rate / spec.n_fft
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


def cosine_matrix(spec: MfccSpec) -> F64:
    """(n_mfcc, n_mels): orthonormal DCT-II."""
    k, m = np.arange(spec.n_mfcc)[:, None], np.arange(spec.n_mels)[None]
    matrix = np.cos(np.pi * k * (2 * m + 1) / (2 * spec.n_mels)) * np.sqrt(2 / spec.n_mels)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


@lru_cache(maxsize=8)  # one per loaded model; a process has one or two
def mfcc_tables(spec: MfccSpec) -> MfccTables:
    half = spec.n_fft // 2
    window = hann_in_frame(spec)
    left = (spec.n_fft - spec.win_length) // 2
    right = left + spec.win_length + spec.win_length % 2
    if right > spec.n_fft:  # an odd window that fills the frame: one zero before it instead
        left, right = left - 1, right - 1
    first_bin, weight_at, weights = _sparse(mel_matrix(spec))
    cosines = np.zeros((-(-spec.n_mfcc // 4) * 4, spec.n_mels), np.float32)
    cosines[: spec.n_mfcc] = cosine_matrix(spec)
    return MfccTables(
        left, 0.5 * window[left:right], _circle(half, half, -1), _digit_order(half),
        _circle(spec.n_fft, half // 2 + 1, 1), first_bin, weight_at, weights, np.float32(spec.log_floor),
        cosines,
    )  # fmt: skip


def _circle(n: int, count: int, sign: int) -> F64:
    angle = 2 * np.pi * np.arange(count) / n
    return np.stack([np.cos(angle), sign * np.sin(angle)], axis=1)


def _digit_order(n: int) -> I32:
    """Where each bin lies after radix-4 stages (and one of radix 2), decimated in frequency."""
    order = np.zeros(n, np.int32)
    for k in range(n):
        rest, size, place = k, n, 0
        while size > 1:
            radix = 4 if size >= 4 else 2
            size //= radix
            place += (rest % radix) * size
            rest //= radix
        order[k] = place
    return order


def _sparse(matrix: F64) -> tuple[I32, I32, F32]:
    firsts, ats, weights = [], [0], []
    for row in matrix:
        used = np.flatnonzero(row)
        first, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        firsts.append(first)
        weights.append(row[first:stop])
        ats.append(ats[-1] + stop - first)
    flat = np.concatenate(weights).astype(np.float32)
    return np.array(firsts, np.int32), np.array(ats, np.int32), flat
