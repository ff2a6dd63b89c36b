"""A camera with a microphone: two inputs, two threads, one source. And what closing leaves behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceError, SourceLost
from streamfuse.media.decode import Decoder, open_decoder
from streamfuse.media.demux import Demuxer
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
        ("testsrc2=size=160x120:rate=25:duration=1,realtime", "lavfi", {}),
        ("sine=duration=1,arealtime", "lavfi", {}),
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
    before = threading.active_count()
    decoder = open_decoder(camera_with_microphone, decode=QUICK, mode="live", picture_side=256)
    items = iter(decoder)
    for _ in range(5):
        next(items)
    started = time.monotonic()
    decoder.close()
    assert threading.active_count() == before
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
