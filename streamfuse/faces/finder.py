"""Faces in one luma picture, by YuNet (Wu, Peng and Yu, 2023) in OpenCV's `FaceDetectorYN`.

Chosen by what it finds in luma: on our test clips it found every frame of three faces where OpenCV's
cascades found 55 to 100 %, in a fifth of their time (docs/faces.md). Its weights (232 kB, MIT) lie beside
this file, so nothing is fetched at run time.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import NamedTuple

import cv2
import numpy as np

from streamfuse.types import U8

CANDIDATES, OVERLAP = 50, 0.3
"""Best boxes that are compared; of two that overlap more than this, the better one is kept."""
LONGEST_SIDE = 480
"""Larger pictures are shrunk to this: a face that is lost by it is too small to show a feeling."""


class Found(NamedTuple):
    """A face in pixels of the picture that was searched: left, top, width, height; score in 0..1."""

    x: float
    y: float
    width: float
    height: float
    score: float


class FaceFinder:
    """Finds faces with a score of at least `least`. One for each size of picture: resizing it is slow."""

    def __init__(self, least: float) -> None:
        # One thread in all: the machine's cores belong to the services (DESIGN section 12).
        cv2.setNumThreads(1)
        with as_file(files("streamfuse.faces") / "yunet.onnx") as path:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (32, 32), least, OVERLAP, CANDIDATES)
        self._size = (32, 32)

    def find(self, luma: U8) -> list[Found]:
        """Every face in luma (H, W), the largest first."""
        height, width = luma.shape
        shrink = min(1.0, LONGEST_SIDE / max(height, width))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        if shrink < 1.0:
            luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        if size != self._size:
            self._net.setInputSize(size)
            self._size = size
        _, rows = self._net.detect(cv2.cvtColor(luma, cv2.COLOR_GRAY2BGR))
        if rows is None:
            return []
        across, down = width / size[0], height / size[1]
        found = [
            Found(
                float(r[0]) * across,
                float(r[1]) * down,
                float(r[2]) * across,
                float(r[3]) * down,
                float(r[14]),
            )
            for r in rows
        ]
        # A box without extent can be neither followed nor cut out.
        return sorted((f for f in found if f.width >= 1 and f.height >= 1), key=lambda f: -f.width * f.height)
