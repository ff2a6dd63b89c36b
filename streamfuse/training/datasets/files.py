"""One recording -> samples or a picture, by the same decoder and kernel that serve the analyzer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.errors import SourceError
from streamfuse.kernels.frame_window import frame_window
from streamfuse.kernels.spec import FrameSpec
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import AudioChunk, Picture

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
GREY = 128
"""The chroma of a picture without colour."""


def read_sound(path: Path) -> F32:
    """The whole sound of a file at 16 kHz mono, (n,) float32 in [-1, 1].

    raises  SourceError when it can not be decoded or has no sound
    """
    decoder = open_decoder(
        parse_source(str(path)),
        decode=DecodeConfig(video=False),
        ticks=TickConfig(),
        mode="recorded",
        picture_side=1,
    )
    try:
        parts = [item.samples for item in decoder if isinstance(item, AudioChunk)]
    finally:
        decoder.close()
    if not parts:
        raise SourceError("a recording of sound must have some", got="none", where=path)
    return np.concatenate(parts)


def read_picture(path: Path) -> Picture:
    """A picture file as a Picture of luma alone, the right way up; colour is nothing our models look at.

    raises  SourceError when it is no picture
    """
    try:
        with Image.open(path) as image:
            luma = np.asarray(ImageOps.exif_transpose(image).convert("L"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise SourceError("a picture must be readable", got=error, where=path) from error
    half = (-(-luma.shape[0] // 2), -(-luma.shape[1] // 2))
    chroma = np.full(half, GREY, np.uint8)
    return Picture((luma, chroma, chroma), full_range=True)


def read_luma(path: Path, side: int) -> U8:
    """The centre square of a picture's luma, (side, side) uint8."""
    spec = FrameSpec(size=side, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), colour="luma")
    window = frame_window([read_picture(path)], spec)[0, 0]
    luma: U8 = np.rint(window * 255.0).astype(np.uint8)
    return luma
