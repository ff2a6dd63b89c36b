"""Labels of any length of recording in a bounded number of cells of equal time, for drawing.

A cell begins as one tick. When a recording outgrows MAX_CELLS, pairs of cells are merged and a cell is
twice as long; so memory and the drawn page stay small, whatever comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from streamfuse.types import U8

MAX_CELLS = 65_536
"""109 minutes at ten ticks a second before cells are merged; two bytes of page for each cell of a head."""
EMPTY = 255
"""The code of a cell in which nothing was said."""
FULL = 250
"""The level of a score of 1."""

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Level = npt.NDArray[np.float32]
_Weight = npt.NDArray[np.int32]


def level_of(score: float | None) -> float:
    """A score as a level; from its four decimals, so that a page made from label lines is the same."""
    return round(score or 0.0, 4) * FULL


class CodePlane:
    """For each cell the code said most and its mean level."""

    def __init__(self, size: int) -> None:
        self.codes: U8 = np.full(size, EMPTY, np.uint8)
        self.levels: _Level = np.zeros(size, np.float32)
        self._weights: _Weight = np.zeros(size, np.int32)

    def put(self, cell: int, code: int, level: float) -> None:
        weight = int(self._weights[cell])
        if self.codes[cell] == code:
            self.levels[cell] += (level - self.levels[cell]) / (weight + 1)
            self._weights[cell] = weight + 1
        elif weight == 0:
            self.codes[cell], self.levels[cell], self._weights[cell] = code, level, 1
        else:
            # A majority vote in constant memory (Boyer and Moore): another code takes one vote away.
            self._weights[cell] = weight - 1

    def resize(self, size: int) -> None:
        self.codes = _extended(self.codes, size, EMPTY)
        self.levels = _extended(self.levels, size, 0)
        self._weights = _extended(self._weights, size, 0)

    def halve(self) -> None:
        """Merge pairs of cells: equal codes are averaged, else the one with more votes stays."""
        codes, levels, weights = _pairs(self.codes), _pairs(self.levels), _pairs(self._weights)
        # An outvoted cell (weight 0) still shows its code, as long as its neighbour has no better one.
        heavy = np.where(codes != EMPTY, weights + 1, 0)
        equal = codes[:, 0] == codes[:, 1]
        second = heavy[:, 1] > heavy[:, 0]
        total = heavy.sum(1)
        mean = (levels * heavy).sum(1) / np.maximum(total, 1)
        self.codes = np.where(second, codes[:, 1], codes[:, 0])
        self.levels = np.where(equal, mean, np.where(second, levels[:, 1], levels[:, 0])).astype(np.float32)
        self._weights = np.where(equal, weights.sum(1), np.abs(weights[:, 0] - weights[:, 1])).astype(
            np.int32
        )


class PeakPlane:
    """For each cell the highest level of one label; 0 where it was not said."""

    def __init__(self, size: int) -> None:
        self.levels: _Level = np.zeros(size, np.float32)

    def put(self, cell: int, level: float) -> None:
        if level > self.levels[cell]:
            self.levels[cell] = level

    def resize(self, size: int) -> None:
        self.levels = _extended(self.levels, size, 0)

    def halve(self) -> None:
        self.levels = _pairs(self.levels).max(1)


class Grid:
    """The cells of a recording's time and the planes over them.

    hop_ns  length of a tick, and of a cell until the recording is long
    """

    def __init__(self, hop_ns: int, max_cells: int = MAX_CELLS) -> None:
        self.used = 0
        self._hop_ns, self._ticks_per_cell = hop_ns, 1
        self._max = max_cells
        self._size = min(1024, max_cells)
        self._planes: list[CodePlane | PeakPlane] = []

    @property
    def cell_ns(self) -> int:
        return self._hop_ns * self._ticks_per_cell

    def code_plane(self) -> CodePlane:
        plane = CodePlane(self._size)
        self._planes.append(plane)
        return plane

    def peak_plane(self) -> PeakPlane:
        plane = PeakPlane(self._size)
        self._planes.append(plane)
        return plane

    def cell(self, start_ns: int) -> int:
        """The cell of a tick; makes room for it. Planes may change their arrays here."""
        cell = self._index(start_ns)
        while cell >= self._max:
            self.halve()
            cell = self._index(start_ns)
        while cell >= self._size:
            self._size = min(self._size * 2, self._max)
            for plane in self._planes:
                plane.resize(self._size)
        self.used = max(self.used, cell + 1)
        return cell

    def halve(self) -> None:
        for plane in self._planes:
            plane.halve()
            plane.resize(self._size)
        self._ticks_per_cell *= 2
        self.used = (self.used + 1) // 2

    def _index(self, start_ns: int) -> int:
        # The nearest tick of the recording: a later session need not begin on a whole one.
        tick = max(0, (2 * start_ns + self._hop_ns) // (2 * self._hop_ns))
        return tick // self._ticks_per_cell


def _pairs(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    return array.reshape(-1, 2)


def _extended(array: npt.NDArray[_Scalar], size: int, fill: int) -> npt.NDArray[_Scalar]:
    wider = np.full(size, fill, array.dtype)
    wider[: len(array)] = array
    return wider
