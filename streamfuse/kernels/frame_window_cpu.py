"""The CPU twin of frame_window, 16 output rows at a time, one in each lane of a vector register.

Rows are summed along memory; the sums are turned, so that a column of them is one register and the sums
over columns need no gathering; the result is turned back. Each plane is resized before the colour matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

from streamfuse.kernels.jit import cpu_jit
from streamfuse.kernels.lanes import load, load_bytes, store, transpose

WIDE = 16
"""Lanes of float32 in one register (kernels.lanes)."""


@intrinsic
def _bytes_at(_typing: Any, _address: Any) -> Any:
    """The integer address as a pointer to bytes, for carray."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.uintp), codegen


@cpu_jit()
def _rows(source, stride, first_row, weights, begin, count, acc):
    """acc[x] = sum over t of weights[t] * source[(first_row + t) * stride + begin + x], x < count."""
    n, top = weights.shape[0], first_row * stride + begin
    if count < WIDE:
        for x in range(count):
            total = np.float32(0.0)
            for t in range(n):
                total += weights[t] * np.float32(source[top + t * stride + x])
            acc[x] = total
        return
    for x in range(0, count, 2 * WIDE):
        # The last two registers overlap those before them: nothing is read past the row.
        left, right = min(x, count - WIDE), min(x + WIDE, count - WIDE)
        at, beside = top + left, top + right
        a, b = weights[0] * load_bytes(source, at), weights[0] * load_bytes(source, beside)
        for t in range(1, n):
            at += stride
            beside += stride
            a = a + weights[t] * load_bytes(source, at)
            b = b + weights[t] * load_bytes(source, beside)
        store(acc, left, a)
        store(acc, right, b)


@cpu_jit()
def _plane(source, stride, first, weights, group, begin, count, strip, pitch, turned):
    """The row sums of 16 output rows from `group` on, turned: turned[x * 16 + row], x < count.

    Past the last output row the last one is repeated.
    """
    size = first.shape[0]
    for r in range(WIDE):
        j = min(group + r, size - 1)
        _rows(source, stride, first[j], weights[j], begin, count, strip[r * pitch : (r + 1) * pitch])
    for x in range(0, count, WIDE):
        transpose(strip, x, pitch, turned, x * WIDE, WIDE)


@cpu_jit()
def _columns(turned, first, begin, weights, step, offset, result):
    """result[j]: sum of weights[j, t] * turned[(first[j] - begin + t) * step + offset], for 16 rows."""
    size, n = weights.shape
    for j in range(size):
        at = ((first[j] - begin) * step + offset) * WIDE
        total = weights[j, 0] * load(turned, at)
        for t in range(1, n):
            at += step * WIDE
            total = total + weights[j, t] * load(turned, at)
        store(result, j * WIDE, total)


@cpu_jit(fastmath={"contract"})
def _mix(y, cb, cr, colour, gain, shift, channel, result):
    """One channel of every pixel: the matrix, the clip to [0, 1], (value - mean) / std."""
    y0, scale, red, green_b, green_r, blue = colour
    by_cb, by_cr = np.float32(0.0), np.float32(0.0)
    if channel == 0:
        by_cr = red
    elif channel == 1:
        by_cb, by_cr = green_b, green_r
    else:
        by_cb = blue
    middle = np.float32(128.0)
    for x in range(result.shape[0]):
        value = (y[x] - y0) * scale + by_cb * (cb[x] - middle) + by_cr * (cr[x] - middle)
        result[x] = min(max(value, np.float32(0.0)), np.float32(1.0)) * gain + shift


@cpu_jit()
def _finish(y, cb, cr, colour, norm, group, mixed, band, flat, channels, size):
    """Write 16 rows of each channel from `group` on, or as many as there are, into flat."""
    wide = band.shape[0] // WIDE
    for c in range(channels):
        _mix(y, cb, cr, colour, norm[0, c], norm[1, c], c, mixed)
        begin = (c * size + group) * size
        if wide == size:
            for j in range(0, size, WIDE):
                transpose(mixed, j * WIDE, WIDE, flat, begin + j, size)
            continue
        for j in range(0, wide, WIDE):
            transpose(mixed, j * WIDE, WIDE, band, j, wide)
        for r in range(min(WIDE, size - group)):
            for j in range(size):
                flat[begin + r * size + j] = band[r * wide + j]


@cpu_jit()
def frame_window_cpu(
    y_at, y_stride, cb_at, cr_at, c_stride, c_step, across_first, across, down_first, down, c_across_first,
    c_across, c_down_first, c_down, colour, norm, out,
):  # fmt: skip
    """One picture into out (channels, size, size). Planes are given by address and row stride.

    c_step  1, or 2 where Cb and Cr alternate (nv12: cb_at is the plane, cr_at is not read)
    """
    size = out.shape[1]
    begin, c_begin = across_first[0], c_across_first[0]
    count = across_first[size - 1] + across.shape[1] - begin
    c_count = (c_across_first[size - 1] + c_across.shape[1] - c_begin) * c_step
    pitch = (max(count, c_count) + WIDE - 1) // WIDE * WIDE
    wide = (size + WIDE - 1) // WIDE * WIDE
    strip, turned = np.zeros(WIDE * pitch, np.float32), np.empty(WIDE * pitch, np.float32)
    mixed, band = np.empty(WIDE * wide, np.float32), np.empty(WIDE * wide, np.float32)
    y = np.zeros(WIDE * wide, np.float32)
    cb, cr = np.full(WIDE * wide, np.float32(128.0)), np.full(WIDE * wide, np.float32(128.0))  # grey
    luma = carray(_bytes_at(y_at), ((down_first[size - 1] + down.shape[1]) * y_stride,), np.uint8)
    c_bytes = (c_down_first[size - 1] + c_down.shape[1]) * c_stride
    blue = carray(_bytes_at(cb_at), (c_bytes,), np.uint8)
    red = carray(_bytes_at(cr_at), (c_bytes,), np.uint8)
    c_first, flat = c_begin * c_step, out.reshape(out.size)
    for group in range(0, size, WIDE):
        _plane(luma, y_stride, down_first, down, group, begin, count, strip, pitch, turned)
        _columns(turned, across_first, begin, across, 1, 0, y)
        if out.shape[0] == 3:
            _plane(blue, c_stride, c_down_first, c_down, group, c_first, c_count, strip, pitch, turned)
            _columns(turned, c_across_first, c_begin, c_across, c_step, 0, cb)
            if c_step == 1:
                _plane(red, c_stride, c_down_first, c_down, group, c_first, c_count, strip, pitch, turned)
            _columns(turned, c_across_first, c_begin, c_across, c_step, c_step - 1, cr)
        _finish(y, cb, cr, colour, norm, group, mixed, band, flat, out.shape[0], size)
