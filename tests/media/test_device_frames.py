"""Frames that stay on the GPU that decoded them. Software frames stand in: their planes have addresses."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import BackendError
from streamfuse.media import device_frames, opening
from streamfuse.media.device_frames import Gpu, device_picture, format_name, gpu_of
from streamfuse.media.frames import Renderer
from streamfuse.media.gpu_track import GpuTrack
from streamfuse.media.source import parse_source
from streamfuse.types import DevicePicture, Picture
from tests.clips import Clip
from tests.media.played import Played

LOOK = ("bt709", True, (4, 3), 1, True)
HERE = Gpu(0, nullcontext)


def frame_of(pix_fmt: str, width: int = 96, height: int = 54) -> av.VideoFrame:
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=pix_fmt)


def kept_by(frame: av.VideoFrame) -> DevicePicture:
    picture = device_picture(frame, 0, LOOK, lambda: pytest.fail("nobody asked for a copy"))
    assert picture is not None
    return picture


def samples_at(plane: Any, sample_bytes: int) -> np.ndarray:
    """What lies where the plane says it does."""
    rows, row = plane.shape[0], int(np.prod(plane.shape[1:]))
    dtype = np.uint8 if sample_bytes == 1 else np.uint16
    whole = (ctypes.c_uint8 * (rows * plane.pitch_bytes)).from_address(plane.address)
    padded = np.frombuffer(whole, np.uint8).reshape(rows, plane.pitch_bytes)
    return padded[:, : row * sample_bytes].copy().view(dtype).reshape(plane.shape)


@pytest.mark.parametrize("pix_fmt", sorted(device_frames.FORMATS))
def test_planes_are_those_that_dlpack_shows(pix_fmt: str) -> None:
    frame = frame_of(pix_fmt)
    picture = kept_by(frame)
    shown = [np.from_dlpack(plane) for plane in frame.planes]
    assert [plane.address for plane in picture.planes] == [plane.ctypes.data for plane in shown]
    assert [plane.pitch_bytes for plane in picture.planes] == [plane.strides[0] for plane in shown]
    assert [plane.shape for plane in picture.planes] == [plane.shape for plane in shown]
    for plane, judge in zip(picture.planes, shown, strict=True):
        np.testing.assert_array_equal(samples_at(plane, picture.sample_bytes), judge)


def test_picture_has_the_look_and_the_owner_of_its_frame() -> None:
    frame = frame_of("p010le")
    picture = kept_by(frame)
    assert (picture.width, picture.height, picture.chroma, picture.sample_bytes) == (96, 54, "nv12", 2)
    look = picture.matrix, picture.full_range, picture.pixel_aspect, picture.turns, picture.mirrored
    assert look == LOOK and picture.gpu == 0 and picture.owner is frame


def test_odd_sizes_lose_the_column_and_row_of_which_chroma_may_be_nothing() -> None:
    frame = frame_of("nv12", 97, 55)
    picture = kept_by(frame)
    assert [plane.shape for plane in picture.planes] == [(54, 96), (27, 48, 2)]
    luma, chroma = (np.from_dlpack(plane) for plane in frame.planes)
    assert chroma.shape == (27, 48, 2)  # DLPack rounds the same way, of chroma alone
    np.testing.assert_array_equal(samples_at(picture.planes[0], 1), luma[:54, :96])
    np.testing.assert_array_equal(samples_at(picture.planes[1], 1), chroma)


@pytest.mark.parametrize(
    ("pix_fmt", "width", "height"),
    [("nv16", 96, 54), ("yuv420p", 96, 54), ("nv12", 4098, 16), ("nv12", 16, 4098), ("nv12", 1, 54)],
)
def test_what_the_kernel_does_not_take_is_no_picture_of_the_gpu(
    pix_fmt: str, width: int, height: int
) -> None:
    frame = av.VideoFrame(width, height, pix_fmt)
    assert device_picture(frame, 0, LOOK, lambda: pytest.fail("no copy")) is None


def test_frames_of_the_host_are_on_no_gpu_and_rendered() -> None:
    frame = frame_of("nv12")
    assert gpu_of(frame) is None and format_name(frame) == "nv12"
    assert isinstance(Renderer(96).keep(frame), Picture)


@pytest.fixture
def as_if_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the software decoder gives is taken for NVDEC's."""
    monkeypatch.setattr("streamfuse.media.frames.gpu_of", lambda frame: 0)
    monkeypatch.setitem(device_frames.FORMATS, "yuv420p", ("420", 1))


def test_copy_to_the_host_is_the_picture_that_would_have_been_there_and_made_once(
    as_if_on_gpu: None, tmp_path: Path
) -> None:
    """At its usual size and upright, as the face finder and the checkpoint's digest want it."""
    path = Clip(seconds=0.2, width=640, height=482, rotation=90).write(tmp_path / "a.mp4")
    there = Played(path, keep_on=HERE).frames[0].render()
    here = Played(path).frames[0].render()
    assert isinstance(there, DevicePicture) and isinstance(here, Picture)
    assert (there.width, there.height, there.turns) == (640, 482, 1)
    copied = there.on_host()
    assert (copied.width, copied.height) == (here.width, here.height) == (241, 320)
    for one, other in zip(copied.planes, here.planes, strict=True):
        np.testing.assert_array_equal(one, other)
    assert there.on_host() is copied


def test_kept_picture_is_still_whole_when_its_decoder_is_closed(as_if_on_gpu: None, tmp_path: Path) -> None:
    path = Clip(seconds=0.5, width=320, height=240).write(tmp_path / "a.mp4")
    kept = [frame.render() for frame in Played(path, keep_on=HERE).frames]
    with av.open(str(path)) as container:
        judges = [np.from_dlpack(frame.planes[0]).copy() for frame in container.decode(video=0)]
    assert len(kept) == len(judges) == 15
    for picture, judge in zip(kept, judges, strict=True):
        np.testing.assert_array_equal(samples_at(picture.planes[0], 1), judge)


def test_stills_of_kept_frames_are_those_of_others(as_if_on_gpu: None, tmp_path: Path) -> None:
    path = Clip(seconds=0.1, width=320, height=240).write(tmp_path / "a.mp4")
    one, other = (Played(path, **more).frames[0].still for more in ({"keep_on": HERE}, {}))
    assert one is not None and other is not None
    assert one(160, 80) == other(160, 80)


class Opened(Exception):
    """av.open() was called."""


def test_decoder_is_opened_in_the_context_that_the_kernels_run_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """FFmpeg refuses the primary context once somebody else has begun it, and torch and numba have."""
    current, given = [], {}

    @contextmanager
    def context():
        current.append("entered")
        yield
        current.append("left")

    def opened(*args: Any, **options: Any) -> None:
        given.update(options, at=list(current))
        raise Opened

    path = Clip(seconds=0.1).write(tmp_path / "a.mp4")
    monkeypatch.setattr(opening.av, "open", opened)
    with pytest.raises(Opened):
        Played(path, decode=DecodeConfig(hwaccel="cuda"), keep_on=Gpu(2, context))
    assert given["at"] == ["entered"]
    accelerator = given["hwaccel"]
    assert accelerator.is_hw_owned and accelerator.device_id == 2
    assert accelerator.options == {"primary_ctx": "0", "current_ctx": "1"}
    assert not accelerator.allow_software_fallback


def test_video_that_the_cpu_would_decode_beside_another_stream_that_the_gpu_does_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """PyAV takes AV1 to a decoder of the CPU, and is content with the cover, a JPEG, on the GPU."""
    path = Clip(seconds=0.1).write(tmp_path / "a.mp4")
    source = parse_source(str(path))
    with av.open(str(path)) as container:
        must = opening.Way(source, DecodeConfig(hwaccel="cuda"), "recorded", None)
        may = replace(must, decode=DecodeConfig(hwaccel="cuda", hwaccel_fallback=True))
        opening._check_accelerated(may, container)
        with pytest.raises(BackendError, match=r"decodes this codec, got h264, a decoder of the CPU"):
            opening._check_accelerated(must, container)
    (line,) = caplog.messages
    assert line.startswith("decoded on the CPU: decode.hwaccel: cuda needs an NVIDIA GPU")


def gpu_track(*, fallback: bool = False) -> GpuTrack:
    return GpuTrack(parse_source("a.mp4"), DecodeConfig(hwaccel="cuda", hwaccel_fallback=fallback))


def test_frames_that_ffmpeg_decoded_on_the_cpu_after_all_are_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    track, frame = gpu_track(fallback=True), frame_of("yuv420p")
    for _ in range(2):
        track.shows(frame)
    (line,) = caplog.messages
    assert line.startswith("decoded on the CPU: ") and "got a profile that it does not decode" in line


def test_profile_that_the_gpu_does_not_decode_is_an_error_with_the_second_key_frame() -> None:
    track, error = gpu_track(), av.error.InvalidDataError(1, "Invalid data found")
    track.refuses(error)
    with pytest.raises(BackendError, match=r"decodes this codec, got Invalid data found \[a\.mp4\]"):
        track.refuses(error)


def test_recording_of_one_key_frame_that_was_refused_is_an_error_at_its_end() -> None:
    track = gpu_track()
    track.ends()
    track.refuses(av.error.InvalidDataError(1, "Invalid data found"))
    with pytest.raises(BackendError, match="got no picture of any packet"):
        track.ends()


def test_damaged_key_frames_are_no_missing_decoder_once_a_picture_came_or_where_the_cpu_may() -> None:
    for track in (gpu_track(), gpu_track(fallback=True)):
        track.shows(frame_of("yuv420p"))
        for _ in range(5):
            track.refuses(av.error.InvalidDataError(1, "Invalid data found"))
        track.ends()


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_without_the_hardware_it_is_an_error_unless_the_cpu_may(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Clip(seconds=0.2).write(tmp_path / "a.mp4")
    with pytest.raises(BackendError, match="needs an NVIDIA GPU that decodes this codec"):
        Played(path, decode=DecodeConfig(hwaccel="cuda"), keep_on=HERE)
    played = Played(path, decode=DecodeConfig(hwaccel="cuda", hwaccel_fallback=True), keep_on=HERE)
    assert played.indices == list(range(6))
    assert all(isinstance(frame.render(), Picture) for frame in played.frames)
    assert caplog.messages[0].startswith("decoded on the CPU: decode.hwaccel: cuda needs an NVIDIA GPU")
