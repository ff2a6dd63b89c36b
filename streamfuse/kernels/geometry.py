"""Where each pixel of the model's square comes from, and the colour matrices; all in float64.

The centre square of a picture as it is shown (pixel_aspect) is cut out at fractions of a pixel, so that
a mirrored picture gives the mirrored square. Chroma samples are taken to lie in the middle of the luma
samples they stand for; what h264 says of their siting moves them by less than a pixel of the source.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamfuse.kernels.jit import cpu_jit
from streamfuse.types import F32, Chroma, Matrix

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

SUBSAMPLING: dict[str, tuple[int, int]] = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "nv12": (2, 2)}
"""Luma samples per chroma sample: across, down."""
LUMA_SHARE: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""Share of red and of blue in luma."""


class Span(NamedTuple):
    """One axis: `size` pixels from [origin, origin + extent) of `length` samples."""

    length: int
    origin: float
    extent: float
    size: int


class Taps(NamedTuple):
    """One axis as sums: pixel j = sum over t of weights[j, t] * sample[first[j] + t].

    first    (size,) int64; first + taps never passes the end of an axis that has that many samples
    weights  (size, taps) float32
    """

    first: I64
    weights: F32


def square(width: int, height: int, pixel_aspect: tuple[int, int]) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels of the centre square of the picture as it is shown."""
    across, down = pixel_aspect
    side = min(width * across / down, height)
    wide = side * down / across
    return (width - wide) / 2, (height - side) / 2, wide, side


def spans(
    width: int, height: int, chroma: Chroma, pixel_aspect: tuple[int, int], size: int
) -> tuple[Span, Span, Span, Span]:
    """Luma across, luma down, chroma across, chroma down."""
    x, y, wide, high = square(width, height, pixel_aspect)
    sx, sy = SUBSAMPLING[chroma]
    return (
        Span(width, x, wide, size),
        Span(height, y, high, size),
        Span(-(-width // sx), x / sx, wide / sx, size),
        Span(-(-height // sy), y / sy, high / sy, size),
    )


def weight_matrix(span: Span) -> F64:
    """(size, length), the definition: area of overlap when shrinking, linear when enlarging."""
    scale = span.extent / span.size
    samples = np.arange(span.length)[None]
    if scale >= 1:
        low = (span.origin + scale * np.arange(span.size))[:, None]
        weights = np.clip(np.minimum(samples + 1, low + scale) - np.maximum(samples, low), 0, None)
    else:
        centre = span.origin + scale * (np.arange(span.size)[:, None] + 0.5) - 0.5
        weights = np.clip(1 - np.abs(samples - np.clip(centre, 0, span.length - 1)), 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@lru_cache(maxsize=64)  # at most 64 * 128 * 133 * 4 bytes at the largest picture: 4 MB
def taps(span: Span) -> Taps:
    """The matrix without its zeros, every row of one length."""
    matrix = weight_matrix(span)
    used = matrix > 1e-7
    first = used.argmax(axis=1)
    last = span.length - 1 - used[:, ::-1].argmax(axis=1)
    count = int((last - first).max()) + 1
    first = np.minimum(first, span.length - count)
    weights = np.take_along_axis(matrix, first[:, None] + np.arange(count)[None], axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    return Taps(first.astype(np.int64), np.ascontiguousarray(weights, np.float32))


def colour_terms(matrix: Matrix, full_range: bool) -> tuple[float, float, float, float, float, float]:
    """(y0, y_scale, red of Cr, green of Cb, green of Cr, blue of Cb), so that with y = (Y - y0) * y_scale
    and Cb, Cr less 128: R = y + red * Cr, G = y + green_b * Cb + green_r * Cr, B = y + blue * Cb, in [0, 1].
    """
    kr, kb = LUMA_SHARE[matrix]
    kg = 1 - kr - kb
    y0, y_span, c_span = (0.0, 255.0, 255.0) if full_range else (16.0, 219.0, 224.0)
    red, blue = 2 * (1 - kr), 2 * (1 - kb)
    return y0, 1 / y_span, red / c_span, -blue * kb / kg / c_span, -red * kr / kg / c_span, blue / c_span


@cpu_jit()
def tap_range(j, origin, scale, length):
    """First and one past the last sample under pixel j: weight_matrix's non-zeros, for one thread.

    float32 throughout, as in tap_weight: most GPUs take 32 times as long over float64. At a width of
    4096 an edge is off by at most 1/4096 of a sample.
    """
    if scale >= np.float32(1):
        low = origin + scale * np.float32(j)
        return int(low), min(int(math.ceil(low + scale)), length)  # noqa: RUF046  a float in a CUDA kernel
    first = int(_centre(j, origin, scale, length))
    return first, min(first + 2, length)


@cpu_jit()
def tap_weight(i, j, origin, scale, length):
    """Weight of sample i in pixel j: weight_matrix's entry, for one thread."""
    if scale >= np.float32(1):
        low = origin + scale * np.float32(j)
        overlap = min(np.float32(i + 1), low + scale) - max(np.float32(i), low)
        return max(overlap, np.float32(0)) / scale
    away = np.float32(i) - _centre(j, origin, scale, length)
    return max(np.float32(1) - abs(away), np.float32(0))


@cpu_jit()
def _centre(j, origin, scale, length):
    """Where pixel j's middle lies among the samples' middles, at most at the outermost."""
    centre = origin + scale * (np.float32(j) + np.float32(0.5)) - np.float32(0.5)
    return min(max(centre, np.float32(0)), np.float32(length - 1))
