"""Recordings through the whole decoder: every frame and sample where it belongs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceRefused
from streamfuse.types import MS, NS, SAMPLE_NS, AudioChunk, TrackEnd, VideoFrame
from tests.clips import Clip, flash_and_beep, tone
from tests.media.played import Played


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "mov", "flv"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_every_frame_of_every_container_in_order(suffix: str, b_frames: int, tmp_path: Path) -> None:
    path = Clip(seconds=1.5, b_frames=b_frames, rate=44_100).write(tmp_path / f"a.{suffix}")
    played = Played(path, decode=DecodeConfig(threads=2))
    if suffix == "avi" and b_frames:  # no pts in there; FFmpeg's guess costs a frame
        assert len(set(range(45)) - set(played.indices)) <= 1
        return
    assert played.indices == list(range(45))
    steps = np.diff(played.times)
    assert np.abs(steps - 1 / 30).max() < 0.002
    assert abs(len(played.sound) / 16_000 - 1.5) < 0.06
    assert [s.session for s in played.starts] == [0]
    assert [i.track for i in played.items if isinstance(i, TrackEnd)] == ["video", "audio"]
    assert not played.decoder.truncated
    assert not played.counters.get("decode_errors")


def test_threads_do_not_change_what_is_decoded(tmp_path: Path) -> None:
    path = Clip(seconds=2, b_frames=2).write(tmp_path / "a.mp4")
    one, four = (Played(path, decode=DecodeConfig(threads=n)) for n in (1, 4))
    assert [f.pts_ns for f in one.frames] == [f.pts_ns for f in four.frames]
    for a, b in zip(one.frames, four.frames, strict=True):
        assert np.array_equal(a.render().planes[0], b.render().planes[0])
    assert np.array_equal(one.sound, four.sound)


def test_sound_is_the_tone_that_was_encoded(tmp_path: Path) -> None:
    path = Clip(seconds=3, video=None, audio="pcm_s16le", sample_format="s16", rate=44_100).write(
        tmp_path / "a.wav"
    )
    sound = Played(path).sound
    assert len(sound) == 48_000
    assert np.abs(sound - tone(3, 16_000))[200:-200].max() < 1e-3


@pytest.mark.parametrize("offset", [0.0, 0.25, -0.1])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_flash_and_beep_keep_their_distance(offset: float, suffix: str, tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / f"f.{suffix}", at=(0.5, 1.5), seconds=2.5, offset=offset)
    played = Played(path)
    lit = [f.pts_ns for f in played.frames if f.render().planes[0].mean() > 128]
    flashes = [t for t in lit if t - 40 * MS not in range(0) and not any(0 < t - o < 90 * MS for o in lit)]
    loud = np.flatnonzero(np.abs(played.sound) > 0.2)
    first = played.chunks[0].pts_ns
    beeps = [first + int(i) * SAMPLE_NS for i in loud[np.r_[True, np.diff(loud) > 4000]]]
    assert len(flashes) == len(beeps) == 2
    for flash, beep in zip(flashes, beeps, strict=True):
        assert abs((beep - flash) / NS - offset) < 0.034


@pytest.mark.parametrize(
    ("layout", "codec", "form"),
    [("mono", "aac", "fltp"), ("stereo", "aac", "fltp"), ("5.1", "aac", "fltp"), ("7.1", "pcm_s16le", "s16"),
     ("stereo", "mp3", "fltp"), ("stereo", "flac", "s16"), ("stereo", "ac3", "fltp"),
     ("mono", "libopus", "flt"), ("mono", "pcm_mulaw", "s16"), ("stereo", "alac", "s16p"),
     ("5.1", "eac3", "fltp")],
)  # fmt: skip
def test_sound_codecs_and_layouts(layout: str, codec: str, form: str, tmp_path: Path) -> None:
    clip = Clip(seconds=1, video=None, audio=codec, layout=layout, sample_format=form)
    played = Played(clip.write(tmp_path / ("a.wav" if codec == "pcm_mulaw" else "a.mkv")))
    sound = played.sound
    assert abs(len(sound) - 16_000) < 1200
    middle = sound[4000:12_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() == pytest.approx(440 * len(middle) / 16_000, abs=1)
    assert 0.4 < np.abs(middle).max() < 0.62


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 48_000, 96_000, 192_000])
def test_sound_rates(rate: int, tmp_path: Path) -> None:
    clip = Clip(seconds=1, video=None, audio="pcm_s16le", sample_format="s16", rate=rate)
    assert len(Played(clip.write(tmp_path / "a.wav")).sound) == 16_000


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [("libx264", "yuv422p", "mkv"), ("libx264", "yuv444p", "mkv"), ("libx264", "yuv420p10le", "mkv"),
     ("libx264", "yuvj420p", "mp4"), ("libx264", "gray", "mkv"), ("libx265", "yuv420p10le", "mp4"),
     ("mpeg4", "yuv420p", "avi"), ("mjpeg", "yuvj422p", "avi"), ("mpeg2video", "yuv420p", "ts"),
     ("libvpx", "yuv420p", "webm"),
     ("libvpx-vp9", "yuv420p", "webm"), ("libsvtav1", "yuv420p", "mp4"), ("prores_ks", "yuv422p10le", "mov")],
)  # fmt: skip
def test_picture_codecs_and_formats(codec: str, pix_fmt: str, suffix: str, tmp_path: Path) -> None:
    quick = {"deadline": "realtime", "cpu-used": "8"}
    one_thread = {"preset": "12", "svtav1-params": "lp=1"}
    fast = {"libvpx": quick, "libvpx-vp9": quick, "libsvtav1": one_thread}.get(codec, {})
    clip = Clip(seconds=0.5, audio=None, video=codec, pix_fmt=pix_fmt, video_options=fast)
    try:
        path = clip.write(tmp_path / f"a.{suffix}")
    except (av.error.FFmpegError, ValueError) as error:  # this PyAV has no such encoder
        pytest.skip(f"cannot encode {codec}: {error}")
    assert Played(path).indices == list(range(15))


def test_video_only_and_audio_only(tmp_path: Path) -> None:
    video = Played(Clip(seconds=0.5, audio=None).write(tmp_path / "v.mp4"))
    assert video.starts[0].tracks == {"video"}
    assert not video.chunks
    audio = Played(Clip(seconds=0.5, video=None).write(tmp_path / "a.m4a"))
    assert audio.starts[0].tracks == {"audio"}
    assert not audio.frames


def test_a_track_that_is_switched_off_is_not_decoded(tmp_path: Path) -> None:
    path = Clip(seconds=0.5).write(tmp_path / "a.mp4")
    assert Played(path, decode=DecodeConfig(video=False)).starts[0].tracks == {"audio"}
    assert Played(path, decode=DecodeConfig(audio=False)).starts[0].tracks == {"video"}


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    plain = Clip(seconds=0.5, video=None, audio="mp3").write(tmp_path / "plain.mp3")
    path = tmp_path / "cover.mp3"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        sound = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = 0x400  # attached_pic
        for packet in cover.encode(av.VideoFrame(64, 64, "yuvj420p")):
            out.mux(packet)
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = sound
                out.mux(packet)
    played = Played(path)
    assert played.starts[0].tracks == {"audio"}
    assert len(played.sound) > 7000


@pytest.mark.parametrize(("video_start", "audio_start"), [(0, 3), (3, 0), (0, 0.5)])
def test_tracks_that_begin_late(video_start: float, audio_start: float, tmp_path: Path) -> None:
    clip = Clip(seconds=1 + video_start, audio_seconds=4.0, video_start=0, audio_start=audio_start)
    clip = Clip(seconds=5, audio_seconds=5, video_start=video_start, audio_start=audio_start)
    played = Played(clip.write(tmp_path / "a.mkv"))
    assert len(played.starts) == 1
    assert played.starts[0].zero_ns == 0
    assert played.frames[0].pts_ns == pytest.approx(video_start * NS, abs=2 * MS)
    assert played.chunks[0].pts_ns == pytest.approx(audio_start * NS, abs=25 * MS)


def test_a_track_that_ends_early(tmp_path: Path) -> None:
    played = Played(Clip(seconds=4, audio_seconds=1).write(tmp_path / "a.mp4"))
    assert len(played.starts) == 1
    assert len(played.frames) == 120
    assert not played.decoder.truncated


def test_variable_frame_rate_keeps_every_time(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.51, 0.9, 1.6, 3.2, 3.21, 3.3]
    played = Played(Clip(seconds=3.4, frame_times=times).write(tmp_path / "a.mkv"))
    assert played.times == pytest.approx(times, abs=0.001)
    assert played.indices == list(range(10))
    assert len(played.starts) == 1


def test_rotation_aspect_and_range_reach_the_picture(tmp_path: Path) -> None:
    clip = Clip(seconds=0.2, audio=None, rotation=-90, aspect=Fraction(4, 3), colour=(1, 2))
    picture = Played(clip.write(tmp_path / "a.mp4")).frames[0].render()
    assert (picture.width, picture.height) == (240, 320)
    assert picture.pixel_aspect == (3, 4)
    assert (picture.matrix, picture.full_range) == ("bt709", True)


# -- two inputs ------------------------------------------------------------


def test_test_pattern_with_sound_is_interleaved() -> None:
    played = Played("lavfi:testsrc2=size=320x240:rate=30:duration=2;sine=frequency=440:duration=2")
    assert len(played.frames) == 60
    assert len(played.sound) == 32_000
    video_first = 0
    newest: dict[type, int] = {VideoFrame: 0, AudioChunk: 0}
    for item in played.items:
        if isinstance(item, VideoFrame | AudioChunk):
            newest[type(item)] = item.pts_ns
            video_first = max(video_first, abs(newest[VideoFrame] - newest[AudioChunk]))
    assert video_first < 200 * MS


# -- real recordings -------------------------------------------------------

REAL = {
    "obama_speech.mp4": (105, 8.7),
    "movie-hello.mp4": (249, 8.3),
    "face_noface.mov": (169, 4.0),
    "oa4_launch.webm": (194, 8.0),
    "diver.mov": (351, 14.0),
    "motion.mov": (242, 8.0),
    "movie.avi": (68, 4.5),
    "realshort.mp4": (36, 1.2),
    "test.avi": (163, 6.6),
    "carphone_pristine.mp4": (120, 0),
    "cityCC0.mpg": (190, 0),
}


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", REAL)
def test_real_recordings(name: str, shared: Path) -> None:
    frames, seconds = REAL[name]
    played = Played(shared / "media" / name, decode=DecodeConfig(threads=2))
    assert len(played.frames) == frames
    assert len(played.starts) == 1
    assert abs(sum(len(c.samples) for c in played.chunks) / 16_000 - seconds) < 0.1
    assert not played.decoder.truncated
    times = np.array([f.pts_ns for f in played.frames])
    assert (np.diff(times) > 0).all()
    picture = played.frames[len(played.frames) // 2].render()
    assert min(picture.width, picture.height) <= 256
    assert picture.planes[0].std() > 5


@pytest.mark.needs_shared
def test_a_codec_outside_the_list_is_refused_by_name_and_can_be_allowed(shared: Path) -> None:
    path = shared / "media" / "tree.avi"
    with pytest.raises(SourceRefused, match=r"got cinepak .*--allow-codec cinepak accepts it"):
        Played(path)
    assert len(Played(path, decode=DecodeConfig(allow_codecs=("cinepak",))).frames) > 10
