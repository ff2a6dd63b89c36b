from __future__ import annotations

import msgspec
import numpy as np
import pytest

from streamfuse.faces.view import LARGER, MOST_MISSED, FaceState, FaceView
from streamfuse.types import Face, Picture
from tests.faces.drawing import draw_face, head, picture_of, room


def scene(x: float = 160.0, y: float = 120.0, size: float = 70.0, *, noise: int = 0) -> Picture:
    luma = draw_face(room(), x, y, size)
    if noise:
        grain = np.random.default_rng(noise).normal(0.0, 4.0, luma.shape)
        luma = np.clip(luma + grain, 0, 255).astype(np.uint8)
    return picture_of(luma)


def middle(face: Face) -> tuple[float, float]:
    left, top, width, height = face.box
    return (left + width / 2) * 320, (top + height / 2) * 240


def test_view_face_in_the_first_tick_is_seen_in_it() -> None:
    seen = FaceView().see(head(0), scene())
    assert seen is not None
    crop, face = seen
    x, y = middle(face)
    assert abs(x - 160) < 7
    assert abs(y - 120) < 14
    assert face.score > 0.7
    assert 70 <= crop.height <= 110


def test_view_empty_room_has_none() -> None:
    view = FaceView()
    assert all(view.see(head(k), picture_of(room())) is None for k in range(20))


def test_view_moving_face_is_in_the_middle_of_every_crop() -> None:
    """Across the picture in four seconds: between detections only the match can know."""
    view, off = FaceView(), []
    for k in range(40):
        x = 60.0 + 5.0 * k
        seen = view.see(head(k), scene(x, noise=k + 1))
        assert seen is not None, f"lost in tick {k}"
        off.append(abs(view.state.steady[0].value - x))  # type: ignore[index]
    assert max(off) < 0.2 * 70


def test_view_still_face_in_noise_gives_a_still_crop() -> None:
    view, places = FaceView(), []
    for k in range(60):
        assert view.see(head(k), scene(noise=k + 1)) is not None
        places.append([one.value for one in view.state.steady or ()])
    moved = np.abs(np.diff(np.array(places)[10:], axis=0)).mean(0)
    assert (moved < 0.01 * 70).all(), f"pixels per tick: {moved}"


def test_view_face_that_leaves_is_gone_within_a_second_and_a_half() -> None:
    view = FaceView()
    for k in range(10):
        assert view.see(head(k), scene(noise=k + 1)) is not None
    empty = [view.see(head(k), picture_of(room())) is None for k in range(10, 25)]
    assert all(empty[-1:])
    assert empty == sorted(empty), "a face that is gone does not come back by itself"


def test_view_face_that_comes_is_found_within_half_a_second() -> None:
    view = FaceView()
    for k in range(7):
        assert view.see(head(k), picture_of(room())) is None
    assert any(view.see(head(k), scene()) is not None for k in range(7, 12))


def test_view_clearly_larger_face_takes_over() -> None:
    view = FaceView()
    for k in range(4):
        view.see(head(k), picture_of(draw_face(room(), 70.0, 120.0, 50)))
    both = picture_of(draw_face(draw_face(room(), 70.0, 120.0, 50), 230.0, 120.0, 50 * LARGER))
    faces = [seen[1] for k in range(4, 24) if (seen := view.see(head(k), both)) is not None]
    assert middle(faces[0])[0] < 160
    assert middle(faces[-1])[0] > 160


def test_view_like_faces_do_not_alternate() -> None:
    both = picture_of(draw_face(draw_face(room(), 80.0, 120.0, 62), 240.0, 120.0, 60))
    view = FaceView()
    sides = {middle(seen[1])[0] < 160 for k in range(40) if (seen := view.see(head(k), both)) is not None}
    assert len(sides) == 1


def test_view_missed_detections_are_bridged() -> None:
    """Three in a row end it; fewer do not: the face is followed by its look."""
    view = FaceView()
    for k in range(6):
        view.see(head(k), scene())
    view._window.find = lambda luma: []  # type: ignore[method-assign]
    view._whole.find = lambda luma: []  # type: ignore[method-assign]
    there = [view.see(head(k), scene()) is not None for k in range(6, 6 + 3 * (MOST_MISSED + 1))]
    assert there[: 3 * (MOST_MISSED - 1)] == [True] * (3 * (MOST_MISSED - 1))
    assert not there[-1]


def test_view_held_picture_shows_the_face_where_it_was_without_looking() -> None:
    view = FaceView()
    view.see(head(0), scene())
    before = view.state.wait
    view._whole.find = view._window.find = None  # type: ignore[method-assign, assignment]
    seen = view.see(head(1, video="held"), scene())
    assert seen is not None
    assert view.state.wait == before


def test_view_missing_picture_has_no_face_and_forgets_nothing() -> None:
    view = FaceView()
    view.see(head(0), scene())
    assert view.see(head(1, video="missing"), None) is None
    assert view.state.score > 0.7


@pytest.mark.parametrize("after", [head(1, session=1), head(40)], ids=["session", "gap"])
def test_view_new_session_or_long_gap_begins_anew(after: object) -> None:
    view = FaceView(max_gap_ms=2000)
    view.see(head(0), scene())
    assert view.see(after, picture_of(room())) is None  # type: ignore[arg-type]
    assert view.state.score == 0.0


def test_view_new_picture_size_begins_anew() -> None:
    view = FaceView()
    view.see(head(0), scene())
    small = picture_of(draw_face(room(120, 160), 80.0, 60.0, 40))
    seen = view.see(head(1), small)
    assert seen is not None
    left, _, width, _ = seen[1].box
    assert abs((left + width / 2) * 160 - 80) < 5


def test_view_box_lies_within_the_picture() -> None:
    seen = FaceView().see(head(0), scene(x=18.0))
    assert seen is not None
    left, top, width, height = seen[1].box
    assert 0.0 <= left <= left + width <= 1.0
    assert 0.0 <= top <= top + height <= 1.0


def test_view_state_through_a_checkpoint_goes_on_exactly() -> None:
    ticks = [(head(k), scene(100.0 + 2.0 * k, noise=k + 1)) for k in range(30)]
    whole = FaceView()
    wanted = [whole.see(*tick) for tick in ticks]

    first, second = FaceView(), FaceView()
    for tick in ticks[:14]:
        first.see(*tick)
    stored = msgspec.msgpack.encode(first.state)
    second.state = msgspec.msgpack.decode(stored, type=FaceState)
    for tick, want in zip(ticks[14:], wanted[14:], strict=True):
        got = second.see(*tick)
        assert got is not None
        assert want is not None
        assert got[1] == want[1]
        np.testing.assert_array_equal(got[0].planes[0], want[0].planes[0])
