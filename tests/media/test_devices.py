"""A camera with a microphone: two inputs, two threads, one source. And what closing leaves behind."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceError, SourceLost, SourceRefused
from streamfuse.media.decode import Decoder, open_decoder
from streamfuse.media.demux import Demuxer
from streamfuse.media.opening import Address, open_inputs
from streamfuse.media.source import DeviceSource, parse_source
from streamfuse.types import AudioChunk, MediaItem, VideoFrame
from tests.clips import Clip

pytestmark = pytest.mark.timeout(60)
QUICK = DecodeConfig(open_timeout_s=2, read_timeout_s=1)


def drain(decoder: Decoder) -> tuple[list[MediaItem], SourceError | None]:
    """All items, and the error that ended them."""
    items: list[MediaItem] = []
    try:
        for item in decoder:
            items.append(item)
    except SourceError as error:
        return items, error
    finally:
        decoder.close()
    return items, None


@pytest.fixture
def camera_with_microphone(monkeypatch: pytest.MonkeyPatch) -> DeviceSource:
    """A device source whose devices are test patterns: there is no camera on a build machine."""
    patterns = [
        Address("testsrc2=size=160x120:rate=25:duration=1,realtime", "lavfi"),
        Address("sine=duration=1,arealtime", "lavfi"),
    ]
    monkeypatch.setattr("streamfuse.media.opening._addresses", lambda *_: patterns)
    monkeypatch.setattr("streamfuse.media.opening.open_options", lambda *_: {})
    source = parse_source("v4l2:/dev/video0;alsa:default")
    assert isinstance(source, DeviceSource)
    return source


def test_two_devices_are_read_by_two_threads(camera_with_microphone: DeviceSource) -> None:
    decoder = open_decoder(camera_with_microphone, decode=QUICK, mode="live", picture_side=256)
    items, error = drain(decoder)
    assert items[0].tracks == {"video", "audio"}  # type: ignore[union-attr]
    assert sum(isinstance(i, VideoFrame) for i in items) >= 24
    assert sum(len(i.samples) for i in items if isinstance(i, AudioChunk)) > 15_000
    assert isinstance(error, SourceLost)


def test_closing_two_devices_ends_their_threads(camera_with_microphone: DeviceSource) -> None:
    before = set(threading.enumerate())  # not their number: another test's may end beside it
    decoder = open_decoder(camera_with_microphone, decode=QUICK, mode="live", picture_side=256)
    items = iter(decoder)
    for _ in range(5):
        next(items)
    started = time.monotonic()
    decoder.close()
    assert set(threading.enumerate()) <= before
    assert time.monotonic() - started < 5


def test_an_error_in_one_device_ends_the_source(
    camera_with_microphone: DeviceSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = open_decoder(camera_with_microphone, decode=QUICK, mode="live", picture_side=256)
    read = Demuxer._read

    def failing(self: Demuxer, item: Any) -> Iterator[Any]:
        for count, packet in enumerate(read(self, item)):
            if "audio" in item.streams and count == 3:
                raise SourceLost("the source failed", got="No such device", where="mic")
            yield packet

    monkeypatch.setattr(Demuxer, "_read", failing)
    _, error = drain(decoder)
    assert isinstance(error, SourceLost)
    assert "No such device" in str(error)


def test_closing_frees_the_container(tmp_path: Path) -> None:
    path = Clip(seconds=0.2).write(tmp_path / "a.mp4")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        decoder = open_decoder(parse_source(str(path)), mode="recorded", picture_side=256)
        next(iter(decoder))
        decoder.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert av.logging.get_level() is None  # FFmpeg's own lines, which may hold addresses, go nowhere


def test_what_ffmpeg_is_told_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, format and options of both devices, as FFmpeg documents them for v4l2 and alsa."""
    told: list[tuple[str, str, dict[str, str]]] = []

    class Opened:
        format = av.format.ContainerFormat("v4l2", "r")
        streams = ()

        def close(self) -> None:
            told.append(("closed", "", {}))

    def opening(address: str, _mode: str, *, format: str, options: dict[str, str], **_: Any) -> Opened:
        assert "v4l2" in options["format_whitelist"] and "alsa" in options["format_whitelist"]
        assert options["protocol_whitelist"] == "none", "a device opens no address"
        told.append((address, format, options))
        return Opened()

    monkeypatch.setattr("streamfuse.media.opening.av.open", opening)
    camera = "v4l2:/dev/video0?framerate=30&video_size=640x480&input_format=mjpeg"
    source = parse_source(f"{camera};alsa:plughw:1,0?channels=1&sample_rate=48000")
    with pytest.raises(SourceRefused, match="must have a track of video or audio, got none"):
        open_inputs(source, QUICK, "live")
    (address, form, options), (address_2, form_2, options_2), *closed = told
    assert (address, form, address_2, form_2) == ("/dev/video0", "v4l2", "plughw:1,0", "alsa")
    asked = {"timestamps": "abs", "framerate": "30", "video_size": "640x480", "input_format": "mjpeg"}
    assert asked.items() <= options.items()
    assert {"channels": "1", "sample_rate": "48000"}.items() <= options_2.items()
    assert len(closed) == 2, "nothing stays open"


def test_the_library_has_both_kinds_of_device() -> None:
    for name in ("v4l2", "alsa"):
        assert av.format.ContainerFormat(name, "r").is_input


def test_camera_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(SourceRefused) as caught:
        open_inputs(parse_source("/dev/video63"), QUICK, "live")
    assert str(caught.value) == "a source must exist, got No such file or directory [/dev/video63]"


READ_SOUND = """
import itertools, sys
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
decoder = open_decoder(parse_source(sys.argv[1]), mode="live", picture_side=256)
for item in itertools.islice(decoder, 5):
    print(type(item).__name__, *getattr(item, "tracks", ()))
decoder.close()
"""


def test_sound_is_read_through_the_real_alsa_library(tmp_path: Path) -> None:
    """Its `null` device needs no hardware. In another process: the library reads its files once."""
    (tmp_path / "alsa.conf").write_text("pcm.silence { type null }\n")
    place = {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "alsa.conf")}

    def read(name: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", READ_SOUND, f"alsa:{name}?channels=1&sample_rate=48000"]
        return subprocess.run(argv, env=place, capture_output=True, text=True, timeout=50)

    done = read("silence")
    assert done.stdout.split("\n")[:5] == ["SessionStart audio", *itertools.repeat("AudioChunk", 4)], (
        done.stderr
    )
    missing = read("nosuch")
    assert "SourceLost: the source failed" in missing.stderr
    assert "[alsa:nosuch?channels=1&sample_rate=48000]" in missing.stderr


def test_alsa_is_configured_by_the_system_never_from_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALSA_CONFIG_DIR", "ALSA_CONFIG_PATH"):
        monkeypatch.setenv(name, "x")  # so that it is put back
        monkeypatch.delenv(name)
    with pytest.raises(SourceError):
        open_inputs(parse_source("alsa:nosuch"), QUICK, "live")
    assert os.environ["ALSA_CONFIG_PATH"] == "/usr/share/alsa/alsa.conf"
    assert os.environ["ALSA_CONFIG_DIR"] == "/usr/share/alsa"
