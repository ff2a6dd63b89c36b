"""Pictures: size, colours and orientation against arithmetic and against FFmpeg's own filters."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import numpy.typing as npt
import pytest

from streamfuse.media.frames import Renderer, colour_of, picture_from_rgb
from streamfuse.types import Picture
from tests.clips import Clip, index_picture, read_index

# Y, U, V of pure colours, limited range, by the standards' own matrices.
COEFFICIENTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
SPACES = {"bt601": 5, "bt709": 1, "bt2020": 9}


def scene(width: int = 640, height: int = 480) -> npt.NDArray[np.uint8]:
    """A smooth picture in which every corner and channel differs."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 200 / width + 20, y * 180 / height + 30, 230 - (x + y) * 150 / (width + height)], -1)
    return np.ascontiguousarray(rgb.round().astype(np.uint8))


def to_yuv(rgb: npt.NDArray[np.generic], matrix: str, full: bool) -> list[npt.NDArray[np.float64]]:
    """The textbook: (H, W, 3) in 0..255 -> Y, U, V at full resolution."""
    red_part, blue_part = COEFFICIENTS[matrix]
    red, green, blue = np.moveaxis(rgb.astype(np.float64), -1, 0)
    luma = red_part * red + (1 - red_part - blue_part) * green + blue_part * blue
    u = (blue - luma) / (2 * (1 - blue_part)) + 128
    v = (red - luma) / (2 * (1 - red_part)) + 128
    if full:
        return [luma, u, v]
    return [16 + luma * 219 / 255, 128 + (u - 128) * 224 / 255, 128 + (v - 128) * 224 / 255]


def shrunk(plane: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    height, width = (n // factor for n in plane.shape)
    return plane[: height * factor, : width * factor].reshape(height, factor, width, factor).mean((1, 3))


def frame_in(form: str, matrix: str = "bt601", full: bool = False, rgb: npt.NDArray[np.uint8] | None = None):
    source = av.VideoFrame.from_ndarray(scene() if rgb is None else rgb, format="rgb24")
    made = source.reformat(format=form, dst_colorspace=SPACES[matrix], dst_color_range=2 if full else 1)
    made.colorspace, made.color_range = SPACES[matrix], 2 if full else 1
    return made


FORMATS = [
    *(
        "yuv420p",
        "yuv422p",
        "yuv444p",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p12le",
        "nv12",
        "p010le",
        "yuyv422",
    ),
    *("uyvy422", "yuva420p", "yuv411p", "yuv410p", "rgb24", "bgr24", "rgba", "bgra", "gbrp", "rgb48le"),
]


@pytest.mark.parametrize("form", FORMATS)
def test_every_pixel_format_is_the_same_picture(form: str) -> None:
    picture = Renderer(240).render(frame_in(form))
    assert (picture.width, picture.height, picture.chroma) == (320, 240, "420")
    assert (picture.matrix, picture.full_range) == ("bt601", False)
    assert_close(picture, 1.0)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv422p10le"])
def test_matrix_and_range_are_kept(matrix: str, full: bool, form: str) -> None:
    picture = Renderer(240).render(frame_in(form, matrix, full))
    assert (picture.matrix, picture.full_range) == (matrix, full)
    assert_close(picture, 1.0)


def assert_close(picture: Picture, tolerance: float) -> None:
    """Each plane agrees with the textbook conversion of the shrunk scene to `tolerance` levels on average."""
    wanted = to_yuv(scene(), picture.matrix, picture.full_range)
    for plane, true, factor in zip(picture.planes, wanted, (2, 4, 4), strict=True):
        assert plane.dtype == np.uint8
        assert np.abs(plane - shrunk(true, factor)).mean() < tolerance


def test_full_range_by_format_name() -> None:
    frame = frame_in("yuvj420p", full=True)
    frame.color_range = 0
    picture = Renderer(480).render(frame)
    assert picture.full_range
    assert (picture.width, picture.height) == (640, 480)


def test_gray_is_full_range_and_has_no_colour() -> None:
    level = np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256)
    frame = av.VideoFrame.from_ndarray(level, format="gray")
    picture = Renderer(256).render(frame)
    assert picture.full_range
    assert np.abs(picture.planes[0].astype(int) - level).max() <= 1
    assert np.abs(picture.planes[1].astype(int) - 128).max() <= 1


@pytest.mark.parametrize(
    ("height", "matrix"), [(480, "bt601"), (719, "bt601"), (720, "bt709"), (1080, "bt709")]
)
def test_unspecified_matrix_goes_by_height_before_shrinking(height: int, matrix: str) -> None:
    frame = av.VideoFrame(320, height, "yuv420p")
    assert colour_of(frame) == (matrix, False)
    assert Renderer(128).render(frame).matrix == matrix


@pytest.mark.parametrize(
    "size", [(1920, 1080), (1080, 1920), (641, 361), (320, 240), (257, 255), (128, 128), (16, 8), (3, 2)]
)
@pytest.mark.parametrize("side", [256, 240, 100])
def test_short_side_is_shrunk_by_the_smallest_whole_factor(size: tuple[int, int], side: int) -> None:
    width, height = size
    picture = Renderer(side).render(av.VideoFrame(width, height, "yuv420p"))
    factor = -(-min(size) // side)
    assert min(picture.width, picture.height) <= side
    assert abs(picture.width * factor - width) <= factor / 2
    assert abs(picture.height * factor - height) <= factor / 2
    chroma = picture.planes[1]
    assert chroma.shape == (-(-picture.height // 2), -(-picture.width // 2))


def test_a_small_plain_frame_is_not_copied() -> None:
    frame = frame_in("yuv420p")
    picture = Renderer(480).render(frame)
    assert picture.planes[0].ctypes.data == frame.planes[0].buffer_ptr


def test_a_picture_outlives_its_frame_and_decoder(tmp_path: Path) -> None:
    path = Clip(seconds=1, audio=None).write(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        pictures = [Renderer(256).render(frame) for frame in container.decode(video=0)]
    assert [read_index(picture.planes[0]) for picture in pictures] == list(range(30))


def through_filters(frame: av.VideoFrame, *filters: tuple[str, str]) -> av.VideoFrame:
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
        )
    ]
    nodes += [graph.add(name, args or None) for name, args in filters]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()


def luma_of(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))[: frame.height, : frame.width]
    return rows[::-1] if plane.line_size < 0 else rows


# Display rotation (counterclockwise) -> how FFmpeg's own autorotate turns it (fftools/ffmpeg_filter.c).
TURNS = {
    0: [],
    -90: [("transpose", "clock")],
    90: [("transpose", "cclock")],
    180: [("hflip", ""), ("vflip", "")],
}


@pytest.mark.parametrize("degrees", TURNS)
def test_rotation_is_what_ffmpeg_does(degrees: int, tmp_path: Path) -> None:
    clip = Clip(
        seconds=0.2, audio=None, rotation=degrees, picture=lambda _: scene(320, 240), aspect=Fraction(4, 3)
    )
    path = clip.write(tmp_path / "r.mp4")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        picture = Renderer(240, (4, 3)).render(frame)
        judge = through_filters(frame, *TURNS[degrees])
    assert np.array_equal(picture.planes[0], luma_of(judge))
    assert picture.pixel_aspect == ((3, 4) if degrees in (90, -90) else (4, 3))


def matrices() -> Iterator[tuple[list[tuple[str, str]], tuple[float, ...]]]:
    """Display matrices with a mirror (a selfie camera), and the filters that do the same."""
    mirror = (-1.0, 0.0, 0.0, 1.0)
    yield [("hflip", "")], mirror
    yield [("vflip", "")], (1.0, 0.0, 0.0, -1.0)
    # The mirror first, then a quarter turn: transpose=clock_flip and cclock_flip.
    yield [("hflip", ""), ("transpose", "clock")], (0.0, -1.0, -1.0, 0.0)
    yield [("hflip", ""), ("transpose", "cclock")], (0.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize(("filters", "matrix"), list(matrices()))
def test_mirrored_display_matrix(
    filters: list[tuple[str, str]], matrix: tuple[float, ...], tmp_path: Path
) -> None:
    path = tmp_path / "m.mp4"
    Clip(seconds=0.2, audio=None, rotation=90, picture=lambda _: scene(320, 240)).write(path)
    data = path.read_bytes()
    # tkhd stores a b u c d v x y w as 16.16; replace the 90 degrees that the muxer wrote.
    old = b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in (0, -1, 0, 1, 0))
    assert data.count(old) == 1
    a, b, c, d = matrix
    new = b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d))
    path.write_bytes(data.replace(old, new))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        picture = Renderer(240).render(frame)
        judge = through_filters(frame, *filters)
    assert np.array_equal(picture.planes[0], luma_of(judge))


def test_a_frame_stored_bottom_up_is_read_the_right_way(tmp_path: Path) -> None:
    frame = frame_in("yuv420p")
    upside_down = through_filters(frame, ("vflip", ""))
    assert upside_down.planes[0].line_size < 0
    picture = Renderer(480).render(upside_down)
    for plane, true in zip(picture.planes, Renderer(480).render(frame).planes, strict=True):
        assert np.array_equal(plane, true[::-1])


def test_picture_from_rgb_keeps_every_pixel() -> None:
    rgb = scene(641, 363)
    picture = picture_from_rgb(rgb)
    assert (picture.width, picture.height, picture.full_range) == (641, 363, False)
    luma = to_yuv(rgb, "bt601", False)[0]
    assert np.abs(picture.planes[0] - luma).max() <= 1.5


def test_picture_from_rgb_of_an_index() -> None:
    assert read_index(picture_from_rgb(index_picture(2741)).planes[0]) == 2741


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_picture_from_rgb_refuses(bad: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"rgb must be \(H, W, 3\) uint8"):
        picture_from_rgb(bad)


def test_frame_that_was_rendered_is_left_to_no_garbage_collector(tmp_path: Path) -> None:
    """Until some collection, those of a source that ends again and again would fill tens of megabytes."""
    clip = Clip(seconds=1, width=64, height=48).write(tmp_path / "a.mp4")
    renderer = Renderer(32)
    gc.collect()
    gc.disable()
    try:
        with av.open(str(clip)) as container:
            count = sum(renderer.render(frame).planes[0].size > 0 for frame in container.decode(video=0))
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [one for one in gc.garbage if isinstance(one, av.VideoFrame)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert count > 10
    assert left == []
