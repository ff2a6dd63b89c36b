"""Wraps, jumps, gaps, changes in mid-stream and spans, in real containers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamfuse.config import TickConfig
from streamfuse.errors import SourceRefused, StageError
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import MS, NS, VideoFrame
from tests.clips import WRAP, Clip, joined, lossy_ts, wrapping_ts
from tests.media.played import Played


def test_wrap_of_33_bits_in_one_file(tmp_path: Path) -> None:
    played = Played(wrapping_ts(tmp_path / "w.ts", before=1.0, seconds=2.0, b_frames=2))
    assert played.indices == list(range(60))
    assert np.diff([f.pts_ns for f in played.frames]).max() < 34 * MS
    assert len(played.starts) == 1
    assert played.frames[-1].pts_ns > WRAP * NS // 90_000
    assert abs(len(played.sound) - 32_000) < 1000


def test_three_wraps_in_one_file(tmp_path: Path) -> None:
    """A frame every fifty minutes for 87 hours."""
    times = [3000 * k for k in range(105)]
    path = Clip(audio=None, frame_times=times, options={"mpegts_copyts": "1"}).write(tmp_path / "w.ts")
    played = Played(path, ticks=TickConfig(max_gap_ms=3_600_000))
    assert played.indices == list(range(105))
    assert played.times == times
    assert played.times[-1] * 90_000 > 3 * WRAP
    assert len(played.starts) == 1


@pytest.mark.parametrize("first_hours", [13.0, 0.01, 20.0])
def test_a_camera_that_restarts_its_clock(first_hours: float, tmp_path: Path) -> None:
    options = {"mpegts_copyts": "1"}
    late = Clip(seconds=1, start_ticks=round(first_hours * 3600 * 90_000), options=options).write(
        tmp_path / "a.ts"
    )
    early = Clip(seconds=1, start_ticks=90_000, options=options).write(tmp_path / "b.ts")
    played = Played(joined(tmp_path / "c.ts", late, early))
    assert played.indices == [*range(30), *range(30)]
    assert [s.session for s in played.starts] == [0, 1]
    assert played.starts[1].reason.startswith("time jumped")
    assert played.starts[1].offset_ns == pytest.approx(NS, abs=60 * MS)
    steps = np.diff([f.pts_ns for f in played.frames[30:]])
    assert steps.min() > 0
    assert steps.max() < 40 * MS


def test_live_and_recorded_find_the_same_sessions(tmp_path: Path) -> None:
    early = Clip(seconds=1.5, fps=10).write(tmp_path / "a.ts")
    late = Clip(seconds=1.5, fps=10, start_ticks=60 * 90_000).write(tmp_path / "b.ts")
    path = joined(tmp_path / "c.ts", early, late, early)
    live, recorded = Played(path, mode="live"), Played(path)
    assert [s.reason for s in live.starts] == [s.reason for s in recorded.starts]
    assert len(live.starts) == 3
    assert abs(len(live.frames) - len(recorded.frames)) <= 2


def test_a_small_step_back_is_dropped_and_a_hole_stays(tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1, 2.2]
    path = Clip(seconds=2.4, frame_times=times).write(tmp_path / "a.mkv")
    played = Played(path)
    assert played.times == pytest.approx(times, abs=0.001)
    assert len(played.starts) == 1


def test_a_gap_beyond_the_limit_begins_a_session(tmp_path: Path) -> None:
    path = Clip(seconds=1, audio=None, frame_times=[0, 0.1, 0.2, 3.0, 3.1, 3.2]).write(tmp_path / "a.mkv")
    played = Played(path)
    assert [s.zero_ns for s in played.starts] == [0, 3 * NS]
    assert [s.offset_ns for s in played.starts] == [0, 3 * NS]  # within the recording's own length
    assert len(Played(path, ticks=TickConfig(max_gap_ms=5000)).starts) == 1


def test_a_wrong_audio_clock_is_resynchronised(tmp_path: Path) -> None:
    path = Clip(seconds=20, fps=5, audio_clock=1.01, width=64, height=48).write(tmp_path / "a.mkv")
    played = Played(path)
    assert len(played.starts) == 1
    assert played.counters["audio_gaps"] == 2
    last = played.chunks[-1]
    assert abs(last.end_ns / NS - 20.2) < 0.15


def test_declared_frame_rate_is_not_believed(tmp_path: Path) -> None:
    times = [k / 21 for k in range(42)]
    played = Played(Clip(seconds=2, fps=25, frame_times=times).write(tmp_path / "a.mkv"))
    assert played.times == pytest.approx(times, abs=0.001)


# -- changes in mid-stream ------------------------------------------------


def change(tmp_path: Path, first: Callable[..., Clip] = Clip, **second: Any) -> Path:
    """One transport stream: a second of the default clip, then a second of another one, time going on."""
    options = {"mpegts_copyts": "1"}
    a = Clip(seconds=1, start_ticks=900_000, options=options).write(tmp_path / "a.ts")
    b = Clip(seconds=1, start_ticks=990_000, options=options, **second).write(tmp_path / "b.ts")
    return joined(tmp_path / "c.ts", a, b)


def test_resolution_change(tmp_path: Path) -> None:
    played = Played(change(tmp_path, width=640, height=480))
    assert [s.session for s in played.starts] == [0, 1]
    assert played.starts[1].reason == "video changed to 640 480 yuv420p"
    at = next(k for k, item in enumerate(played.items) if item == played.starts[1])
    sizes = {"old": set(), "new": set()}
    for k, item in enumerate(played.items):
        if isinstance(item, VideoFrame):
            sizes["new" if k > at else "old"].add(item.render().width)
    assert sizes == {"old": {320}, "new": {320}}  # 640x480 shrunk by 2 to fit 256
    assert abs(sum(len(c.samples) for c in played.chunks) / 16_000 - 2) < 0.1
    assert abs(played.starts[1].offset_ns / NS - 1) < 0.3


def test_pixel_format_change(tmp_path: Path) -> None:
    played = Played(change(tmp_path, pix_fmt="yuv444p"))
    assert played.starts[1].reason == "video changed to 320 240 yuv444p"
    assert played.indices[-1] == 29


def test_sample_rate_and_layout_change(tmp_path: Path) -> None:
    played = Played(change(tmp_path, rate=16_000, layout="mono"))
    assert len(played.starts) == 2
    assert played.starts[1].reason == "audio changed to 16000 mono"
    assert played.indices[:30] == list(range(30))
    assert abs(sum(len(c.samples) for c in played.chunks) / 16_000 - 2) < 0.35


def test_both_tracks_change_at_once(tmp_path: Path) -> None:
    played = Played(change(tmp_path, width=160, height=120, rate=32_000))
    assert len(played.starts) == 2


# -- damage ----------------------------------------------------------------


def test_a_tenth_of_the_packets_lost(tmp_path: Path) -> None:
    whole = Clip(seconds=4).write(tmp_path / "a.ts")
    played = Played(lossy_ts(whole, tmp_path / "b.ts", loss=0.1))
    assert len(played.frames) > 60
    assert sum(played.counters.get(n, 0) for n in ("corrupt_packets", "decode_errors")) > 10
    assert {f.render().width for f in played.frames} == {320}


def test_a_decoder_is_iterated_once(tmp_path: Path) -> None:
    path = Clip(seconds=0.2).write(tmp_path / "a.mp4")
    with open_decoder(parse_source(str(path)), mode="recorded", picture_side=256) as decoder:
        list(decoder)
        with pytest.raises(StageError, match="iterated once"):
            list(decoder)


# -- spans -----------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(("start", "end"), [(0.5, 1.5), (1.0, None), (0.0, 1.0), (1.23, 1.31)])
def test_span(suffix: str, start: float, end: float | None, tmp_path: Path) -> None:
    path = Clip(seconds=2, video_start=0, audio="aac").write(tmp_path / f"a.{suffix}")
    whole = Played(path)
    zero = whole.starts[0].zero_ns
    span = (round(start * NS), None if end is None else round(end * NS))
    played = Played(path, span=span)
    first, last = zero + span[0], zero + (span[1] if span[1] is not None else 10**15)
    assert played.starts[0].zero_ns == first
    assert played.starts[0].offset_ns == span[0]
    wanted = [i for f, i in zip(whole.frames, whole.indices, strict=True) if first <= f.pts_ns < last]
    assert played.indices == wanted
    if end is not None:
        assert len(played.sound) == pytest.approx((end - start) * 16_000, abs=1)


def test_span_decodes_only_what_it_needs(tmp_path: Path) -> None:
    path = Clip(seconds=20, fps=10, width=96, height=64, gop=10, b_frames=2).write(tmp_path / "a.ts")
    played = Played(path, span=(15 * NS, 16 * NS))
    assert played.indices == list(range(150, 160))
    assert played.counters["video_frames"] < 45  # its group of pictures, and until the sound is there too
    assert played.counters["audio_frames"] < 3 * 48


def test_span_past_the_wrap(tmp_path: Path) -> None:
    played = Played(wrapping_ts(tmp_path / "w.ts", before=1.0, seconds=4.0), span=(2 * NS, 3 * NS))
    zero = played.starts[0].zero_ns - 2 * NS
    assert played.frames[0].pts_ns - zero == pytest.approx(2 * NS, abs=34 * MS)
    assert played.indices == list(range(played.indices[0], played.indices[0] + 30))
    assert played.indices[0] in (59, 60)


def test_span_in_a_recording_of_one_key_frame(tmp_path: Path) -> None:
    path = Clip(seconds=4, gop=1000, audio=None).write(tmp_path / "a.mp4")
    assert Played(path, span=(3 * NS, 3 * NS + 100 * MS)).indices == [90, 91, 92]


def test_span_that_begins_after_the_end_is_refused(tmp_path: Path) -> None:
    path = Clip(seconds=1).write(tmp_path / "a.mp4")
    with pytest.raises(SourceRefused, match=r"a span must begin within the recording of 1 s, got 5 s"):
        Played(path, span=(5 * NS, None))


def test_span_of_lavfi() -> None:
    source = "lavfi:testsrc2=size=64x48:rate=10;sine"
    played = Played(source, span=(NS, 2 * NS))
    assert len(played.frames) == 10
    assert len(played.sound) == 16_000
