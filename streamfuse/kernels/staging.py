"""One upload per tick: pinned host memory that is filled while the last tick's copy is still under way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import cuda

# Few cameras are a small grid, and rightly; numba would advise more of them at every first launch.
warnings.filterwarnings("ignore", message=r"Grid size \d+ will likely result in GPU under-utilization")

I32 = npt.NDArray[np.int32]
_SMALLEST = 1 << 14
"""Words; growth is by doubling from here, so that a run settles after a few ticks."""


class Work(NamedTuple):
    """A part of an upload.

    words   of 32 bits that it takes
    pack    fills them, in host memory
    launch  starts what reads them, on the device
    """

    words: int
    pack: Callable[[I32], None]
    launch: Callable[[Any], None]


class Staging:
    """Two pinned buffers in turn and one device buffer, all of 32-bit words.

    The device buffer needs no twin: uploads and kernels follow each other on one CUDA stream.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._turn, self._words = 0, 0

    def run(self, *works: Work) -> None:
        """Pack all of them, upload them at once, and start each over its own part."""
        words = sum(work.words for work in works)
        if not words:
            return
        host, at = self._begin(words), 0
        for work in works:
            work.pack(host[at : at + work.words])
            at += work.words
        device, at = self._upload(words), 0
        for work in works:
            work.launch(device[at : at + work.words])
            at += work.words

    def _begin(self, words: int) -> I32:
        """Return host memory for `words` words of this tick, waiting until its last copy is done."""
        if words > self._words:
            self._grow(words)
        self._turn = 1 - self._turn
        self._done[self._turn].synchronize()
        return self._host[self._turn][:words]

    def _upload(self, words: int) -> Any:
        """Start the copy of the first `words` words; return the device array int32 (words,)."""
        target = self._device[:words]
        target.copy_to_device(self._host[self._turn][:words], stream=self._stream)
        self._done[self._turn].record(self._stream)
        return target

    def _grow(self, words: int) -> None:
        self._stream.synchronize()
        self._words = max(_SMALLEST, 1 << (words - 1).bit_length())
        self._host = [cuda.pinned_array(self._words, np.int32) for _ in range(2)]
        self._done = [cuda.event() for _ in range(2)]
        self._device = cuda.device_array(self._words, np.int32)
