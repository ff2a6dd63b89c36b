from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

import cv2
import numpy as np
import pytest

from streamfuse.faces.finder import LONGEST_SIDE, FaceFinder
from tests.faces.drawing import draw_face, room


@pytest.mark.parametrize("size", [40, 60, 100, 150])
def test_finder_face_of_any_size_is_found_where_it_is(size: int) -> None:
    (found, *_) = FaceFinder(0.7).find(draw_face(room(), 150.0, 110.0, size))

    x, y = found.x + found.width / 2, found.y + found.height / 2
    assert abs(x - 150.0) < 0.1 * size
    assert abs(y - 110.0) < 0.2 * size
    assert 0.7 * size < found.height < 1.5 * size


def test_finder_empty_room_has_no_face() -> None:
    assert FaceFinder(0.5).find(room()) == []


def test_finder_noise_has_no_face() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320)).astype(np.uint8)
    assert FaceFinder(0.5).find(noise) == []


def test_finder_two_faces_the_larger_comes_first() -> None:
    luma = draw_face(draw_face(room(), 70.0, 110.0, 50), 230.0, 110.0, 90)
    first, second = FaceFinder(0.7).find(luma)
    assert first.x > 160 > second.x


def test_finder_large_picture_is_searched_small_and_answered_in_its_own_pixels() -> None:
    large = cv2.resize(draw_face(room(), 150.0, 110.0, 80), (1280, 960)).astype(np.uint8)
    assert max(large.shape) > LONGEST_SIDE
    (found,) = FaceFinder(0.7).find(large)
    assert abs(found.x + found.width / 2 - 600) < 40


def test_finder_sizes_may_change() -> None:
    finder = FaceFinder(0.7)
    for high, wide in ((240, 320), (120, 160), (240, 320)):
        assert len(finder.find(draw_face(room(high, wide), wide / 2, high / 2, high / 3))) == 1


def test_finder_picture_of_one_pixel_has_no_face() -> None:
    assert FaceFinder(0.5).find(np.zeros((1, 1), np.uint8)) == []


def test_weights_are_those_of_the_opencv_zoo() -> None:
    """The checksum that the zoo's Git LFS pointer states."""
    data = (files("streamfuse.faces") / "yunet.onnx").read_bytes()
    assert sha256(data).hexdigest() == "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
    assert "MIT License" in (files("streamfuse.faces") / "YUNET-LICENSE").read_text()
