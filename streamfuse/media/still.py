"""A decoded frame becomes a JPEG for people to look at: upright, square pixels, no wider than asked for."""

from __future__ import annotations

import io
from typing import Any

from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from streamfuse.media.frames import SWS_COLOURS, colour_of, is_rgb, orientation

MAX_BYTES = 240_000
"""Of one JPEG: what a published message may carry, less its header."""
_WORSE = 15
"""Points of quality given up at a time where a picture is too large."""


def still_of(frame: Any, pixel_aspect: tuple[int, int], width: int, quality: int) -> tuple[bytes, int, int]:
    """(JPEG, its width, its height) of an av.VideoFrame; the frame is only read.

    width    at most, after turning; a smaller frame is not enlarged
    quality  1..95 as libjpeg counts; lowered until the JPEG has at most MAX_BYTES
    """
    turns, mirrored = orientation(frame)
    shown_wide, shown_high = _square(frame.width, frame.height, pixel_aspect)
    limit = shown_high if turns % 2 else shown_wide
    scale = min(1.0, width / limit)
    image = _rgb(frame, max(1, round(shown_wide * scale)), max(1, round(shown_high * scale)))
    if mirrored or turns:
        image = _upright(image, turns, mirrored)
    while True:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        if out.tell() <= MAX_BYTES or quality <= 1:
            return out.getvalue(), image.width, image.height
        quality = max(1, quality - _WORSE)


def _square(wide: int, high: int, aspect: tuple[int, int]) -> tuple[int, int]:
    """The size in square pixels: never larger than the frame in either direction."""
    across, down = aspect
    if across > down:
        return wide, max(1, round(high * down / across))
    return max(1, round(wide * across / down)), high


def _rgb(frame: Any, wide: int, high: int) -> Any:
    matrix, full_range = colour_of(frame)
    colours = int(SWS_COLOURS[matrix])
    full = full_range or is_rgb(frame)
    scaled = VideoReformatter().reformat(
        frame,
        width=wide,
        height=high,
        format="rgb24",
        src_colorspace=colours,
        dst_colorspace=colours,
        src_color_range=int(ColorRange.JPEG if full else ColorRange.MPEG),
        dst_color_range=int(ColorRange.JPEG),
        interpolation=Interpolation.AREA,
        threads=1,
    )
    return scaled.to_image()  # type: ignore[no-untyped-call]


def _upright(image: Any, turns: int, mirrored: bool) -> Any:
    from PIL.Image import Transpose

    if mirrored:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    quarter = {1: Transpose.ROTATE_90, 2: Transpose.ROTATE_180, 3: Transpose.ROTATE_270}
    return image.transpose(quarter[turns]) if turns else image
