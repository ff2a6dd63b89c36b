"""How a picture lies among the words that frame_window on CUDA reads, and its row of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamfuse.kernels.geometry import LUMA_SHARE, Span, spans
from streamfuse.types import U8, AnyPicture, Chroma, Picture

TABLE_WIDTH = 20
"""Words of a picture: 0 luma at, 1 its pitch, 2 Cb at, 3 Cr at, 4 their pitch, 5 bytes from one Cb to the
next, 6 colour_and_way, 7 slot of the result, 8-11 luma columns and rows, chroma columns and rows; then as
float32 the origin and scale of luma across, luma down, chroma across, chroma down. Places and pitches count
in words of 4 bytes."""


class Part(NamedTuple):
    """One plane: what is copied of it, and to where.

    rows, columns  of its samples
    at, pitch      words: of the first, and from one row to the next
    wide, words    words of one row, and of the whole
    """

    rows: slice
    columns: slice
    at: int
    pitch: int
    wide: int

    @property
    def words(self) -> int:
        return (_length(self.rows) - 1) * self.pitch + self.wide


class Layout(NamedTuple):
    """How one size and format lies in the words; only what the square shows is copied.

    row     (20,) int32, the picture's words with places counted from its begin
    words   of the whole picture
    shared  bytes of shared memory a block needs
    """

    row: npt.NDArray[np.int32]
    planes: tuple[Part, ...]
    words: int
    shared: int


@lru_cache(maxsize=64)
def layout(
    width: int,
    height: int,
    chroma: Chroma,
    pixel_aspect: tuple[int, int],
    size: int,
    pitches: tuple[int, ...] | None = None,
) -> Layout:
    """The layout of a picture's planes.

    pitches  bytes from row to row of each plane, whole words, where rows are copied together with what is
             between them; unset: row after row, each padded to whole words
    """
    across, down, c_across, c_down = spans(width, height, chroma, pixel_aspect, size)
    step = 2 if chroma == "nv12" else 1
    pairs = [(across, down, 1)] + [(c_across, c_down, step)] * (1 if chroma == "nv12" else 2)
    planes: list[Part] = []
    for index, (x, y, bytes_each) in enumerate(pairs):
        columns = _seen(x)
        if pitches is not None:  # a row begins with a whole word of the plane
            columns = slice(columns.start - columns.start % (4 // bytes_each), columns.stop)
        wide = -(-_length(columns) * bytes_each // 4)
        at = planes[-1].at + planes[-1].words if planes else 0
        planes.append(Part(_seen(y), columns, at, wide if pitches is None else pitches[index] // 4, wide))
    row = np.zeros(TABLE_WIDTH, np.int32)
    row[:6] = planes[0].at, planes[0].pitch, planes[1].at, planes[-1].at, planes[1].pitch, step
    row[8:12] = [_length(part) for plane in planes[:2] for part in (plane.columns, plane.rows)]
    starts = [part.start for plane in planes[:2] for part in (plane.columns, plane.rows)]
    axes = zip((across, down, c_across, c_down), starts, strict=True)
    numbers = [(span.origin - start, span.extent / span.size) for span, start in axes]
    row[12:] = np.array(numbers, np.float32).ravel().view(np.int32)
    words = planes[-1].at + planes[-1].words
    return Layout(row, tuple(planes), words, 16 * sum(plane.wide for plane in planes))


def pack(planes: Sequence[U8], place: Layout, target: U8) -> None:
    """Copy what the square shows, each row padded to whole words."""
    for plane, part in zip(planes, place.planes, strict=True):
        seen = plane[part.rows, part.columns]
        lines = target[4 * part.at : 4 * (part.at + part.words)].reshape(len(seen), 4 * part.pitch)
        if plane.ndim == 3:
            lines[:, : 2 * seen.shape[1]].reshape(*seen.shape)[...] = seen
        else:
            lines[:, : seen.shape[1]] = seen


def colour_and_way(picture: AnyPicture) -> int:
    """Bits 0-3: 2 * matrix + full range; 4-5: quarter turns that the result is given; 6: mirrored before."""
    colour = 2 * list(LUMA_SHARE).index(picture.matrix) + picture.full_range
    if isinstance(picture, Picture):
        return colour
    return colour | picture.turns << 4 | picture.mirrored << 6


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _seen(span: Span) -> slice:
    """The samples that any pixel of the square looks at: one more on each side where it is enlarged."""
    margin = 1 if span.extent < span.size else 0
    first = max(0, math.floor(span.origin) - margin)
    return slice(first, min(span.length, math.ceil(span.origin + span.extent) + margin))
