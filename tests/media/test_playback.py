"""A file played as a camera gives picture and sound of a moment together, however it is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.errors import SourceLost
from streamfuse.media.decode import open_decoder
from streamfuse.media.demux import Read
from streamfuse.media.playback import AHEAD_NS, in_time
from streamfuse.media.source import parse_source
from streamfuse.types import NS, AudioChunk, VideoFrame

MS_BASE = Fraction(1, 1000)


@dataclass(frozen=True)
class Packet:
    dts: int
    size: int = 100
    pts: int | None = None
    time_base: Fraction = MS_BASE


def reads(*places: tuple[str, int]) -> list[Read]:
    return [Read(track, Packet(ms), 0) for track, ms in places]  # type: ignore[arg-type]


def order(given: Iterator[Read]) -> list[tuple[str, int]]:
    return [(read.track, read.packet.dts) for read in given]


def test_second_of_picture_before_its_sound_is_woven_together() -> None:
    video = [("video", ms) for ms in range(0, 1000, 40)]
    audio = [("audio", ms) for ms in range(0, 1000, 20)]
    woven = order(in_time(iter(reads(*video, *audio))))
    assert [ms for _, ms in woven] == sorted(ms for _, ms in video + audio)


@given(st.lists(st.tuples(st.sampled_from(["video", "audio"]), st.integers(0, 10**7)), max_size=60))
def test_every_packet_comes_once_and_each_track_in_its_order(places: list) -> None:
    woven = order(in_time(iter(reads(*places))))
    for track in ("video", "audio"):
        assert [p for p in woven if p[0] == track] == [p for p in places if p[0] == track]


def test_track_that_never_comes_is_not_waited_for_beyond_the_bound() -> None:
    given = []

    def source() -> Iterator[Read]:
        for ms in range(0, 10_000, 40):
            given.append(ms)
            yield reads(("video", ms))[0]

    first = next(in_time(source()))
    assert first.packet.dts == 0
    assert given[-1] * 1_000_000 <= AHEAD_NS + 40 * 1_000_000


def test_where_one_track_has_jumped_what_was_read_first_goes_first() -> None:
    places = [("video", 90_000), ("audio", 0), ("video", 90_040), ("audio", 20)]
    assert order(in_time(iter(reads(*places)))) == places


def test_error_comes_after_the_packets_before_it() -> None:
    def source() -> Iterator[Read]:
        yield from reads(("video", 0), ("video", 40))
        raise SourceLost("gone")

    seen = []
    with pytest.raises(SourceLost, match="gone"):
        for read in in_time(source()):
            seen.append(read.packet.dts)
    assert seen == [0, 40]


@pytest.mark.needs_shared
def test_played_phone_clip_brings_sound_with_its_picture(shared: Path) -> None:
    clip = shared / "media" / "obama_speech.mp4"
    with av.open(str(clip)) as file:
        laid_out = [(p.stream.type, float(p.dts * p.time_base)) for p in file.demux() if p.dts is not None]
    assert furthest_apart(laid_out) > 0.5, "the clip should hold a second of one track, then of the other"
    opened = open_decoder(
        parse_source(str(clip)), decode=DecodeConfig(), ticks=TickConfig(), mode="live", picture_side=192
    )
    with opened as decoder:
        played = [
            (type(item).__name__, item.pts_ns / NS)
            for item in decoder
            if isinstance(item, VideoFrame | AudioChunk)
        ]
    assert furthest_apart(played) < 0.125


def furthest_apart(items: list[tuple[str, float]]) -> float:
    """How far the two tracks are from each other at most, reading in this order."""
    reached: dict[str, float] = {}
    most = 0.0
    for track, seconds in items:
        reached[track] = max(seconds, reached.get(track, seconds))
        if len(reached) == 2:
            most = max(most, max(reached.values()) - min(reached.values()))
    return most
