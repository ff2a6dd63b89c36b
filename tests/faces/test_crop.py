from __future__ import annotations

import numpy as np
import pytest

from streamfuse.faces.crop import LEAST_SIDE, square_around
from streamfuse.kernels.frame_window import FrameSpec, frame_window
from streamfuse.types import U8, Picture


def ramps(high: int = 60, wide: int = 80) -> tuple[U8, U8]:
    """Luma that is 2 a column, chroma that is 4 a (chroma) column and so 2 a column of luma."""
    luma = np.tile(np.arange(wide) * 2, (high, 1)).astype(np.uint8)
    return luma, np.tile(np.arange(wide // 2) * 4, (high // 2, 1)).astype(np.uint8)


@pytest.mark.parametrize("x", [40.0, 40.25, 40.5, 41.0])
def test_crop_is_read_between_pixels(x: float) -> None:
    luma, chroma = ramps()
    cut = square_around(Picture((luma, chroma, chroma)), x, 30.0, 20.0)

    assert [plane.shape for plane in cut.planes] == [(20, 20), (10, 10), (10, 10)]
    # The middle of column k is at k + 0.5, where the ramp is 2 k; so it is 2 x - 1 at x.
    assert abs(cut.planes[0].mean() - (2 * x - 1)) <= 0.5
    assert abs(cut.planes[1].mean() - (2 * x - 2)) <= 0.5


def test_crop_nv12_is_the_same_crop() -> None:
    luma, chroma = ramps()
    other = 255 - chroma
    planar = square_around(Picture((luma, chroma, other)), 33.3, 28.7, 24.0)
    packed = square_around(Picture((luma, np.stack([chroma, other], -1)), "nv12"), 33.3, 28.7, 24.0)
    assert packed.chroma == "420"
    for one, two in zip(planar.planes, packed.planes, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("chroma", "shape"), [("422", (60, 40)), ("444", (60, 80))])
def test_crop_other_subsampling_keeps_it(chroma: str, shape: tuple[int, int]) -> None:
    plane = np.full(shape, 90, np.uint8)
    cut = square_around(Picture((ramps()[0], plane, plane), chroma), 40.0, 30.0, 20.0)  # type: ignore[arg-type]
    assert cut.chroma == chroma
    frame_window([cut], FrameSpec(size=16))  # refuses planes that do not fit the format


def test_crop_wide_pixels_are_square_when_shown() -> None:
    luma, chroma = ramps()
    cut = square_around(Picture((luma, chroma, chroma), pixel_aspect=(2, 1)), 40.0, 30.0, 24.0)
    assert (cut.height, cut.width) == (24, 16)
    assert cut.pixel_aspect == (2, 1)


def test_crop_over_the_edge_repeats_it() -> None:
    luma, chroma = ramps()
    cut = square_around(Picture((luma, chroma, chroma)), 0.0, 30.0, 20.0)
    assert set(cut.planes[0][:, :9].ravel().tolist()) == {0}


def test_crop_tiny_face_is_not_cut_to_nothing() -> None:
    luma, chroma = ramps()
    assert square_around(Picture((luma, chroma, chroma)), 40.0, 30.0, 1.0).height == LEAST_SIDE


def test_crop_copies_what_it_shows() -> None:
    """The planes of a tick belong to the decoder, which writes over them."""
    luma, chroma = ramps()
    cut = square_around(Picture((luma, chroma, chroma)), 40.0, 30.0, 20.0)
    before = cut.planes[0].copy()
    luma[:] = 0
    np.testing.assert_array_equal(cut.planes[0], before)
