"""A decoded frame becomes a Picture: the right way up, 8-bit 4:2:0, shrunk by a whole factor."""

from __future__ import annotations

import struct
import threading
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame as AvFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from streamfuse.media.device_frames import device_picture, gpu_of
from streamfuse.types import U8, AnyPicture, Matrix, Picture

_HD_HEIGHT = 720
"""Where the stream does not say its matrix: BT.709 from this height on, BT.601 below, as players do."""

# AVColorSpace -> ours. 240M is BT.709 but for the third decimal.
_MATRICES: dict[int, Matrix] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
SWS_COLOURS: dict[Matrix, Colorspace] = {
    "bt601": Colorspace.ITU601,
    "bt709": Colorspace.ITU709,
    "bt2020": Colorspace.BT2020,
}
_PLAIN = ("yuv420p", "yuvj420p")


class Renderer:
    """Turns a stream's frames into Pictures whose short side is at most `side`."""

    def __init__(self, side: int, pixel_aspect: tuple[int, int] = (1, 1)) -> None:
        self.side = side
        self.pixel_aspect = pixel_aspect
        self._reformatter = VideoReformatter()
        self._one = threading.Lock()  # a kept picture may be wanted on the host by another thread

    def render(self, frame: Any) -> Picture:
        """The Picture of `frame` (av.VideoFrame, any pixel format, also on a GPU)."""
        with self._one:
            return self._render(frame)

    def keep(self, frame: Any) -> AnyPicture:
        """The picture of `frame` at its full size where it lies, if that is on a GPU and the kernel takes it;
        else as render().
        """
        gpu = gpu_of(frame)
        if gpu is None:
            return self.render(frame)
        look = (*colour_of(frame), self.pixel_aspect, *orientation(frame))
        return device_picture(frame, gpu, look, partial(self.render, frame)) or self.render(frame)

    def _render(self, frame: Any) -> Picture:
        width, height = frame.width, frame.height
        factor = -(-min(width, height) // self.side)
        matrix, full_range = colour_of(frame)
        if factor > 1 or frame.format.name not in _PLAIN:
            frame = self._shrink(frame, factor, matrix, full_range)
        planes = tuple(_plane(plane) for plane in frame.planes)
        turns, mirrored = orientation(frame)
        aspect = self.pixel_aspect
        if turns or mirrored:
            planes = tuple(_turn(plane, turns, mirrored) for plane in planes)
            aspect = (aspect[1], aspect[0]) if turns % 2 else aspect
        return Picture(planes, "420", matrix, full_range, aspect)

    def _shrink(self, frame: Any, factor: int, matrix: Matrix, full_range: bool) -> Any:
        # Same matrix and range on both sides: swscale then only scales and changes the format.
        colours = int(SWS_COLOURS[matrix])
        levels = ColorRange.JPEG if full_range else ColorRange.MPEG
        return self._reformatter.reformat(
            frame,
            width=max(1, round(frame.width / factor)),
            height=max(1, round(frame.height / factor)),
            format="yuv420p",
            src_colorspace=colours,
            dst_colorspace=colours,
            src_color_range=int(ColorRange.JPEG if is_rgb(frame) else levels),
            dst_color_range=int(levels),
            interpolation=Interpolation.AREA,
            threads=1,
        )


def colour_of(frame: Any) -> tuple[Matrix, bool]:
    """The YCbCr matrix of a frame, and whether it uses the full range.

    An RGB frame has neither: it will be converted to the usual matrix for its size, limited range.
    """
    name = frame.format.name
    by_size: Matrix = "bt709" if frame.height >= _HD_HEIGHT else "bt601"
    if is_rgb(frame):
        return by_size, False
    matrix = _MATRICES.get(int(frame.colorspace), by_size)
    levels = int(frame.color_range)
    if levels == ColorRange.UNSPECIFIED:
        # FFmpeg's convention for formats that are full range by their name.
        return matrix, name.startswith(("yuvj", "gray", "ya8", "mono"))
    return matrix, levels == ColorRange.JPEG


def is_rgb(frame: Any) -> bool:
    return bool(frame.format.is_rgb) or frame.format.has_palette


def orientation(frame: Any) -> tuple[int, bool]:
    """(quarter turns counterclockwise, mirrored left to right first) that put a frame upright.

    Read from the display matrix; angles between are rounded to the nearest quarter.
    """
    # Not frame.side_data: that stays in the frame and refers to it, so that every frame, and what its decoder
    # holds, would be kept until the garbage collector comes.
    matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    if matrix is None:
        return 0, False
    a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b  # what remains when the mirror has come first
    # The matrix maps (x, y), y down, to (a x + c y, b x + d y).
    if abs(a) >= abs(b):
        return (0 if a > 0 else 2), mirrored
    return (1 if b < 0 else 3), mirrored


def _turn(plane: U8, turns: int, mirrored: bool) -> U8:
    if mirrored:
        plane = plane[:, ::-1]
    return np.ascontiguousarray(np.rot90(plane, turns))


def _plane(plane: Any) -> U8:
    """A plane's pixels (H, W) without a copy; the array keeps the frame alive."""
    rows: U8 = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))[: plane.height, : plane.width]
    return rows[::-1] if plane.line_size < 0 else rows


def picture_from_rgb(rgb: npt.NDArray[np.uint8]) -> Picture:
    """The Picture of one's own capture.

    rgb  (H, W, 3) uint8, full range, the right way up
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ValueError(f"rgb must be (H, W, 3) uint8 and not empty, got {rgb.shape} {rgb.dtype}")
    frame = AvFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return Renderer(side=max(frame.width, frame.height)).render(frame)
