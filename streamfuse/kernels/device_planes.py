"""Planes that a decoder left in the GPU's memory -> the words that frame_window on CUDA reads.

Copied on the device, in the stream of the upload, as whole rows with what is between them: one plane is then
one copy. Samples of 16 bits are made 8 on the way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from streamfuse.errors import StageError
from streamfuse.kernels.frame_layout import Layout
from streamfuse.types import DevicePicture

THREADS = 128


@lru_cache(maxsize=1)
def narrow_kernel() -> Any:
    @cuda.jit(device=True)
    def nearest(sample):
        """The upper 8 bits of 16, rounded."""
        return min(sample + 128, 65535) >> 8

    @cuda.jit
    def narrow(source, target):
        """Words (2 n,) uint32 of two samples each -> (n,) of four."""
        at = cuda.grid(1)
        if at < target.size:
            low, high = source[2 * at], source[2 * at + 1]
            first = nearest(low & 65535) | nearest(low >> 16) << 8
            target[at] = first | nearest(high & 65535) << 16 | nearest(high >> 16) << 24

    return narrow


def pitches_of(picture: DevicePicture) -> tuple[int, ...]:
    """Bytes from row to row of each plane, were its samples of 8 bits.

    raises  StageError: rows and planes must begin with whole words, and U and V be alike
    """
    unit = 4 * picture.sample_bytes
    if any(plane.pitch_bytes % unit or plane.address % unit for plane in picture.planes):
        got = " ".join(f"{plane.pitch_bytes} at {plane.address:#x}" for plane in picture.planes)
        rule = f"rows on the GPU must begin at multiples of {unit} bytes"
        raise StageError(rule, got=got, where="frame_window on CUDA")
    pitches = tuple(plane.pitch_bytes // picture.sample_bytes for plane in picture.planes)
    if pitches[1] != pitches[-1]:
        raise StageError("U and V must have one pitch", got=pitches[1:], where="frame_window on CUDA")
    return pitches


def fetch_picture(picture: DevicePicture, place: Layout, target: Any, stream: Any) -> None:
    """Start the copies of what the square shows into the device array `target`, int32 (place.words,)."""
    for plane, part in zip(picture.planes, place.planes, strict=True):
        sample_bytes = picture.sample_bytes * (2 if len(plane.shape) == 3 else 1)
        begin = plane.address + part.rows.start * plane.pitch_bytes + part.columns.start * sample_bytes
        words = target[part.at : part.at + part.words]
        if picture.sample_bytes == 1:
            words.copy_to_device(device_words(begin, part.words), stream=stream)
        else:
            source = device_words(begin, 2 * part.words).view(np.uint32)
            narrow_kernel()[-(-part.words // THREADS), THREADS, stream](source, words.view(np.uint32))


class _Words:
    """The CUDA array interface, which is what numba reads: it takes no DLPack."""

    def __init__(self, address: int, words: int) -> None:
        self.__cuda_array_interface__ = {
            "version": 3, "typestr": "<i4", "shape": (words,), "data": (address, True)
        }  # fmt: skip


def device_words(address: int, words: int) -> Any:
    """Memory of the GPU as numba sees it; whoever has the address keeps it alive."""
    return cuda.as_cuda_array(_Words(address, words), sync=False)
