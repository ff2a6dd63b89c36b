"""The CUDA twin of frame_window: pictures of any sizes and formats in one launch, a block per output row.

A block first sums the source rows under its output row, four columns to a thread, so that each byte
is read about once and in order; then the columns of that sum, which lies in shared memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any

import numpy as np
from numba import cuda, float32

from streamfuse.errors import StageError
from streamfuse.kernels.backend import Device
from streamfuse.kernels.device_planes import fetch_picture, pitches_of
from streamfuse.kernels.frame_layout import TABLE_WIDTH, Layout, colour_and_way, layout, pack
from streamfuse.kernels.geometry import LUMA_SHARE, colour_terms, tap_range, tap_weight
from streamfuse.kernels.spec import FrameSpec
from streamfuse.kernels.staging import I32, Fetch, Staging, Work
from streamfuse.types import F32, AnyPicture, DevicePicture, Picture

THREADS = 128
_SHARED_BYTES = 48 * 1024
"""What every GPU gives a block without asking."""
_MAX_PICTURES = 65_535
"""Blocks in the second dimension of a CUDA grid."""


@lru_cache(maxsize=2)
def frame_window_kernel(channels: int) -> Any:
    """The kernel for colour (3 channels) or luma (1)."""
    colour_wanted = channels == 3

    @cuda.jit(device=True)
    def sum_columns(columns, at, x, origin, scale, length):
        """The weighted sum of one plane's columns under pixel x."""
        first, stop = tap_range(x, origin, scale, length)
        total = float32(0)
        for i in range(first, stop):
            total += tap_weight(i, x, origin, scale, length) * columns[at + i]
        return total

    @cuda.jit(device=True)
    def sum_chroma(columns, cb_at, cr_at, step, x, origin, scale, length):
        """The same for Cb and Cr at once, less their middle."""
        first, stop = tap_range(x, origin, scale, length)
        cb, cr = float32(-128), float32(-128)
        for i in range(first, stop):
            weight = tap_weight(i, x, origin, scale, length)
            cb += weight * columns[cb_at + i * step]
            cr += weight * columns[cr_at + i * step]
        return cb, cr

    @cuda.jit(device=True)
    def upright(row, column, way, size):
        """Where a pixel of the square is when that has been mirrored and turned: numpy.rot90."""
        if way & 4:
            column = size - 1 - column
        for _ in range(way & 3):
            row, column = size - 1 - column, row
        return row, column

    @cuda.jit(device=True)
    def put(out, slot, channel, j, x, value, norm):
        value = min(max(value, float32(0)), float32(1))
        out[slot, channel, j, x] = value * norm[0, channel] + norm[1, channel]

    @cuda.jit
    def frame_window_cuda(words, table, numbers, colours, norm, out):
        """Block (row of the result, picture): planes in `words` -> out (slots, channels, size, size).

        table, numbers  (pictures, 20): the same memory as int32 and float32
        colours         (6, 6) float32: colour_terms of each matrix, limited and full range
        norm            (2, channels) float32: value * norm[0] + norm[1]
        """
        columns = cuda.shared.array(0, float32)
        thread, j, p = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.y
        step, width, c_width = table[p, 5], table[p, 8], table[p, 10]
        luma_words, chroma_words = (width + 3) >> 2, (c_width * step + 3) >> 2
        total_words = luma_words
        if colour_wanted:
            total_words += chroma_words if step == 2 else 2 * chroma_words
        for w in range(thread, total_words, THREADS):
            plane = 0 if w < luma_words else (1 if w < luma_words + chroma_words else 2)
            chroma = min(plane, 1)
            at = table[p, plane + chroma] + w - min(plane, 1) * luma_words - max(plane - 1, 0) * chroma_words
            pitch, length = table[p, 1 + 3 * chroma], table[p, 9 + 2 * chroma]
            origin, scale = numbers[p, 14 + 4 * chroma], numbers[p, 15 + 4 * chroma]
            first, stop = tap_range(j, origin, scale, length)
            a, b, c, d = float32(0), float32(0), float32(0), float32(0)
            for row in range(first, stop):
                word = words[at + row * pitch]
                weight = tap_weight(row, j, origin, scale, length)
                a += weight * float32(word & 255)
                b += weight * float32((word >> 8) & 255)
                c += weight * float32((word >> 16) & 255)
                d += weight * float32((word >> 24) & 255)
            columns[4 * w], columns[4 * w + 1], columns[4 * w + 2], columns[4 * w + 3] = a, b, c, d
        cuda.syncthreads()

        colour, way = table[p, 6] & 15, table[p, 6] >> 4
        slot, cb_at = table[p, 7], 4 * luma_words
        cr_at = cb_at + 1 if step == 2 else cb_at + 4 * chroma_words
        for x in range(thread, out.shape[2], THREADS):
            y = sum_columns(columns, 0, x, numbers[p, 12], numbers[p, 13], width)
            y = (y - colours[colour, 0]) * colours[colour, 1]
            row, column = upright(j, x, way, out.shape[2])
            if colour_wanted:
                cb, cr = sum_chroma(columns, cb_at, cr_at, step, x, numbers[p, 16], numbers[p, 17], c_width)
                green = y + colours[colour, 3] * cb + colours[colour, 4] * cr
                put(out, slot, 0, row, column, y + colours[colour, 2] * cr, norm)
                put(out, slot, 1, row, column, green, norm)
                put(out, slot, 2, row, column, y + colours[colour, 5] * cb, norm)
            else:
                put(out, slot, 0, row, column, y, norm)

    return frame_window_cuda


class FrameWindowBatch:
    """frame_window of many pictures on one GPU: one upload and one launch a call.

    The caller holds the device (`with cuda.gpus[n]`) and reads results on `stream`, or after
    synchronising it. For one thread.
    """

    def __init__(self, spec: FrameSpec, stream: Any = None, staging: Staging | None = None) -> None:
        self.spec = spec
        self.stream = cuda.stream() if stream is None else stream
        self._kernel = frame_window_kernel(spec.channels)
        self._staging = staging or Staging(self.stream)
        self._colours = cuda.to_device(_all_colours(), self.stream)
        std = np.array(spec.std[: spec.channels])
        norm = np.stack([1 / std, -np.array(spec.mean[: spec.channels]) / std]).astype(np.float32)
        self._norm = cuda.to_device(norm, self.stream)

    def run(self, pictures: Sequence[AnyPicture], slots: Sequence[int], out: Any) -> None:
        """Start writing each picture's square into out[slot].

        pictures  all of the host, checked by the caller (frame_window.checked_planes), or all of this GPU
        out       device array (slots, channels, size, size) float32 or float16, C-contiguous
        raises    StageError: a slot out of range, too many pictures, or one that place() refuses
        """
        if pictures:
            self._staging.run(self.work(pictures, slots, out))

    def work(self, pictures: Sequence[AnyPicture], slots: Sequence[int], out: Any) -> Work:
        """The same as a part of an upload; one picture or more. Those of the GPU are its last part."""
        _check_slots(pictures, slots, out)
        layouts = [self.place(picture) for picture in pictures]
        shared = max(each.shared for each in layouts)
        head = len(pictures) * TABLE_WIDTH
        ends = list(accumulate((each.words for each in layouts), initial=head))
        placed = list(zip(pictures, layouts, ends, strict=False))

        def fill(host: I32) -> None:
            table = host[:head].reshape(-1, TABLE_WIDTH)
            for index, (picture, place, at) in enumerate(placed):
                table[index] = place.row
                table[index, [0, 2, 3]] += at
                table[index, 6:8] = colour_and_way(picture), slots[index]
                if isinstance(picture, Picture):
                    pack(picture.planes, place, host[at : at + place.words].view(np.uint8))

        def fetch(device: Any) -> None:
            for picture, place, at in placed:
                assert isinstance(picture, DevicePicture)
                fetch_picture(picture, place, device[at - head : at - head + place.words], self.stream)

        def launch(device: Any) -> None:
            rows = device[:head].reshape(len(pictures), TABLE_WIDTH)
            grid = (self.spec.size, len(pictures))
            self._again = lambda out: self._kernel[grid, THREADS, self.stream, shared](
                device, rows, rows.view(np.float32), self._colours, self._norm, out
            )
            self._again(out)

        self.uploaded_bytes = 4 * ends[-1]
        owners = tuple(picture.owner for picture in pictures if isinstance(picture, DevicePicture))
        if owners:
            return Work(head, fill, launch, Fetch(ends[-1] - head, fetch, owners))
        return Work(ends[-1], fill, launch)

    def place(self, picture: AnyPicture) -> Layout:
        """How a picture lies in the upload. StageError: it is too wide for a block's shared memory, or its
        rows on the GPU do not begin with whole words.
        """
        facts = (picture.width, picture.height, picture.chroma, picture.pixel_aspect, self.spec.size)
        found = layout(*facts, pitches_of(picture) if isinstance(picture, DevicePicture) else None)
        if found.shared > _SHARED_BYTES:
            rule = f"the square of a picture may take {_SHARED_BYTES // 16} words across its planes"
            got, hint = found.shared // 16, "shrink it first"
            raise StageError(rule, got=got, where="frame_window on CUDA", hint=hint)
        return found

    def launch_again(self, out: Any) -> Callable[[], None]:
        """The last launch over what it uploaded, for measuring the kernel alone."""
        return partial(self._again, out)


def _check_slots(pictures: Sequence[AnyPicture], slots: Sequence[int], out: Any) -> None:
    if len(slots) != len(pictures) or not all(0 <= slot < out.shape[0] for slot in slots):
        rule = f"each picture needs a slot below {out.shape[0]}"
        raise StageError(rule, got=list(slots), where="frame_window on CUDA")
    if len(pictures) > _MAX_PICTURES:
        rule = f"a launch takes at most {_MAX_PICTURES} pictures"
        raise StageError(rule, got=len(pictures), where="frame_window on CUDA")


def _all_colours() -> F32:
    return np.array([colour_terms(m, full) for m in LUMA_SHARE for full in (False, True)], np.float32)  # type: ignore[arg-type]


_lock = threading.Lock()
"""Callers from different threads share one staging buffer."""


@lru_cache(maxsize=4)
def _batch_for(spec: FrameSpec, index: int) -> FrameWindowBatch:
    with cuda.gpus[index]:
        return FrameWindowBatch(spec)


def frame_window_on_cuda(pictures: Sequence[Picture], spec: FrameSpec, device: Device, out: F32) -> None:
    """The whole way for pictures in host memory: up, one launch, down into out (B, channels, size, size)."""
    if not pictures:
        return
    with _lock, cuda.gpus[device.index]:
        worker = _batch_for(spec, device.index)
        result = cuda.device_array(out.shape, np.float32, stream=worker.stream)
        worker.run(pictures, range(len(pictures)), result)
        host = result.copy_to_host(stream=worker.stream)
        worker.stream.synchronize()
    out[...] = host
