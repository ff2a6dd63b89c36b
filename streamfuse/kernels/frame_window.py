"""Decoded pictures of any size -> the model's normalised squares: the reference and the public function.

Planes are resized as they are (area when shrinking, linear when enlarging) and the colour matrix is
applied to the few pixels that are left. Judge: swscale with AREA, same matrix and range.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamfuse.errors import StageError
from streamfuse.kernels.backend import Device, kernel_device
from streamfuse.kernels.frame_window_cpu import frame_window_cpu
from streamfuse.kernels.geometry import (
    LUMA_SHARE,
    SUBSAMPLING,
    Taps,
    colour_terms,
    spans,
    taps,
    weight_matrix,
)
from streamfuse.kernels.spec import FrameSpec
from streamfuse.types import F32, U8, Chroma, Matrix, Picture

__all__ = ["FrameSpec", "frame_window", "frame_window_reference"]


def frame_window_reference(picture: Picture, spec: FrameSpec) -> npt.NDArray[np.float64]:
    """The definition, in float64: (channels, size, size)."""
    across, down, chroma_across, chroma_down = (
        weight_matrix(span)
        for span in spans(picture.width, picture.height, picture.chroma, picture.pixel_aspect, spec.size)
    )
    planes = [plane.astype(np.float64) for plane in picture.planes]
    if picture.chroma == "nv12":
        planes = [planes[0], planes[1][..., 0], planes[1][..., 1]]
    y = down @ planes[0] @ across.T
    cb, cr = (chroma_down @ plane @ chroma_across.T - 128 for plane in planes[1:])
    y0, scale, red, green_b, green_r, blue = colour_terms(picture.matrix, picture.full_range)
    y = (y - y0) * scale
    if spec.colour == "luma":
        channels = y[None]
    else:
        channels = np.stack([y + red * cr, y + green_b * cb + green_r * cr, y + blue * cb])
    mean, std = (np.array(v[: spec.channels])[:, None, None] for v in (spec.mean, spec.std))
    return np.asarray((np.clip(channels, 0, 1) - mean) / std)


def frame_window(
    pictures: Sequence[Picture],
    spec: FrameSpec | None = None,
    out: F32 | None = None,
    backend: str | Device = "cpu",
) -> F32:
    """Return each picture's centre square at the model's size, normalised.

    pictures  any sizes and formats
    out       (B, channels, size, size) float32 to write into; each out[b] C-contiguous
    returns   (B, channels, size, size) float32: (value in [0, 1] - mean) / std; `out` if given
    raises    StageError: planes that do not fit the picture's format; BackendError: no such backend
    """
    spec = spec or FrameSpec()
    shape = (len(pictures), spec.channels, spec.size, spec.size)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or (len(out) and not out[0].flags.c_contiguous):
        rule = f"out must be float32 {shape}, C-contiguous within each picture"
        raise StageError(rule, got=f"{out.dtype} {out.shape} strides {out.strides}", where="frame_window")
    planes = [checked_planes(picture, f"picture {index}") for index, picture in enumerate(pictures)]
    device = kernel_device(backend)
    if device.kind == "cuda":
        from streamfuse.kernels.frame_window_cuda import frame_window_on_cuda

        frame_window_on_cuda(pictures, spec, device, out)
        return out
    norm = _norm(spec)
    for index, picture in enumerate(pictures):
        _run_cpu(picture, planes[index], spec, norm, out[index])
    return out


def _run_cpu(picture: Picture, planes: list[U8], spec: FrameSpec, norm: F32, out: F32) -> None:
    across, down, c_across, c_down = _taps(
        picture.width, picture.height, picture.chroma, picture.pixel_aspect, spec.size
    )
    colour = _colour(picture.matrix, picture.full_range)
    luma, blue, red = planes[0], planes[1], planes[-1]
    frame_window_cpu(
        luma.ctypes.data, luma.strides[0], blue.ctypes.data, red.ctypes.data, blue.strides[0],
        2 if picture.chroma == "nv12" else 1, *across, *down, *c_across, *c_down, colour, norm, out,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _taps(
    width: int, height: int, chroma: Chroma, pixel_aspect: tuple[int, int], size: int
) -> tuple[Taps, Taps, Taps, Taps]:
    across, down, c_across, c_down = map(taps, spans(width, height, chroma, pixel_aspect, size))
    return across, down, c_across, c_down


@lru_cache(maxsize=8)
def _norm(spec: FrameSpec) -> F32:
    """(2, channels): value * norm[0] + norm[1] is (value - mean) / std."""
    std = np.array(spec.std[: spec.channels])
    return np.stack([1 / std, -np.array(spec.mean[: spec.channels]) / std]).astype(np.float32)


@lru_cache(maxsize=8)
def _colour(matrix: Matrix, full_range: bool) -> tuple[np.float32, ...]:
    return tuple(np.float32(term) for term in colour_terms(matrix, full_range))


def checked_planes(picture: Picture, where: str) -> list[U8]:
    """Return the planes with samples side by side in each row, or say which one does not fit."""
    if picture.chroma not in SUBSAMPLING or picture.matrix not in LUMA_SHARE:
        rule = f"chroma must be one of {', '.join(SUBSAMPLING)}, matrix one of {', '.join(LUMA_SHARE)}"
        raise StageError(rule, got=f"{picture.chroma}, {picture.matrix}", where=where)
    if min(picture.pixel_aspect) < 1:
        raise StageError("pixel_aspect must be positive", got=picture.pixel_aspect, where=where)
    sx, sy = SUBSAMPLING[picture.chroma]
    small = (-(-picture.height // sy), -(-picture.width // sx))
    luma = (picture.height, picture.width)
    shapes = [luma, (*small, 2)] if picture.chroma == "nv12" else [luma, small, small]
    if [plane.shape for plane in picture.planes] != shapes or 0 in luma:
        got = " ".join(str(plane.shape) for plane in picture.planes)
        raise StageError(f"planes of {picture.chroma} must be {shapes}", got=got, where=where)
    if any(plane.dtype != np.uint8 for plane in picture.planes):
        raise StageError("planes must be uint8", got=[str(p.dtype) for p in picture.planes], where=where)
    planes = list(picture.planes)
    inner = [1, 2] if picture.chroma == "nv12" else [1, 1, 1]
    for i, plane in enumerate(planes):
        if (
            plane.strides[0] < 0
            or plane.strides[1] != inner[i]
            or (plane.ndim == 3 and plane.strides[2] != 1)
        ):
            planes[i] = np.ascontiguousarray(plane)
    same_rows = len(planes) < 3 or planes[1].strides[0] == planes[2].strides[0]
    return planes if same_rows else [planes[0], *map(np.ascontiguousarray, planes[1:])]
