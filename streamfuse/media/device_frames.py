"""Frames that stay on the GPU that decoded them (NVDEC), for kernels that run there.

FFmpeg copies a picture out of the decoder's surfaces into memory of the frame's own, so frames may be kept
for as long as that memory lasts. A frame is given out with the copy still queued: see kernels/staging.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

from av.codec.hwaccel import HWAccel

from streamfuse.types import Chroma, DevicePicture, DevicePlane, Matrix, Picture

_CUDA = 2
"""DLPack's name for it."""
FORMATS: dict[str, tuple[Chroma, int]] = {
    "nv12": ("nv12", 1),
    "p010le": ("nv12", 2),
    "p016le": ("nv12", 2),
    "yuv444p": ("444", 1),
    "yuv444p16le": ("444", 2),
}
"""What NVDEC puts out, as chroma and bytes of a sample. 4:2:2, of the newest alone, is not among it."""
_LARGEST = 4096
"""Pixels of a side: a row of the largest format that the kernel holds in a block's memory."""


@dataclass(frozen=True)
class Gpu:
    """Where decoded pictures stay.

    index    as CUDA counts
    current  current() makes its primary context this thread's, for a `with`
    """

    index: int
    current: Callable[[], AbstractContextManager[Any]]

    def accelerator(self, *, fallback: bool) -> HWAccel:
        """For av.open() within current().

        FFmpeg takes a primary context only before anybody else has begun it, or with flags that nobody else
        sets; the current one it takes as it is.
        """
        options: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}
        index = str(self.index)
        return HWAccel(
            "cuda", device=index, allow_software_fallback=fallback, options=options, is_hw_owned=True
        )


def gpu_of(frame: Any) -> int | None:
    """The GPU in whose memory a frame lies; None for the host's."""
    if frame.sw_format is None:
        return None
    kind, index = frame.planes[0].__dlpack_device__()
    return int(index) if kind == _CUDA else None


def format_name(frame: Any) -> str:
    """The format of its samples, wherever they lie."""
    return str((frame.sw_format or frame.format).name)


def device_picture(
    frame: Any,
    gpu: int,
    look: tuple[Matrix, bool, tuple[int, int], int, bool],
    on_host: Callable[[], Picture],
) -> DevicePicture | None:
    """The frame as it lies there, or None where it is nothing for the kernel.

    look  matrix, full_range, pixel_aspect, turns, mirrored

    Odd sizes lose their last column and row: FFmpeg copies half the rows, rounded down, of chroma.
    """
    if format_name(frame) not in FORMATS or not _fits(frame.width, frame.height):
        return None
    chroma, sample_bytes = FORMATS[format_name(frame)]
    wide, high = frame.width // 2, frame.height // 2
    small = (2 * high, 2 * wide) if chroma == "444" else (high, wide)
    shapes = [(2 * high, 2 * wide), (*small, 2)] if chroma == "nv12" else [(2 * high, 2 * wide), small, small]
    planes = [
        DevicePlane(plane.buffer_ptr, plane.line_size, shape)
        for plane, shape in zip(frame.planes, shapes, strict=True)
    ]
    return DevicePicture(tuple(planes), chroma, *look, sample_bytes, gpu, frame, cache(on_host))


def _fits(width: int, height: int) -> bool:
    return min(width, height) >= 2 and max(width, height) <= _LARGEST
