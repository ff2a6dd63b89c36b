"""What probe() says of a source, and the opening of tracks."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import BackendError, SourceRefused
from streamfuse.media import library_facts
from streamfuse.media.decode import open_decoder
from streamfuse.media.probe import SourceInfo, probe
from streamfuse.media.source import FileSource, parse_source
from streamfuse.types import AudioChunk
from tests.clips import Clip
from tests.media.played import Played


def facts(path: Path | str, **config: object) -> SourceInfo:
    return probe(parse_source(str(path)), DecodeConfig(**config))  # type: ignore[arg-type]


def test_probe_tells_every_fact(tmp_path: Path) -> None:
    clip = Clip(seconds=2, fps=25, rotation=-90, aspect=Fraction(4, 3), rate=44_100, layout="5.1", b_frames=2)
    info = facts(clip.write(tmp_path / "a.mp4"))
    assert info.container == "mov,mp4,m4a,3gp,3g2,mj2"
    assert info.duration_ns == pytest.approx(2e9, rel=0.05)
    video, audio = info.tracks
    assert (video.track, video.codec, video.width, video.height) == ("video", "h264", 320, 240)
    assert (video.pixel_format, video.fps) == ("yuv420p", 25.0)
    assert (video.rotation, video.pixel_aspect) == (270, (4, 3))
    assert (audio.track, audio.codec, audio.rate_hz, audio.channels) == ("audio", "aac", 44_100, 6)
    assert audio.layout == "5.1"
    assert video.start_ns == audio.start_ns == 0
    assert info.track("audio") is audio


def test_probe_as_dict_is_json_without_empty_fields(tmp_path: Path) -> None:
    info = facts(Clip(seconds=1, audio=None).write(tmp_path / "a.mkv"))
    told = json.loads(json.dumps(info.as_dict()))
    assert told["duration_s"] == pytest.approx(1, abs=0.05)
    assert [track["track"] for track in told["tracks"]] == ["video"]
    assert "rate_hz" not in told["tracks"][0]


def test_probe_of_a_pattern_and_of_sound_alone(tmp_path: Path) -> None:
    info = facts("lavfi:testsrc2=size=64x48:rate=10;sine")
    assert (info.container, info.duration_ns) == ("lavfi", None)
    assert [track.codec for track in info.tracks] == ["wrapped_avframe", "pcm_s16le"]
    sound = facts(Clip(seconds=1, video=None).write(tmp_path / "a.m4a"))
    assert [track.track for track in sound.tracks] == ["audio"]


def test_metadata_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    path = Clip(seconds=0.3, audio=None).write(tmp_path / "a.mkv")
    evil = tmp_path / "evil.mkv"
    with av.open(str(path)) as source, av.open(str(evil), "w") as out:
        out.metadata["title"] = "\x1b[31mred\nline\u202e" + "x" * 1000
        copy = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    title = facts(evil).metadata["title"]
    assert title.isprintable()
    assert len(title) <= 200
    assert "red line" in title


def test_nothing_wanted_is_refused(tmp_path: Path) -> None:
    path = Clip(seconds=0.3, audio=None).write(tmp_path / "a.mp4")
    with pytest.raises(SourceRefused, match="read for video or audio, got neither"):
        facts(path, video=False, audio=False)
    with pytest.raises(SourceRefused, match="a source must have a track of audio, got none"):
        facts(path, video=False)


@pytest.mark.timeout(20)
def test_a_pipe_is_read(tmp_path: Path) -> None:
    data = Clip(seconds=1).write(tmp_path / "a.ts").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    with open_decoder(FileSource(str(pipe), path=pipe), mode="recorded", picture_side=256) as decoder:
        samples = sum(len(item.samples) for item in decoder if isinstance(item, AudioChunk))
    writer.join()
    assert samples > 15_000


@pytest.mark.timeout(20)
def test_a_pipe_of_nonsense_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=_write, args=(pipe, b"hello\n" * 10_000))
    writer.start()
    with pytest.raises(SourceRefused, match="a recording must be"):
        open_decoder(FileSource(str(pipe), path=pipe), mode="recorded", picture_side=256)
    writer.join()


def _write(pipe: Path, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write_bytes(data)


def no_gpu() -> bool:
    return not Path("/dev/nvidia0").exists()


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_hardware_decoding_without_the_hardware_is_an_error(tmp_path: Path) -> None:
    path = Clip(seconds=0.3).write(tmp_path / "a.mp4")
    with pytest.raises(BackendError, match="needs an NVIDIA GPU that decodes this codec") as caught:
        facts(path, hwaccel="cuda")
    assert "decode.hwaccel: none decodes on the CPU" in str(caught.value)


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_hardware_decoding_falls_back_where_it_may_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Clip(seconds=0.3).write(tmp_path / "a.mp4")
    pictures = [
        [frame.render().planes[0] for frame in Played(path, decode=decode).frames]
        for decode in (DecodeConfig(), DecodeConfig(hwaccel="cuda:1", hwaccel_fallback=True))
    ]
    assert len(pictures[0]) == len(pictures[1]) > 0
    assert all(np.array_equal(one, other) for one, other in zip(*pictures, strict=True))
    (line,) = caplog.messages
    assert line.startswith("decoded on the CPU: decode.hwaccel: cuda needs an NVIDIA GPU")


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU")
def test_sound_alone_needs_no_hardware(tmp_path: Path) -> None:
    path = Clip(seconds=0.3, video=None, audio="pcm_s16le", sample_format="s16").write(tmp_path / "a.wav")
    assert facts(path, hwaccel="cuda").tracks[0].codec == "pcm_s16le"


@pytest.mark.needs_cuda
def test_hardware_decoding_gives_the_same_pictures(tmp_path: Path) -> None:
    path = Clip(seconds=1, width=640, height=480).write(tmp_path / "a.mp4")
    planes = []
    for hwaccel in ("none", "cuda"):
        played = Played(path, decode=DecodeConfig(hwaccel=hwaccel))
        planes.append([frame.render().planes[0] for frame in played.frames])
    assert len(planes[0]) == len(planes[1]) == 30
    for cpu, gpu in zip(*planes, strict=True):
        assert np.abs(cpu.astype(int) - gpu).mean() < 1


def test_library_facts_name_ffmpeg_and_its_decoders() -> None:
    facts_ = library_facts()
    assert facts_.ffmpeg.startswith("FFmpeg ")
    assert {"h264", "hevc", "aac", "opus"} <= facts_.decoders
