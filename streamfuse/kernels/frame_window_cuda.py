"""The CUDA twin of frame_window: pictures of any sizes and formats in one launch, a block per output row.

A block first sums the source rows under its output row, four columns to a thread, so that each byte
is read about once and in order; then the columns of that sum, which lies in shared memory.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import cuda, float32

from streamfuse.errors import StageError
from streamfuse.kernels.backend import Device
from streamfuse.kernels.geometry import LUMA_SHARE, Span, colour_terms, spans, tap_range, tap_weight
from streamfuse.kernels.spec import FrameSpec
from streamfuse.kernels.staging import I32, Staging, Work
from streamfuse.types import F32, U8, Chroma, Picture

THREADS = 128
TABLE_WIDTH = 20
"""Words of a picture: 0 luma at, 1 its pitch, 2 Cb at, 3 Cr at, 4 their pitch, 5 bytes from one Cb to the
next, 6 colour, 7 slot of the result, 8-11 luma columns and rows, chroma columns and rows; then
as float32 the origin and scale of luma across, luma down, chroma across, chroma down. Places and pitches
count in words of 4 bytes."""
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

        colour, slot, cb_at = table[p, 6], table[p, 7], 4 * luma_words
        cr_at = cb_at + 1 if step == 2 else cb_at + 4 * chroma_words
        for x in range(thread, out.shape[2], THREADS):
            y = sum_columns(columns, 0, x, numbers[p, 12], numbers[p, 13], width)
            y = (y - colours[colour, 0]) * colours[colour, 1]
            if colour_wanted:
                cb, cr = sum_chroma(columns, cb_at, cr_at, step, x, numbers[p, 16], numbers[p, 17], c_width)
                put(out, slot, 0, j, x, y + colours[colour, 2] * cr, norm)
                put(out, slot, 1, j, x, y + colours[colour, 3] * cb + colours[colour, 4] * cr, norm)
                put(out, slot, 2, j, x, y + colours[colour, 5] * cb, norm)
            else:
                put(out, slot, 0, j, x, y, norm)

    return frame_window_cuda


class Layout(NamedTuple):
    """How one size and format lies in the staging buffer; only what the square shows is copied.

    row     (20,) int32, the picture's words with places counted from its begin
    planes  (rows, columns, first word, pitch in words) of each plane to copy
    words   of the whole picture
    shared  bytes of shared memory a block needs
    """

    row: npt.NDArray[np.int32]
    planes: tuple[tuple[slice, slice, int, int], ...]
    words: int
    shared: int


@lru_cache(maxsize=64)
def layout(width: int, height: int, chroma: Chroma, pixel_aspect: tuple[int, int], size: int) -> Layout:
    across, down, c_across, c_down = spans(width, height, chroma, pixel_aspect, size)
    step = 2 if chroma == "nv12" else 1
    row = np.zeros(TABLE_WIDTH, np.int32)
    planes, at = [], 0
    pairs = [(across, down, 1)] + [(c_across, c_down, step)] * (1 if chroma == "nv12" else 2)
    for x, y, bytes_each in pairs:
        columns, rows = _seen(x), _seen(y)
        pitch = -(-_length(columns) * bytes_each // 4)
        planes.append((rows, columns, at, pitch))
        at += pitch * _length(rows)
    places, pitches = [plane[2] for plane in planes], [plane[3] for plane in planes]
    row[:6] = places[0], pitches[0], places[1], places[-1], pitches[1], step
    row[8:12] = [_length(part) for rows, columns, *_ in planes[:2] for part in (columns, rows)]
    numbers = [(s.origin - _seen(s).start, s.extent / s.size) for s in (across, down, c_across, c_down)]
    row[12:] = np.array(numbers, np.float32).ravel().view(np.int32)
    return Layout(row, tuple(planes), at, 16 * sum(pitches))


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _seen(span: Span) -> slice:
    """The samples that any pixel of the square looks at: one more on each side where it is enlarged."""
    margin = 1 if span.extent < span.size else 0
    first = max(0, math.floor(span.origin) - margin)
    return slice(first, min(span.length, math.ceil(span.origin + span.extent) + margin))


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

    def run(self, pictures: Sequence[Picture], slots: Sequence[int], out: Any) -> None:
        """Start writing each picture's square into out[slot].

        pictures  checked by the caller (frame_window.checked_planes)
        out       device array (slots, channels, size, size) float32 or float16, C-contiguous
        raises    StageError: a slot out of range, too many pictures, or one that place() refuses
        """
        if pictures:
            self._staging.run(self.work(pictures, slots, out))

    def work(self, pictures: Sequence[Picture], slots: Sequence[int], out: Any) -> Work:
        """The same as a part of an upload; one picture or more."""
        if len(slots) != len(pictures) or not all(0 <= slot < out.shape[0] for slot in slots):
            rule = f"each picture needs a slot below {out.shape[0]}"
            raise StageError(rule, got=list(slots), where="frame_window on CUDA")
        if len(pictures) > _MAX_PICTURES:
            rule = f"a launch takes at most {_MAX_PICTURES} pictures"
            raise StageError(rule, got=len(pictures), where="frame_window on CUDA")
        layouts = [self.place(picture) for picture in pictures]
        shared = max(each.shared for each in layouts)
        head = len(pictures) * TABLE_WIDTH
        words = head + sum(each.words for each in layouts)

        def pack(host: I32) -> None:
            table, at = host[:head].reshape(-1, TABLE_WIDTH), head
            for index, (picture, place) in enumerate(zip(pictures, layouts, strict=True)):
                table[index] = place.row
                table[index, [0, 2, 3]] += at
                table[index, 6] = _colour_index(picture)
                table[index, 7] = slots[index]
                _pack(picture.planes, place, host[at : at + place.words].view(np.uint8))
                at += place.words

        def launch(device: Any) -> None:
            rows = device[:head].reshape(len(pictures), TABLE_WIDTH)
            grid = (self.spec.size, len(pictures))
            self._again = lambda out: self._kernel[grid, THREADS, self.stream, shared](
                device, rows, rows.view(np.float32), self._colours, self._norm, out
            )
            self._again(out)

        self.uploaded_bytes = 4 * words
        return Work(words, pack, launch)

    def place(self, picture: Picture) -> Layout:
        """How a picture lies in the upload. StageError: it is too wide for a block's shared memory."""
        found = layout(picture.width, picture.height, picture.chroma, picture.pixel_aspect, self.spec.size)
        if found.shared > _SHARED_BYTES:
            rule = f"the square of a picture may take {_SHARED_BYTES // 16} words across its planes"
            got, hint = found.shared // 16, "shrink it first"
            raise StageError(rule, got=got, where="frame_window on CUDA", hint=hint)
        return found

    def launch_again(self, out: Any) -> Callable[[], None]:
        """The last launch over what it uploaded, for measuring the kernel alone."""
        return partial(self._again, out)


def _pack(planes: Sequence[U8], place: Layout, target: U8) -> None:
    """Copy what the square shows, each row padded to whole words."""
    for plane, (rows, columns, at, pitch) in zip(planes, place.planes, strict=True):
        seen = plane[rows, columns]
        lines = target[4 * at : 4 * (at + pitch * len(seen))].reshape(len(seen), 4 * pitch)
        if plane.ndim == 3:
            lines[:, : 2 * seen.shape[1]].reshape(*seen.shape)[...] = seen
        else:
            lines[:, : seen.shape[1]] = seen


def _colour_index(picture: Picture) -> int:
    return 2 * list(LUMA_SHARE).index(picture.matrix) + picture.full_range


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
