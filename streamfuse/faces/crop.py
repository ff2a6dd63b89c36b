"""The square around a face, cut out of all planes of a picture at a place between pixels."""

from __future__ import annotations

import cv2
import numpy as np

from streamfuse.kernels.geometry import SUBSAMPLING
from streamfuse.types import U8, Picture

LEAST_SIDE = 16
"""Pixels: the smallest square that is cut out; a smaller face has no expression."""


def square_around(picture: Picture, x: float, y: float, side: float) -> Picture:
    """The part of `picture` around (x, y) that is `side` high, and square when it is shown.

    x, y, side  in luma pixels, 0 being the edge of the first; what lies outside repeats the edge
    returns     a planar Picture of the same chroma format (nv12 becomes 420), with copies of the planes

    The planes are read between pixels, so that a slow drift of the face does not jump; they are not
    resized, so that the frame window does that here as for the whole picture.
    """
    across, down = picture.pixel_aspect
    chroma = "420" if picture.chroma == "nv12" else picture.chroma
    high = max(LEAST_SIDE, _even(side))
    wide = max(LEAST_SIDE, _even(side * down / across))
    planes = picture.planes
    if picture.chroma == "nv12":
        planes = (planes[0], np.ascontiguousarray(planes[1][..., 0]), np.ascontiguousarray(planes[1][..., 1]))
    over, under = SUBSAMPLING[chroma]
    cut = [_patch(planes[0], x, y, wide, high)]
    cut += [_patch(plane, x / over, y / under, wide // over, high // under) for plane in planes[1:]]
    return Picture(tuple(cut), chroma, picture.matrix, picture.full_range, picture.pixel_aspect)


def _even(length: float) -> int:
    return 2 * max(1, round(length / 2))


def _patch(plane: U8, x: float, y: float, wide: int, high: int) -> U8:
    # Its centre counts from the middle of pixel 0, ours from the edge.
    centre = (x - 0.5, y - 0.5)
    patch: U8 = cv2.getRectSubPix(np.ascontiguousarray(plane), (wide, high), centre)  # type: ignore[assignment]
    return patch
