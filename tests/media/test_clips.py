"""Clips cut from kept packets, judged by decoding them: each picture says which one it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from streamfuse.errors import OutputError
from streamfuse.media.clips import PacketRing
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import file_source
from streamfuse.types import MS, NS, VideoFrame
from tests.clips import Clip, index_picture, read_index, wrapping_ts

FPS, GOP = 10, 10
SMALL: dict[str, Any] = {"width": 160, "height": 120, "fps": FPS, "gop": GOP}


def filled(path: Path, *, max_bytes: int = 10**8, max_ns: int = 600 * NS) -> tuple[PacketRing, list[int]]:
    """A ring through which the file went, and the media time of each of its pictures."""
    ring = PacketRing(max_bytes=max_bytes, max_ns=max_ns)
    with open_decoder(file_source(path), mode="live", picture_side=64) as decoder:
        decoder.keep_packets(ring)
        times = [item.pts_ns for item in decoder if isinstance(item, VideoFrame)]
    return ring, times


def seen(clip: bytes) -> list[int]:
    with av.open(io.BytesIO(clip)) as container:
        return [read_index(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def sound_s(clip: bytes) -> tuple[float, float]:
    """When its sound begins and ends, in seconds."""
    with av.open(io.BytesIO(clip)) as container:
        frames = list(container.decode(audio=0))
    last = frames[-1]
    return float(frames[0].pts * frames[0].time_base), float(
        last.pts * last.time_base
    ) + last.samples / 48_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module", params=["mpegts", "mp4", "matroska"])
def clip(request: pytest.FixtureRequest, folder: Path) -> Path:
    return Clip(seconds=8.0, container=request.param, **SMALL).write(folder / f"clip.{request.param}")


def test_clip_begins_at_the_key_frame_before_and_ends_where_asked(clip: Path) -> None:
    ring, times = filled(clip)
    cut = ring.cut(times[34], times[52])
    assert seen(cut) == list(range(30, 52))
    begins, ends = sound_s(cut)
    assert 0 <= begins < 0.05
    assert abs(ends - 2.2) < 0.05


def test_packets_are_not_encoded_again(clip: Path) -> None:
    ring, times = filled(clip)
    with av.open(io.BytesIO(ring.cut(times[30], times[40]))) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    with av.open(str(clip)) as container:
        before = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)][30:40]
    assert all((one == other).all() for one, other in zip(pictures, before, strict=True))


def test_two_clips_of_the_same_time_are_the_same(clip: Path) -> None:
    ring, times = filled(clip)
    assert ring.cut(times[34], times[52]) == ring.cut(times[34], times[52])


def test_reordered_pictures_come_out_whole(folder: Path) -> None:
    path = Clip(seconds=6.0, b_frames=2, container="mpegts", **SMALL).write(folder / "b.ts")
    ring, times = filled(path)
    assert set(range(20, 40)) <= set(seen(ring.cut(times[25], times[40])))


def test_ring_forgets_by_time_and_begins_at_the_next_key_frame(folder: Path) -> None:
    path = Clip(seconds=8.0, container="mpegts", **SMALL).write(folder / "long.ts")
    ring, times = filled(path, max_ns=2500 * MS)
    assert seen(ring.cut(times[0], times[-1] + NS)) == list(range(60, 80))


def test_ring_forgets_by_size(folder: Path) -> None:
    path = Clip(seconds=8.0, container="mpegts", **SMALL).write(folder / "size.ts")
    whole = path.stat().st_size
    ring, times = filled(path, max_bytes=whole // 4)
    kept = seen(ring.cut(times[0], times[-1] + NS))
    assert kept[-1] == 79
    assert 10 <= len(kept) <= 50
    assert sum(len(one.data) for one in ring._kept) <= whole // 4


def test_time_stamps_that_wrap_are_not_noticed(folder: Path) -> None:
    path = wrapping_ts(folder / "wrap.ts", before=2.0, seconds=4.0, **SMALL)
    ring, times = filled(path)
    assert seen(ring.cut(times[10], times[35])) == list(range(10, 35))


def test_clip_does_not_go_across_a_jump_of_time(folder: Path) -> None:
    early = Clip(seconds=2.0, container="mpegts", **SMALL).write(folder / "early.ts")
    late = Clip(seconds=2.0, container="mpegts", start_ticks=600 * 90_000, **SMALL).write(folder / "late.ts")
    path = folder / "jump.ts"
    path.write_bytes(early.read_bytes() + late.read_bytes())
    ring, times = filled(path)
    assert seen(ring.cut(times[0], times[0] + 10_000 * NS)) == list(range(20))


def test_new_connection_begins_anew(folder: Path) -> None:
    path = Clip(seconds=2.0, container="mpegts", **SMALL).write(folder / "one.ts")
    ring, times = filled(path)
    with open_decoder(file_source(path), mode="live", picture_side=64) as decoder:
        decoder.keep_packets(ring)
        with pytest.raises(OutputError, match="a clip needs a key frame among the kept packets, got none"):
            ring.cut(times[0], times[10])


def uncut() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"video": None}, "it has no video"
    yield {"video": "libvpx", "audio": None, "container": "webm"}, "MP4 does not hold vp8"


@pytest.mark.parametrize(("made", "why"), list(uncut()))
def test_source_that_cannot_be_cut_says_why(folder: Path, made: dict[str, Any], why: str) -> None:
    path = Clip(seconds=1.0, **SMALL, **({"container": "mp4"} | made)).write(folder / "cannot")
    ring, _ = filled(path)
    with pytest.raises(OutputError, match=f"a clip needs video that can be cut, got {why}"):
        ring.cut(0, NS)


def test_sound_that_mp4_does_not_hold_is_left_out(folder: Path) -> None:
    sound: dict[str, Any] = {"audio": "pcm_mulaw", "rate": 8000, "layout": "mono", "sample_format": "s16"}
    path = Clip(seconds=2.0, container="mov", **sound, **SMALL).write(folder / "mulaw.mov")
    ring, times = filled(path)
    cut = ring.cut(times[0], times[-1])
    assert seen(cut) == list(range(19))
    with av.open(io.BytesIO(cut)) as container:
        assert not container.streams.audio


def test_connection_that_ended_leaves_its_packets(folder: Path) -> None:
    """Everything that the demuxer had is freed: what is cut must not be."""
    path = Clip(seconds=3.0, container="mpegts", picture=lambda i: index_picture(i, 160, 120), **SMALL).write(
        folder / "freed.ts"
    )
    ring, times = filled(path)
    path.unlink()
    assert seen(ring.cut(times[0], times[20])) == list(range(20))


def test_nothing_can_be_cut_before_a_connection() -> None:
    with pytest.raises(OutputError, match="got not connected"):
        PacketRing(max_bytes=10**6, max_ns=NS).cut(0, NS)
