"""frame_window on the CPU, judged by swscale and by the float64 reference."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.errors import BackendError, ModelError, StageError
from streamfuse.kernels.frame_window import FrameSpec, frame_window, frame_window_reference
from streamfuse.kernels.frame_window_cpu import frame_window_cpu
from streamfuse.kernels.geometry import Span, tap_range, tap_weight, weight_matrix
from streamfuse.types import Picture
from tests.kernels.signals import frames, picture_of, random_picture

PLAIN = FrameSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""Values stay in [0, 1], so that bounds read as fractions of 255."""
BYTES = np.zeros((4, 4), np.uint8)
CHROMAS = ["420", "422", "444", "nv12"]
MATRICES = ["bt601", "bt709", "bt2020"]


def flat(y: int, cb: int, cr: int, side: int = 32, **about) -> Picture:
    small = side // 2
    planes = np.full((side, side), y), np.full((small, small), cb), np.full((small, small), cr)
    return Picture(tuple(plane.astype(np.uint8) for plane in planes), **about)


def assert_near(got: np.ndarray, expected: np.ndarray, bound: float) -> None:
    assert got.shape == expected.shape and np.isfinite(got).all()
    np.testing.assert_allclose(got, expected, atol=bound, rtol=0)


@pytest.mark.parametrize("chroma", CHROMAS)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
def test_every_format_matches_the_reference(chroma, matrix, full_range: bool) -> None:
    picture = random_picture(97, 63, chroma, matrix, full_range, padding=13)
    for colour in ("rgb", "luma"):
        spec = msgspec.structs.replace(PLAIN, size=32, colour=colour)
        assert_near(frame_window([picture], spec)[0], frame_window_reference(picture, spec), 1e-5)


@pytest.mark.parametrize(
    ("width", "height"),
    [(384, 216), (216, 384), (641, 361), (1921, 1081), (128, 128), (129, 127), (64, 64), (7, 5), (2, 300),
     (1, 1), (3000, 40)],
)  # fmt: skip
@pytest.mark.parametrize("chroma", ["420", "nv12"])
def test_every_size_matches_the_reference(width: int, height: int, chroma) -> None:
    picture = random_picture(width, height, chroma)
    assert_near(frame_window([picture], PLAIN)[0], frame_window_reference(picture, PLAIN), 1e-5)


@settings(max_examples=80)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(1, 70),
    st.sampled_from(CHROMAS),
    st.sampled_from([(1, 1), (4, 3), (8, 9), (64, 45), (1, 40)]),
)
def test_any_geometry_matches_the_reference(width, height, size, chroma, pixel_aspect) -> None:
    picture = random_picture(width, height, chroma, pixel_aspect=pixel_aspect)
    spec = msgspec.structs.replace(PLAIN, size=size)
    assert_near(frame_window([picture], spec)[0], frame_window_reference(picture, spec), 1e-5)


@pytest.mark.needs_shared
@pytest.mark.parametrize("clip", ["obama_speech.mp4", "movie-hello.mp4", "carphone_pristine.mp4"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_real_frames_match_swscale(shared, clip: str, matrix) -> None:
    """Mean difference at most 1.5 / 255 against swscale's AREA with the same matrix and range."""
    for frame in frames(shared / "media" / clip):
        square = crop(picture_of(frame, matrix, full_range=False), min(frame.height, frame.width) // 2 * 2)
        judge = by_swscale(square, PLAIN.size, matrix)
        assert np.abs(frame_window([square], PLAIN)[0] - judge).mean() <= 1.5 / 255
        assert judge.std() > 0.02, "a flat picture proves nothing"


@pytest.mark.needs_shared
def test_real_frames_match_swscale_straight_to_rgb(shared) -> None:
    for frame in frames(shared / "media" / "movie-hello.mp4"):
        square = crop(picture_of(frame, "bt601", full_range=False), 720)
        judge = by_swscale(square, PLAIN.size, "bt601", direct=True)
        assert np.abs(frame_window([square], PLAIN)[0] - judge).mean() <= 1.5 / 255


@pytest.mark.parametrize("chroma", ["420", "422", "444", "nv12"])
@pytest.mark.parametrize("full_range", [False, True])
def test_generated_frames_match_swscale(chroma, full_range: bool) -> None:
    picture = smooth_picture(300, chroma, full_range)
    judge = by_swscale(picture, PLAIN.size, "bt601")
    assert np.abs(frame_window([picture], PLAIN)[0] - judge).mean() <= 1.5 / 255
    assert judge.std() > 0.02


@pytest.mark.parametrize(
    ("matrix", "full_range", "yuv", "rgb"),
    [
        ("bt601", False, (235, 128, 128), (255, 255, 255)),
        ("bt601", False, (16, 128, 128), (0, 0, 0)),
        ("bt601", True, (255, 128, 128), (255, 255, 255)),
        ("bt601", True, (76, 85, 255), (254, 0, 0)),  # JPEG's red
        ("bt601", False, (81, 90, 240), (255, 0, 0)),  # the colour bars of ITU-R BT.601 and BT.709
        ("bt601", False, (145, 54, 34), (0, 255, 0)),
        ("bt601", False, (41, 240, 110), (0, 0, 255)),
        ("bt709", False, (63, 102, 240), (255, 0, 0)),
        ("bt709", False, (173, 42, 26), (0, 255, 0)),
        ("bt709", False, (32, 240, 118), (0, 0, 255)),
        ("bt2020", False, (74, 97, 240), (255, 0, 0)),
        ("bt601", False, (255, 255, 255), (255, 125, 255)),  # out of gamut: clipped per channel
    ],
)
def test_known_colours(matrix, full_range, yuv, rgb) -> None:
    got = frame_window([flat(*yuv, matrix=matrix, full_range=full_range)], PLAIN)[0]
    assert_near(got, np.broadcast_to(np.array(rgb)[:, None, None] / 255, got.shape), 1.5 / 255)


def test_luma_is_expanded_to_full_range() -> None:
    spec = msgspec.structs.replace(PLAIN, colour="luma")
    for y, full_range, value in [(16, False, 0), (235, False, 1), (255, False, 1), (128, True, 128 / 255)]:
        got = frame_window([flat(y, 200, 30, full_range=full_range)], spec)
        assert got.shape == (1, 1, 128, 128)
        assert_near(got, np.full_like(got, value), 1e-5)


def test_mean_and_std_are_applied_per_channel() -> None:
    spec = FrameSpec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    picture = random_picture(200, 150)
    plain = frame_window([picture], PLAIN)
    expected = (plain - np.array(spec.mean)[:, None, None]) / np.array(spec.std)[:, None, None]
    assert_near(frame_window([picture], spec), expected, 1e-5)


def test_shrinking_keeps_the_mean_and_fine_patterns_become_grey() -> None:
    """Antialiasing: a chessboard of single pixels is grey, not moire."""
    board = (np.indices((900, 900)).sum(axis=0) % 2 * 255).astype(np.uint8)
    chroma = np.full((450, 450), 128, np.uint8)
    got = frame_window([Picture((board, chroma, chroma), full_range=True)], PLAIN)
    assert_near(got, np.full_like(got, 0.5), 0.02)


@pytest.mark.parametrize("chroma", CHROMAS)
def test_mirrored_picture_gives_the_mirrored_square(chroma) -> None:
    picture = random_picture(402, 226, chroma)
    mirrored = Picture(tuple(np.ascontiguousarray(p[:, ::-1]) for p in picture.planes), chroma)
    expected = frame_window([picture], PLAIN)[..., ::-1]
    assert_near(frame_window([mirrored], PLAIN), expected, 1e-5)


def test_crop_is_the_middle_square_as_shown() -> None:
    """64:45 pixels of PAL widescreen: 720 x 576 is shown 1024 x 576, so 405 of 720 columns are seen."""
    luma = np.zeros((576, 720), np.uint8)
    luma[:, 160:560] = 255
    chroma = np.full((288, 360), 128, np.uint8)
    got = frame_window([Picture((luma, chroma, chroma), full_range=True, pixel_aspect=(64, 45))], PLAIN)[0]
    np.testing.assert_allclose(got[:, :, 2:-2], 1, atol=1e-6)
    assert (got[:, :, 0] < 0.5).all() and (got[:, :, -1] < 0.5).all()


def test_planes_in_any_memory_layout_give_the_same_bits() -> None:
    picture = random_picture(100, 80)
    expected = frame_window([picture], PLAIN)
    upside_down = tuple(np.ascontiguousarray(p[::-1])[::-1] for p in picture.planes)
    by_column = tuple(np.asfortranarray(p) for p in picture.planes)
    luma, cb, cr = picture.planes
    uneven = (luma, np.ascontiguousarray(cb), np.pad(cr, ((0, 0), (0, 9)))[:, : cr.shape[1]])
    for planes in (upside_down, by_column, uneven):
        np.testing.assert_array_equal(frame_window([Picture(planes)], PLAIN), expected)


def test_nv12_gives_the_same_as_planar() -> None:
    luma, cb, cr = random_picture(101, 55).planes
    interleaved = Picture((luma, np.stack([cb, cr], axis=-1)), "nv12")
    expected = frame_window([Picture((luma, cb, cr))], PLAIN)
    assert_near(frame_window([interleaved], PLAIN), expected, 1e-6)


def test_batch_of_different_pictures_equals_each_alone() -> None:
    pictures = [random_picture(40 * i + 50, 300 - 40 * i, CHROMAS[i % 4], seed=i) for i in range(6)]
    batch = frame_window(pictures, PLAIN)
    for picture, got in zip(pictures, batch, strict=True):
        np.testing.assert_array_equal(got, frame_window([picture], PLAIN)[0])


def test_out_may_be_a_slot_of_a_larger_window() -> None:
    window = np.full((2, 1, 4, 3, 128, 128), np.nan, np.float32)
    pictures = [random_picture(200, 100, seed=s) for s in (1, 2)]
    out = window[:, 0, 2]
    assert frame_window(pictures, PLAIN, out=out) is out
    np.testing.assert_array_equal(window[:, 0, 2], frame_window(pictures, PLAIN))
    assert np.isnan(window[:, 0, [0, 1, 3]]).all()


def test_no_pictures_give_an_empty_batch() -> None:
    assert frame_window([], PLAIN).shape == (0, 3, 128, 128)


def test_frame_window_is_compiled_once_for_all_formats() -> None:
    for chroma in CHROMAS:
        picture = random_picture(90, 50, chroma)
        for plane in picture.planes:
            plane.flags.writeable = False
        frame_window([picture], PLAIN)
    assert len(frame_window_cpu.signatures) == 1


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Picture((BYTES,) * 3), r"planes of 420 must be .*got \(4, 4\) \(4, 4\).*picture 0"),
        (Picture((BYTES,)), r"planes of 420 must be"),
        (Picture((BYTES.astype(np.float32),) * 3, "444"), r"planes must be uint8, got \['float32'"),
        (Picture((BYTES[:0],) * 3, "444"), r"planes of 444 must be .*got \(0, 4\)"),
        (Picture((BYTES,) * 3, "410"), r"chroma must be one of 420, 422, 444, nv12"),
        (Picture((BYTES,) * 3, "444", "rgb"), r"matrix one of bt601.*got 444, rgb"),
        (Picture((BYTES,) * 3, "444", pixel_aspect=(0, 1)), r"pixel_aspect must be positive"),
    ],
)  # fmt: skip
def test_picture_that_does_not_fit_its_format_is_refused(picture: Picture, message: str) -> None:
    with pytest.raises(StageError, match=message):
        frame_window([picture], PLAIN)


def test_out_that_does_not_fit_is_refused() -> None:
    for out in (np.zeros((1, 3, 64, 64), np.float32), np.zeros((1, 3, 128, 128)),
                np.zeros((1, 3, 128, 256), np.float32)[..., ::2]):  # fmt: skip
        with pytest.raises(StageError, match=r"out must be float32 \(1, 3, 128, 128\), C-contiguous"):
            frame_window([random_picture(9, 9)], PLAIN, out=out)


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(BackendError, match="got 'tpu'"):
        frame_window([random_picture(9, 9)], PLAIN, backend="tpu")


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"size": 0}, "size must be in 1..1024, got 0"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be three positive numbers"),
        ({"mean": (0.5,)}, "mean must be three finite numbers"),
        ({"colour": "grey"}, "colour must be rgb or luma, got grey"),
    ],
)
def test_spec_out_of_bounds_is_refused(fields: dict, rule: str) -> None:
    with pytest.raises(ModelError, match=rule):
        FrameSpec(**fields)


@settings(max_examples=200)
@given(
    st.integers(1, 4096), st.integers(1, 256), st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 255)
)  # fmt: skip
def test_taps_of_one_thread_match_the_weights_of_the_reference(length, size, begin, part, pixel) -> None:
    """The scalar code of the CUDA twin, here on the CPU."""
    extent = max(part * length, 1e-3)
    span = Span(length, begin * (length - extent), extent, size)
    j = pixel % size
    origin, scale = np.float32(span.origin), np.float32(span.extent / span.size)
    first, stop = tap_range(j, origin, scale, length)
    assert 0 <= first < stop <= length
    found = np.zeros(length)
    found[first:stop] = [tap_weight(i, j, origin, scale, length) for i in range(first, stop)]
    np.testing.assert_allclose(found, weight_matrix(span)[j], atol=2e-3)


def crop(picture: Picture, side: int) -> Picture:
    """The middle square at even positions, so that a judge without a crop sees the same pixels."""
    x, y = ((n - side) // 4 * 2 for n in (picture.width, picture.height))
    luma, cb, cr = picture.planes
    halves = tuple(p[y // 2 : (y + side) // 2, x // 2 : (x + side) // 2] for p in (cb, cr))
    planes = (luma[y : y + side, x : x + side], *halves)
    return Picture(tuple(map(np.ascontiguousarray, planes)), "420", picture.matrix, picture.full_range)


def smooth_picture(side: int, chroma, full_range: bool) -> Picture:
    """Waves of different lengths in each plane: like a real picture, most of it is not at the pixel limit."""
    noise = random_picture(side, side, chroma)
    waves = []
    for index, plane in enumerate(noise.planes):
        y, x = np.indices(plane.shape[:2]) / plane.shape[0]
        wave = 128 + 60 * np.sin(9 * x + 5 * y * y + index) + 25 * np.sin(31 * y - 14 * x)
        both = np.stack([wave, wave[::-1]], axis=-1) if plane.ndim == 3 else wave
        waves.append((both + plane / 16).astype(np.uint8))
    return Picture(tuple(waves), chroma, "bt601", full_range)


def by_swscale(picture: Picture, size: int, matrix: str, *, direct: bool = False) -> np.ndarray:
    """(3, size, size) in [0, 1], through yuv444p of the final size.

    direct  straight to rgb24: swscale then halves the chroma once more and truncates, which alone is
            1 to 3 levels off (FFmpeg's accurate_rnd and full_chroma_int, which PyAV does not offer)
    """
    av = pytest.importorskip("av")
    name = {"420": "yuv420p", "422": "yuv422p", "444": "yuv444p", "nv12": "nv12"}[picture.chroma]
    frame = av.VideoFrame(picture.width, picture.height, name)
    for plane, source in zip(frame.planes, picture.planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: source.shape[0], : source[0].size] = source.reshape(source.shape[0], -1)
    about = {
        "interpolation": "AREA",
        "src_colorspace": f"ITU{matrix[2:]}",
        "src_color_range": "JPEG" if picture.full_range else "MPEG",
        "dst_color_range": "JPEG",
    }
    if not direct:
        keep = {"dst_colorspace": about["src_colorspace"], "dst_color_range": about["src_color_range"]}
        frame = frame.reformat(size, size, "yuv444p", **about | keep)
    return frame.reformat(size, size, "rgb24", **about).to_ndarray().transpose(2, 0, 1) / 255.0
