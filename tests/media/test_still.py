"""Stills, judged by Pillow: size, uprightness, shape of pixels, and never too large to be sent."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.media.still import MAX_BYTES, still_of
from streamfuse.types import VideoFrame
from tests.clips import Clip

RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 20), (20, 20, 230), (240, 240, 240)


def quarters(width: int = 320, height: int = 240) -> Any:
    """A frame whose four quarters have a colour each: red green / blue white."""
    rgb = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    rgb[:top, :left], rgb[:top, left:], rgb[top:, :left], rgb[top:, left:] = RED, GREEN, BLUE, WHITE
    return av.VideoFrame.from_ndarray(rgb, format="rgb24")


def corners(jpeg: bytes) -> list[tuple[int, ...]]:
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    wide, high = image.size
    places = [(x, y) for y in (high // 4, 3 * high // 4) for x in (wide // 4, 3 * wide // 4)]
    return [image.getpixel(place) for place in places]  # type: ignore[misc]


def near(got: list[tuple[int, ...]], want: list[tuple[int, int, int]]) -> bool:
    return bool(np.abs(np.array(got) - np.array(want)).max() <= 12)


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "nv12", "rgb24", "yuv444p10le"])
def test_still_shows_the_frames_colours(form: str) -> None:
    jpeg, width, height = still_of(quarters().reformat(format=form), (1, 1), 640, 90)
    assert (width, height) == Image.open(io.BytesIO(jpeg)).size == (320, 240), "never enlarged"
    assert near(corners(jpeg), [RED, GREEN, BLUE, WHITE]), corners(jpeg)


def test_still_is_no_wider_than_asked_for_and_keeps_its_shape() -> None:
    jpeg, width, height = still_of(quarters(1920, 1080), (1, 1), 640, 80)
    assert (width, height) == Image.open(io.BytesIO(jpeg)).size == (640, 360)


@pytest.mark.parametrize(("aspect", "shown"), [((16, 11), (320, 165)), ((1, 2), (160, 240))])
def test_still_has_square_pixels(aspect: tuple[int, int], shown: tuple[int, int]) -> None:
    assert still_of(quarters(), aspect, 640, 80)[1:] == shown


class Turned:
    """A frame with a display matrix, which PyAV cannot put on one."""

    def __init__(self, frame: Any, a: int, b: int, c: int, d: int) -> None:
        self._frame = frame
        one = 1 << 16
        matrix = struct.pack("<9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        self.side_data = {"DISPLAYMATRIX": matrix}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frame, name)


@pytest.mark.parametrize(
    ("matrix", "want", "size"),
    [
        ((0, 1, -1, 0), [BLUE, RED, WHITE, GREEN], (240, 320)),  # a telephone held upright
        ((-1, 0, 0, -1), [WHITE, BLUE, GREEN, RED], (320, 240)),
        ((0, -1, 1, 0), [GREEN, WHITE, RED, BLUE], (240, 320)),
        ((-1, 0, 0, 1), [GREEN, RED, WHITE, BLUE], (320, 240)),  # a mirror
    ],
)
def test_still_is_upright(
    matrix: tuple[int, int, int, int],
    want: list[tuple[int, int, int]],
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamfuse.media.still.VideoReformatter", _Unwrapped)
    monkeypatch.setattr("streamfuse.media.frames.SideDataContainer", lambda turned: turned.side_data)
    jpeg, width, height = still_of(Turned(quarters(), *matrix), (1, 1), 640, 90)
    assert (width, height) == Image.open(io.BytesIO(jpeg)).size == size
    assert near(corners(jpeg), want), corners(jpeg)


class _Unwrapped:
    def reformat(self, frame: Any, **options: Any) -> Any:
        return frame._frame.reformat(
            **{k: v for k, v in options.items() if k in ("width", "height", "format")}
        )


def test_still_that_would_be_too_large_is_made_worse_until_it_is_not() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
    jpeg, width, height = still_of(frame, (1, 1), 1920, 95)
    assert len(jpeg) <= MAX_BYTES
    assert (width, height) == Image.open(io.BytesIO(jpeg)).size == (1920, 1080)


def test_decoded_frames_give_stills(tmp_path: Path) -> None:
    clip = Clip(seconds=0.5, width=640, height=480).write(tmp_path / "clip.mp4")
    with open_decoder(parse_source(str(clip)), mode="recorded", picture_side=128) as decoder:
        frame = next(item for item in decoder if isinstance(item, VideoFrame))
        assert frame.still is not None
        jpeg, width, height = frame.still(320, 80)
    assert (width, height) == Image.open(io.BytesIO(jpeg)).size == (320, 240)
