"""Sound and pictures come out in one order, however long the decoder of pictures keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.config import DecodeConfig
from streamfuse.media.interleave import BESIDE_NS, Interleave
from streamfuse.media.timeline import Decoded
from streamfuse.media.tracks import NO_PTS
from streamfuse.types import MS, AudioChunk, MediaItem, SessionStart, Track, VideoFrame
from tests.clips import Clip, joined
from tests.media.played import Played


def item(track: Track, milliseconds: int) -> Decoded:
    return Decoded(track, milliseconds * MS, 20 * MS, None, None)


def told(items: list[Decoded]) -> list[tuple[str, int]]:
    return [(one.track, one.pts_ns // MS) for one in items]


def late_pictures(delay: int) -> list[Decoded]:
    """Sound every 20 ms and a picture every 40 ms, given `delay` pictures late."""
    sound = [item("audio", at) for at in range(0, 1000, 20)]
    pictures = [item("video", at) for at in range(0, 1000, 40)]
    mixed: list[Decoded] = []
    for k, one in enumerate(pictures):
        mixed += sound[2 * k : 2 * k + 2]
        mixed += pictures[k - delay : k - delay + 1] if k >= delay else []
        del one
    return mixed + pictures[len(pictures) - delay :]


@pytest.mark.parametrize("delay", [1, 4, 8])
def test_order_does_not_depend_on_the_decoders_delay(delay: int) -> None:
    orders = []
    for late in (0, delay):
        interleave = Interleave()
        out = [one for each in late_pictures(late) for one in interleave.push(each)] + interleave.flush()
        orders.append(told(out))
    assert orders[0] == orders[1]


@given(st.lists(st.tuples(st.sampled_from(["audio", "video"]), st.integers(0, 10_000)), max_size=60))
def test_nothing_is_lost_and_each_track_keeps_its_order(given_items: list[tuple[Track, int]]) -> None:
    interleave = Interleave()
    items = [item(track, at) for track, at in given_items]
    out = [one for each in items for one in interleave.push(each)] + interleave.flush()
    for track in ("audio", "video"):
        assert [one for one in out if one.track == track] == [one for one in items if one.track == track]


def test_sound_does_not_wait_for_pictures_that_are_over() -> None:
    interleave = Interleave()
    interleave.push(item("video", 0))
    sound = range(0, 5000, 20)
    out = [one for at in sound for one in interleave.push(item("audio", at))]
    assert len(sound) - len(out) <= BESIDE_NS // (20 * MS) + 1


def test_item_without_a_time_stamp_holds_up_nothing() -> None:
    interleave = Interleave()
    interleave.push(item("video", 0))
    assert interleave.push(item("audio", 40)) == []
    unstamped = Decoded("video", NO_PTS, 0, None, None)
    assert told(interleave.push(unstamped)) == [("audio", 40), ("video", NO_PTS // MS)]


def digest(one: MediaItem) -> object:
    if isinstance(one, VideoFrame):
        return "picture", one.pts_ns, one.render().planes[0].tobytes()
    if isinstance(one, AudioChunk):
        return "sound", one.pts_ns, np.asarray(one.samples).tobytes()
    return one


@pytest.mark.parametrize(
    "second",
    [{"width": 640, "height": 480}, {"start_ticks": 9_000_000}, {"start_ticks": 0}, {"pix_fmt": "yuv444p"}],
)
def test_number_of_decoder_threads_changes_nothing(second: dict[str, object], tmp_path: Path) -> None:
    """Of a stream whose pictures change in the middle, or whose time jumps."""
    options = {"mpegts_copyts": "1"}
    a = Clip(seconds=1, b_frames=2, start_ticks=900_000, options=options).write(tmp_path / "a.ts")
    b = Clip(seconds=1, **{"start_ticks": 990_000, "options": options, **second}).write(tmp_path / "b.ts")
    path = joined(tmp_path / "c.ts", a, b)
    plays = (Played(path, decode=DecodeConfig(threads=threads)) for threads in (1, 2, 8))
    one, *others = ([digest(each) for each in played.items] for played in plays)
    assert sum(isinstance(each, SessionStart) for each in one) == 2
    for other in others:
        assert other == one
