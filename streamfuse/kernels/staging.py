"""One upload per tick: pinned host memory that is filled while the last tick's copy is still under way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import cuda

# Few cameras are a small grid, and rightly; numba would advise more of them at every first launch. It may
# begin with the escapes that make it bold on a terminal, once or twice.
warnings.filterwarnings(
    "ignore", message=r"(\x1b\[[\d;]*m)*Grid size \d+ will likely result in GPU under-utilization"
)

I32 = npt.NDArray[np.int32]
_SMALLEST = 1 << 14
"""Words; growth is by doubling from here, so that a run settles after a few ticks."""


class Fetch(NamedTuple):
    """Words that come from elsewhere on the device, from where a decoder has put them.

    words   so many, behind those of the host
    start   starts their copies
    owners  of what is copied: kept until that is done
    """

    words: int
    start: Callable[[Any], None]
    owners: tuple[object, ...]


_NOTHING = Fetch(0, lambda _device: None, ())


class Work(NamedTuple):
    """A part of an upload.

    words   of 32 bits that it takes
    pack    fills them, in host memory
    launch  starts what reads them, and what was fetched behind them, on the device
    fetch   only the last part of an upload fetches
    """

    words: int
    pack: Callable[[I32], None]
    launch: Callable[[Any], None]
    fetch: Fetch = _NOTHING


class Staging:
    """Two pinned buffers in turn and one device buffer, all of 32-bit words.

    The device buffer needs no twin: uploads and kernels follow each other on one CUDA stream.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._turn, self._host_words, self._device_words = 0, 0, 0
        self._done = [cuda.event() for _ in range(2)]
        self._decoded = cuda.event()
        self._owners: list[tuple[object, ...]] = [(), ()]

    def run(self, *works: Work) -> None:
        """Pack all of them, upload them at once, and start each over its own part."""
        words = sum(work.words for work in works)
        if not words:
            return
        fetch = works[-1].fetch
        host, at = self._begin(words, words + fetch.words), 0
        for work in works:
            work.pack(host[at : at + work.words])
            at += work.words
        device, at = self._upload(words, fetch), 0
        for work in works:
            end = at + work.words + work.fetch.words
            work.launch(device[at:end])
            at = end

    def _begin(self, words: int, device_words: int) -> I32:
        """Return host memory for `words` words of this tick, waiting until its last copy is done."""
        if words > self._host_words or device_words > self._device_words:
            self._grow(words, device_words)
        self._turn = 1 - self._turn
        self._done[self._turn].synchronize()
        self._owners[self._turn] = ()
        return self._host[self._turn][:words]

    def _upload(self, words: int, fetch: Fetch) -> Any:
        """Start the copies of the first `words` words and of those fetched; return the device array int32."""
        target = self._device[: words + fetch.words]
        target[:words].copy_to_device(self._host[self._turn][:words], stream=self._stream)
        if fetch.words:
            self._wait_for_decoders()
            fetch.start(target[words:])
            self._owners[self._turn] = fetch.owners
        self._done[self._turn].record(self._stream)
        return target

    def _wait_for_decoders(self) -> None:
        """FFmpeg gives out a frame whose last copy is only queued, in the legacy default stream
        (libavutil/hwcontext_cuda.c): what follows in ours comes after it.
        """
        self._decoded.record(cuda.legacy_default_stream())
        self._decoded.wait(self._stream)

    def _grow(self, words: int, device_words: int) -> None:
        self._stream.synchronize()
        self._host_words = max(self._host_words, _room(words))
        self._device_words = max(self._device_words, _room(device_words))
        self._host = [cuda.pinned_array(self._host_words, np.int32) for _ in range(2)]
        self._device = cuda.device_array(self._device_words, np.int32)


def _room(words: int) -> int:
    return max(_SMALLEST, 1 << (words - 1).bit_length())
