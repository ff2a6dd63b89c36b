"""Bad recordings: one clear line, or everything that can be had and a word about the rest."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceRefused
from streamfuse.media.decode import open_decoder
from streamfuse.media.probe import probe
from streamfuse.media.source import parse_source
from streamfuse.types import VideoFrame
from tests.clips import Clip, corrupted, lossy_ts, png_bomb, truncated
from tests.media.played import Played
from tests.media.servers import content, http_server
from tests.modes import modes_bind


def refusal(path: Path, **config: object) -> str:
    """The message with which opening `path` is refused; the same from probe()."""
    source, decode = parse_source(str(path)), DecodeConfig(**config)  # type: ignore[arg-type]
    with pytest.raises(SourceRefused) as caught:
        open_decoder(source, decode=decode, mode="recorded", picture_side=256)
    with pytest.raises(SourceRefused) as probed:
        probe(source, decode)
    assert str(probed.value) == str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.mp4").startswith("a source must exist, got No such file or directory")


def test_a_folder(tmp_path: Path) -> None:
    assert "a source must be a file, got a folder" in refusal(tmp_path)


def test_a_device_that_is_no_camera() -> None:
    assert "a regular file or a pipe, got a device" in refusal(Path("/dev/zero"))


def test_unreadable(tmp_path: Path) -> None:
    path = Clip(seconds=0.2).write(tmp_path / "a.mp4")
    path.chmod(0)
    with modes_bind():
        assert "must be readable" in refusal(path)


RULE = "a recording must be a video or audio file of an accepted format"


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "got an empty file"),
        (b"hello world\n" * 100, "got Invalid data found"),
        (bytes(1 << 20), "got Invalid data found"),
        (random.Random(3).randbytes(1 << 16), "got Invalid data found"),
        (b"ffconcat version 1.0\nfile a.ts\n", "got a playlist"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n", "got a playlist"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "got a still image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "got a still image"),
    ],
)
def test_not_a_recording(data: bytes, got: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    message = refusal(path)
    assert message.startswith(RULE)
    assert got in message


def test_mp4_without_its_index(tmp_path: Path) -> None:
    whole = Clip(seconds=1).write(tmp_path / "a.mp4")
    message = refusal(truncated(whole, tmp_path / "cut.mp4"))
    assert message.startswith("an mp4 must have its index (moov), got none")
    assert "the recorder did not finish the file" in message


def test_mp4_cut_at_any_byte_is_refused_or_flagged(tmp_path: Path) -> None:
    whole = Clip(seconds=1, options={"movflags": "faststart"}).write(tmp_path / "a.mp4")
    dice = random.Random(4)
    for _ in range(12):
        cut = truncated(whole, tmp_path / "cut.mp4", dice.random())
        try:
            played = Played(cut)
        except SourceRefused:
            continue
        assert played.decoder.truncated or len(played.frames) >= 28


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi", "flv"])
def test_cut_at_sixty_percent_is_processed_to_the_cut_and_said(suffix: str, tmp_path: Path) -> None:
    whole = Clip(seconds=3).write(tmp_path / f"a.{suffix}")
    assert not Played(whole).decoder.truncated
    played = Played(truncated(whole, tmp_path / f"cut.{suffix}", 0.6))
    assert played.decoder.truncated
    assert 45 <= len(played.frames) <= 62
    assert played.indices == list(range(len(played.frames)))
    assert sum(len(c.samples) for c in played.chunks) > 20_000


@pytest.mark.parametrize(("suffix", "codec"), [("wav", "pcm_s16le"), ("ogg", "flac"), ("flac", "flac")])
def test_sound_cut_at_sixty_percent_is_said(suffix: str, codec: str, tmp_path: Path) -> None:
    clip = Clip(seconds=3, video=None, audio=codec, sample_format="s16")
    whole = clip.write(tmp_path / f"a.{suffix}")
    assert not Played(whole).decoder.truncated
    assert Played(truncated(whole, tmp_path / f"cut.{suffix}", 0.6)).decoder.truncated


def test_a_transport_stream_cut_anywhere_is_said(tmp_path: Path) -> None:
    whole = Clip(seconds=2, width=64, height=48).write(tmp_path / "a.ts")
    dice = random.Random(5)
    for _ in range(50):
        cut = tmp_path / "cut.ts"
        size = dice.randrange(whole.stat().st_size // 4, whole.stat().st_size - 1)
        cut.write_bytes(whole.read_bytes()[:size])
        assert Played(cut).decoder.truncated == (size % 188 != 0)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("seed", range(3))
def test_corrupt_bytes_never_raise_and_never_change_the_size(suffix: str, seed: int, tmp_path: Path) -> None:
    """Half a percent of bad bytes: what decodes is given, the rest is counted."""
    whole = Clip(seconds=3, options={"movflags": "faststart"} if suffix == "mp4" else {})
    path = corrupted(whole.write(tmp_path / f"a.{suffix}"), tmp_path / f"b.{suffix}", seed=seed)
    try:
        played = Played(path)
    except SourceRefused as error:
        assert "must" in str(error)
        return
    assert {f.render().height for f in played.frames} <= {240}
    times = [f.pts_ns for f in played.frames]
    if len(played.starts) == 1:
        assert times == sorted(set(times))


def test_lost_packets_are_counted_and_the_sound_goes_on(tmp_path: Path) -> None:
    whole = Clip(seconds=4).write(tmp_path / "a.ts")
    played = Played(lossy_ts(whole, tmp_path / "b.ts", loss=0.02, seed=2))
    assert len(played.starts) == 1
    assert played.counters["corrupt_packets"] > 0
    assert len(played.frames) > 90
    assert sum(len(c.samples) for c in played.chunks) > 3 * 16_000


BUDGET_MB = 150


@pytest.mark.timeout(60)
def test_a_picture_of_256_million_pixels_costs_nothing(tmp_path: Path) -> None:
    """In a process of its own, for its memory: unlimited, FFmpeg takes 768 MB while it only looks."""
    path = png_bomb(tmp_path / "bomb.png")
    disguised = tmp_path / "bomb.mp4"
    disguised.write_bytes(path.read_bytes())
    code = f"""
import resource, sys
from streamfuse.errors import SourceRefused
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in ({str(path)!r}, {str(disguised)!r}):
    try:
        open_decoder(parse_source(path), mode="recorded", picture_side=256)
    except SourceRefused as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("got a still image") == 2
    assert int(done.stderr) < BUDGET_MB * 1024


def test_a_video_of_too_many_pixels_is_refused_by_its_size(tmp_path: Path) -> None:
    path = Clip(seconds=0.2, width=640, height=480).write(tmp_path / "a.mp4")
    message = refusal(path, max_pixels=320 * 240)
    assert "a picture must have at most 76800 pixels, got 640x480" in message


def test_a_size_that_grows_past_the_limit_in_mid_stream_is_dropped(tmp_path: Path) -> None:
    small = Clip(seconds=1, audio=None).write(tmp_path / "a.ts")
    large = Clip(seconds=1, audio=None, width=1280, height=720, start_ticks=90_000).write(tmp_path / "b.ts")
    path = tmp_path / "c.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    played = Played(path, decode=DecodeConfig(max_pixels=640 * 480))
    assert {f.render().width for f in played.frames} == {320}
    assert played.counters["decode_errors"] + played.counters.get("bad_frames", 0) > 0


def test_a_playlist_on_a_server_reaches_nobody_else() -> None:
    with http_server({"/secret.ts": content(b"x")}) as canary:
        lists = {
            "/a.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%b\n#EXT-X-ENDLIST\n",
            "/b.mp4": b"ffconcat version 1.0\nfile %b\n",
            "/c.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n# %b",
        }
        target = canary.url("/secret.ts").encode()
        with http_server({path: content(text % target) for path, text in lists.items()}) as http:
            for path in lists:
                with pytest.raises(SourceRefused):
                    open_decoder(parse_source(http.url(path)), mode="recorded", picture_side=256)
        assert canary.hits == []


@pytest.mark.timeout(120)
def test_mutated_files_leave_no_exception_and_no_leak(tmp_path: Path) -> None:
    """Seeded damage of six containers: refused in words or decoded, and the memory stays."""
    dice = random.Random(7)
    originals = [Clip(seconds=0.6, width=160, height=120).write(tmp_path / f"a.{s}") for s in
                 ("mp4", "mkv", "ts", "avi", "flv", "mov")]  # fmt: skip
    decoded = 0
    used: list[int] = []
    for turn in range(120):
        original = originals[turn % len(originals)]
        data = bytearray(original.read_bytes())
        for _ in range(dice.choice([1, 4, 30])):
            place = dice.randrange(len(data))
            match dice.randrange(4):
                case 0:
                    data[place] = dice.randrange(256)
                case 1:
                    del data[place : place + dice.randrange(1, 200)]
                case 2:
                    data[place:place] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 50)))
                case _:
                    data[place : place + 4] = b"\xff\xff\xff\xff"
        path = tmp_path / f"m{original.suffix}"
        path.write_bytes(bytes(data))
        try:
            with open_decoder(parse_source(str(path)), mode="recorded", picture_side=256) as decoder:
                for item in decoder:
                    if isinstance(item, VideoFrame):
                        item.render()
            decoded += 1
        except SourceRefused as error:
            assert "\n" not in str(error)
        if turn in (60, 119):
            used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert decoded > 20
    assert used[1] - used[0] < 60 * 1024
