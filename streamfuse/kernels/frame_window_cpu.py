"""The CPU twin of frame_window: rows first, then columns, then the colour matrix, one output row at a time.

Rows first, because a weighted sum of rows runs along memory; what is left for the columns is short.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

from streamfuse.kernels.backend import cpu_jit


@intrinsic
def _bytes_at(_typing: Any, _address: Any) -> Any:
    """The integer address as a pointer to bytes, for carray."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
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
