"""Decoded pictures of any size -> the model's normalised squares: the reference and the CPU twin.

Planes are resized as they are (area when shrinking, linear when enlarging) and the colour matrix is
applied to the few pixels that are left. Judge: swscale with AREA, same matrix and range.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from streamfuse.errors import BackendError, StageError
from streamfuse.kernels.backend import cpu_jit
from streamfuse.kernels.geometry import (
    LUMA_SHARE,
    SUBSAMPLING,
    Taps,
    colour_terms,
    spans,
    taps,
    weight_matrix,
)
from streamfuse.kernels.spec import FrameSpec
from streamfuse.types import F32, U8, Picture

__all__ = ["FrameSpec", "frame_window", "frame_window_reference"]


def frame_window_reference(picture: Picture, spec: FrameSpec) -> npt.NDArray[np.float64]:
    """The definition, in float64: (channels, size, size)."""
    across, down, chroma_across, chroma_down = (
        weight_matrix(span)
        for span in spans(picture.width, picture.height, picture.chroma, picture.pixel_aspect, spec.size)
    )
    planes = [plane.astype(np.float64) for plane in picture.planes]
    if picture.chroma == "nv12":
        planes = [planes[0], planes[1][..., 0], planes[1][..., 1]]
    y = down @ planes[0] @ across.T
    cb, cr = (chroma_down @ plane @ chroma_across.T - 128 for plane in planes[1:])
    y0, scale, red, green_b, green_r, blue = colour_terms(picture.matrix, picture.full_range)
    y = (y - y0) * scale
    if spec.colour == "luma":
        channels = y[None]
    else:
        channels = np.stack([y + red * cr, y + green_b * cb + green_r * cr, y + blue * cb])
    mean, std = (np.array(v[: spec.channels])[:, None, None] for v in (spec.mean, spec.std))
    return np.asarray((np.clip(channels, 0, 1) - mean) / std)


@intrinsic
def _bytes_at(typingctx, address):
    """The integer address as a pointer to bytes, for carray."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.uintp), codegen


@cpu_jit(fastmath={"contract", "reassoc"})
def _rows(source, stride, first_row, weights, begin, count, acc):
    """acc[x] = sum over t of weights[t] * source[(first_row + t) * stride + begin + x], x < count."""
    n = weights.shape[0]
    at = first_row * stride + begin
    if n == 1:
        r0 = source[at : at + count]
        for x in range(count):
            acc[x] = np.float32(r0[x])
        return
    w0, w1 = weights[0], weights[1]
    r0, r1 = source[at : at + count], source[at + stride : at + stride + count]
    if n == 2:
        for x in range(count):
            acc[x] = w0 * np.float32(r0[x]) + w1 * np.float32(r1[x])
        return
    w2 = weights[2]
    r2 = source[at + 2 * stride : at + 2 * stride + count]
    for x in range(count):
        acc[x] = w0 * np.float32(r0[x]) + w1 * np.float32(r1[x]) + w2 * np.float32(r2[x])
    t = 3
    while t + 4 <= n:
        at = (first_row + t) * stride + begin
        w0, w1, w2, w3 = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        r0, r1 = source[at : at + count], source[at + stride : at + stride + count]
        at += 2 * stride
        r2, r3 = source[at : at + count], source[at + stride : at + stride + count]
        for x in range(count):
            acc[x] += (w0 * np.float32(r0[x]) + w1 * np.float32(r1[x])) + (
                w2 * np.float32(r2[x]) + w3 * np.float32(r3[x])
            )
        t += 4
    while t < n:
        at = (first_row + t) * stride + begin
        w0, r0 = weights[t], source[at : at + count]
        for x in range(count):
            acc[x] += w0 * np.float32(r0[x])
        t += 1


@cpu_jit(fastmath={"contract", "reassoc"})
def _columns(acc, first, begin, weights, step, offset, row):
    """row[j] = sum over t of weights[j, t] * acc[(first[j] + t - begin) * step + offset]."""
    size, n = weights.shape
    if n == 1:
        for j in range(size):
            row[j] = acc[(first[j] - begin) * step + offset]
    elif n == 2:
        for j in range(size):
            at = (first[j] - begin) * step + offset
            row[j] = weights[j, 0] * acc[at] + weights[j, 1] * acc[at + step]
    elif n == 3:
        for j in range(size):
            at = (first[j] - begin) * step + offset
            row[j] = (
                weights[j, 0] * acc[at] + weights[j, 1] * acc[at + step] + weights[j, 2] * acc[at + 2 * step]
            )
    else:
        for j in range(size):
            at = (first[j] - begin) * step + offset
            total = np.float32(0.0)
            for t in range(n):
                total += weights[j, t] * acc[at + t * step]
            row[j] = total


@cpu_jit()
def _mix(y, cb, cr, colour, norm, out, j):
    """Row j of each channel of out: the matrix, the clip to [0, 1], (value - mean) / std."""
    size = y.shape[0]
    y0, scale, red, green_b, green_r, blue = colour
    for c in range(out.shape[0]):
        by, bb, br = scale, np.float32(0.0), np.float32(0.0)
        if c == 0 and out.shape[0] == 3:
            br = red
        elif c == 1:
            bb, br = green_b, green_r
        elif c == 2:
            bb = blue
        gain, shift = norm[0, c], norm[1, c]
        line = out[c, j]
        for x in range(size):
            value = (y[x] - y0) * by + bb * (cb[x] - np.float32(128.0)) + br * (cr[x] - np.float32(128.0))
            line[x] = min(max(value, np.float32(0.0)), np.float32(1.0)) * gain + shift


@cpu_jit()
def frame_window_cpu(
    y_at, y_stride, cb_at, cr_at, c_stride, c_step, across_first, across, down_first, down, c_across_first,
    c_across, c_down_first, c_down, colour, norm, out,
):  # fmt: skip
    """One picture into out (channels, size, size). Planes are given by address and row stride.

    c_step  1, or 2 where Cb and Cr alternate (nv12: cb_at is the plane, cr_at is not read)
    """
    size = out.shape[1]
    begin, stop = across_first[0], across_first[size - 1] + across.shape[1]
    c_begin, c_stop = c_across_first[0], c_across_first[size - 1] + c_across.shape[1]
    acc = np.empty(max(stop - begin, (c_stop - c_begin) * c_step), np.float32)
    y = np.empty(size, np.float32)
    cb = np.full(size, np.float32(128.0))
    cr = np.full(size, np.float32(128.0))
    luma = carray(_bytes_at(y_at), ((down_first[size - 1] + down.shape[1]) * y_stride,), np.uint8)
    c_bytes = (c_down_first[size - 1] + c_down.shape[1]) * c_stride
    blue = carray(_bytes_at(cb_at), (c_bytes,), np.uint8)
    red = carray(_bytes_at(cr_at), (c_bytes,), np.uint8)
    for j in range(size):
        _rows(luma, y_stride, down_first[j], down[j], begin, stop - begin, acc)
        _columns(acc, across_first, begin, across, 1, 0, y)
        if out.shape[0] == 3:
            c_count = (c_stop - c_begin) * c_step
            _rows(blue, c_stride, c_down_first[j], c_down[j], c_begin * c_step, c_count, acc)
            _columns(acc, c_across_first, c_begin, c_across, c_step, 0, cb)
            if c_step == 1:
                _rows(red, c_stride, c_down_first[j], c_down[j], c_begin, c_count, acc)
            _columns(acc, c_across_first, c_begin, c_across, c_step, c_step - 1, cr)
        _mix(y, cb, cr, colour, norm, out, j)


def frame_window(
    pictures: Sequence[Picture], spec: FrameSpec | None = None, out: F32 | None = None, backend: str = "cpu"
) -> F32:
    """Return each picture's centre square at the model's size, normalised.

    pictures  any sizes and formats
    out       (B, channels, size, size) float32 to write into; each out[b] C-contiguous
    returns   (B, channels, size, size) float32: (value in [0, 1] - mean) / std; `out` if given
    raises    StageError: planes that do not fit the picture's format; BackendError: no such backend
    """
    spec = spec or FrameSpec()
    shape = (len(pictures), spec.channels, spec.size, spec.size)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or (len(out) and not out[0].flags.c_contiguous):
        rule = f"out must be float32 {shape}, C-contiguous within each picture"
        raise StageError(rule, got=f"{out.dtype} {out.shape} strides {out.strides}", where="frame_window")
    if backend != "cpu":
        raise BackendError("backend must be cpu", got=repr(backend), where="frame_window")
    norm = _norm(spec)
    for index, picture in enumerate(pictures):
        _run_cpu(picture, spec, norm, out[index], f"picture {index}")
    return out


def _run_cpu(picture: Picture, spec: FrameSpec, norm: F32, out: F32, where: str) -> None:
    planes = _checked(picture, where)
    across, down, c_across, c_down = _taps(
        picture.width, picture.height, picture.chroma, picture.pixel_aspect, spec.size
    )
    colour = _colour(picture.matrix, picture.full_range)
    luma, blue, red = planes[0], planes[1], planes[-1]
    frame_window_cpu(
        luma.ctypes.data, luma.strides[0], blue.ctypes.data, red.ctypes.data, blue.strides[0],
        2 if picture.chroma == "nv12" else 1, *across, *down, *c_across, *c_down, colour, norm, out,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _taps(width, height, chroma, pixel_aspect, size) -> tuple[Taps, Taps, Taps, Taps]:  # type: ignore[no-untyped-def]
    across, down, c_across, c_down = map(taps, spans(width, height, chroma, pixel_aspect, size))
    return across, down, c_across, c_down


@lru_cache(maxsize=8)
def _norm(spec: FrameSpec) -> F32:
    """(2, channels): value * norm[0] + norm[1] is (value - mean) / std."""
    std = np.array(spec.std[: spec.channels])
    return np.stack([1 / std, -np.array(spec.mean[: spec.channels]) / std]).astype(np.float32)


@lru_cache(maxsize=8)
def _colour(matrix, full_range) -> tuple[np.float32, ...]:  # type: ignore[no-untyped-def]
    return tuple(np.float32(term) for term in colour_terms(matrix, full_range))


def _checked(picture: Picture, where: str) -> list[U8]:
    """Return the planes with samples side by side in each row, or say which one does not fit."""
    if picture.chroma not in SUBSAMPLING or picture.matrix not in LUMA_SHARE:
        rule = f"chroma must be one of {', '.join(SUBSAMPLING)}, matrix one of {', '.join(LUMA_SHARE)}"
        raise StageError(rule, got=f"{picture.chroma}, {picture.matrix}", where=where)
    if min(picture.pixel_aspect) < 1:
        raise StageError("pixel_aspect must be positive", got=picture.pixel_aspect, where=where)
    sx, sy = SUBSAMPLING[picture.chroma]
    small = (-(-picture.height // sy), -(-picture.width // sx))
    luma = (picture.height, picture.width)
    shapes = [luma, (*small, 2)] if picture.chroma == "nv12" else [luma, small, small]
    if [plane.shape for plane in picture.planes] != shapes or 0 in luma:
        got = " ".join(str(plane.shape) for plane in picture.planes)
        raise StageError(f"planes of {picture.chroma} must be {shapes}", got=got, where=where)
    if any(plane.dtype != np.uint8 for plane in picture.planes):
        raise StageError("planes must be uint8", got=[str(p.dtype) for p in picture.planes], where=where)
    planes = list(picture.planes)
    inner = [1, 2] if picture.chroma == "nv12" else [1, 1, 1]
    for i, plane in enumerate(planes):
        if (
            plane.strides[0] < 0
            or plane.strides[1] != inner[i]
            or (plane.ndim == 3 and plane.strides[2] != 1)
        ):
            planes[i] = np.ascontiguousarray(plane)
    same_rows = len(planes) < 3 or planes[1].strides[0] == planes[2].strides[0]
    return planes if same_rows else [planes[0], *map(np.ascontiguousarray, planes[1:])]
