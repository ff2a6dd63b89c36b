"""F16: tracks and codecs that change in mid-stream, and streams of unknown kinds: nothing is raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from tests.clips import Clip, joined
from tests.media.played import Played

LATER = 90_000


def test_f16_a_track_that_appears_later_does_not_disturb(tmp_path: Path) -> None:
    mute = Clip(seconds=1, audio=None).write(tmp_path / "a.ts")
    both = Clip(seconds=1, start_ticks=LATER).write(tmp_path / "b.ts")
    played = Played(joined(tmp_path / "c.ts", mute, both))
    assert played.indices == [*range(30), *range(30)]
    times = [frame.pts_ns for frame in played.frames]
    assert times == sorted(times)


def test_f16_a_track_that_vanishes_does_not_hold_the_other_up(tmp_path: Path) -> None:
    both = Clip(seconds=1).write(tmp_path / "a.ts")
    mute = Clip(seconds=1, audio=None, start_ticks=LATER).write(tmp_path / "b.ts")
    played = Played(joined(tmp_path / "c.ts", both, mute))
    assert played.indices == [*range(30), *range(30)]
    assert 14_000 < sum(len(chunk.samples) for chunk in played.chunks) < 18_000


@pytest.mark.parametrize("codec", ["mpeg2video", "libx265", "mpeg4"])
def test_f16_another_codec_on_the_same_track_is_counted_not_raised(codec: str, tmp_path: Path) -> None:
    first = Clip(seconds=1).write(tmp_path / "a.ts")
    second = Clip(seconds=1, video=codec, start_ticks=LATER).write(tmp_path / "b.ts")
    source = parse_source(str(joined(tmp_path / "c.ts", first, second)))
    with open_decoder(source, mode="recorded", picture_side=192) as decoder:
        frames = sum(hasattr(item, "render") and bool(item.render()) for item in decoder)  # type: ignore[union-attr]
    assert frames >= 28
    assert sum(decoder.counters.values()) > 0


@pytest.mark.parametrize("kind", [0x00, 0x7F, 0x80, 0xEA, 0xFF])
def test_f16_stream_of_an_unknown_kind_is_left_out(kind: int, tmp_path: Path) -> None:
    """The programme table calls the sound something that nobody knows."""
    data = Clip(seconds=1).write(tmp_path / "a.ts").read_bytes()
    path = tmp_path / "b.ts"
    path.write_bytes(with_unknown_sound(data, kind))
    played = Played(path)
    assert played.indices == list(range(30))


def with_unknown_sound(stream: bytes, kind: int) -> bytes:
    """A transport stream whose programme table calls the sound something else."""
    data = bytearray(stream)
    for at in range(0, len(data), 188):
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == 0x1000:  # the programme table
            place = data.index(b"\x0f\xe1\x01", at, at + 188)  # AAC on PID 257
            data[place] = kind
            section = at + 5
            length = 3 + (int.from_bytes(data[section + 1 : section + 3], "big") & 0x0FFF)
            crc = _crc32(bytes(data[section : section + length - 4]))
            data[section + length - 4 : section + length] = crc.to_bytes(4, "big")
    return bytes(data)


def _crc32(data: bytes) -> int:
    """MPEG-2's: polynomial 0x04C11DB7, not reflected (ISO/IEC 13818-1, annex A)."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C1_1DB7 if crc & 0x8000_0000 else crc << 1) & 0xFFFF_FFFF
    return crc
