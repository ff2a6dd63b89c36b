"""A face drawn where a test wants it: the detector takes it for one, and its place is known exactly."""

from __future__ import annotations

import cv2
import numpy as np

from streamfuse.types import U8, Picture, TickHead

FINE = 4
"""Drawn so many times larger and shrunk, for places between pixels."""


def draw_face(luma: U8, x: float, y: float, size: float) -> U8:
    """A copy of luma (H, W) with a face in it: (x, y) its middle, `size` about its height."""
    high, wide = luma.shape
    image = cv2.resize(luma, (wide * FINE, high * FINE), interpolation=cv2.INTER_NEAREST)

    def at(dx: float, dy: float) -> tuple[int, int]:
        return round((x + dx * size) * FINE), round((y + dy * size) * FINE)

    def axes(a: float, b: float) -> tuple[int, int]:
        return round(a * size * FINE), round(b * size * FINE)

    thick = max(1, round(0.03 * size * FINE))
    cv2.ellipse(image, at(0, -0.25), axes(0.55, 0.62), 0, 0, 360, 50, -1)
    cv2.ellipse(image, at(0, 0), axes(0.45, 0.6), 0, 0, 360, 190, -1)
    for side in (-0.2, 0.2):
        cv2.ellipse(image, at(side, -0.1), axes(0.12, 0.06), 0, 0, 360, 235, -1)
        cv2.circle(image, at(side, -0.1), axes(0.05, 0)[0], 30, -1)
        cv2.ellipse(image, at(side, -0.22), axes(0.14, 0.05), 0, 180, 360, 60, thick)
    cv2.ellipse(image, at(0, 0.1), axes(0.07, 0.05), 0, 0, 180, 130, thick)
    cv2.line(image, at(-0.02, -0.08), at(-0.06, 0.1), 150, thick)
    cv2.ellipse(image, at(0, 0.3), axes(0.18, 0.05), 0, 0, 360, 100, -1)
    image = cv2.GaussianBlur(image, (0, 0), FINE * size / 40)
    return np.asarray(cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA), np.uint8)


def room(high: int = 240, wide: int = 320) -> U8:
    """A grey wall with a shadow and a shelf: nothing like a face."""
    wall = np.tile(np.linspace(90, 130, wide), (high, 1))
    wall[high * 3 // 4 : high * 3 // 4 + 6] = 60
    return wall.astype(np.uint8)


def picture_of(luma: U8) -> Picture:
    """luma as a 4:2:0 picture; its chroma is a ramp, so that a shifted crop shows in it too."""
    high, wide = -(-luma.shape[0] // 2), -(-luma.shape[1] // 2)
    ramp = np.tile(np.linspace(100, 150, wide), (high, 1)).astype(np.uint8)
    return Picture((luma, ramp, ramp.copy()))


def head(index: int, *, session: int = 0, video: str = "ok") -> TickHead:
    return TickHead("door", session, index, 0, 100_000_000, video, "missing")  # type: ignore[arg-type]
