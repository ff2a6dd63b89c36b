from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import ImageFont

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.errors import OutputError
from streamfuse.media.source import parse_source
from streamfuse.sinks.caption import _row
from streamfuse.sinks.overlay import OverlayVideo
from streamfuse.types import NS
from tests.clips import Clip, flash_and_beep, joined, read_index, truncated
from tests.sinks.made import make_label, said, said_many

LIMITED = """
import resource, sys
from pathlib import Path
from streamfuse.errors import OutputError
from tests.sinks.test_overlay import burn
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    burn(Path(sys.argv[1]), Path(sys.argv[2]))
except OutputError as error:
    print(error)
"""


def burn(clip: Path, path: Path, *, ticks: int = 20, span: tuple[int, int | None] | None = None) -> Path:
    sink = OverlayVideo(path, parse_source(str(clip)), decode=DecodeConfig(), ticks=TickConfig(), span=span)
    first = span[0] // (NS // 10) if span else 0
    for tick in range(first, first + ticks):
        sink.write_label(make_label(tick, scene=said("street" if tick < 10 else "sea", 0.8)))
    sink.close(complete=True)
    return path


def pictures(path: Path) -> list[tuple[float, npt.NDArray[np.uint8]]]:
    with av.open(str(path)) as file:
        frames: list[Any] = list(file.decode(video=0))
    return [(frame.time, frame.to_ndarray(format="gray")) for frame in frames]


def sound(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    with av.open(str(path)) as file:
        frames: list[Any] = list(file.decode(audio=0))
    return np.concatenate([frame.to_ndarray() for frame in frames], 1), frames[0].sample_rate


def panel(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Where the panel is: the lower left."""
    high, wide = picture.shape
    return picture[high * 3 // 4 : high * 31 // 32, wide // 32 : wide * 3 // 8]


def test_overlay_keeps_every_picture_at_its_time_with_the_panel_on_it(tmp_path: Path) -> None:
    clip = Clip(2.0, b_frames=2).write(tmp_path / "clip.mp4")
    before, after = pictures(clip), pictures(burn(clip, tmp_path / "clip.overlay.mp4"))
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    assert [read_index(picture) for _, picture in after] == list(range(60))
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert np.abs(panel(old).astype(int) - panel(new)).mean() > 30
        half = old.shape[0] // 2
        assert np.abs(old[:half].astype(int) - new[:half]).mean() < 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip.overlay.mp4"]


def test_overlay_panel_changes_with_the_label_to_the_frame(tmp_path: Path) -> None:
    clip = Clip(2.0, picture=lambda _: np.full((240, 320, 3), 90, np.uint8)).write(tmp_path / "clip.mp4")
    after = [picture for _, picture in pictures(burn(clip, tmp_path / "o.mp4"))]
    change = [np.abs(panel(a).astype(int) - panel(b)).mean() for a, b in pairwise(after)]
    assert int(np.argmax(change)) == 29  # "sea" is said from 1.0 s, frame 30
    assert change[29] > 5 * sorted(change)[-2]


def test_overlay_sound_is_there_whole_and_at_its_own_rate(tmp_path: Path) -> None:
    clip = Clip(2.0, rate=44_100, hz=1000.0).write(tmp_path / "clip.mp4")
    before, _ = sound(clip)
    after, rate = sound(burn(clip, tmp_path / "o.mp4"))
    assert rate == 44_100
    assert after.shape[0] == 2
    assert abs(after.shape[1] - before.shape[1]) <= 1024
    power = np.abs(np.fft.rfft(after[0, 4410:-4410]))
    assert np.argmax(power) * rate / (after.shape[1] - 8820) == pytest.approx(1000, abs=2)
    assert np.sqrt((after**2).mean()) == pytest.approx(np.sqrt((before**2).mean()), rel=0.02)


def test_overlay_picture_and_sound_stay_together(tmp_path: Path) -> None:
    clip = flash_and_beep(tmp_path / "clip.mp4", at=(1.0, 2.0), video_start=0.2, audio_start=0.2)
    path = burn(clip, tmp_path / "o.mp4", ticks=32)
    shown = pictures(path)
    flash = [
        a
        for (a, old), (_, new) in zip(shown[1:], shown, strict=False)
        if old[:99].mean() > 128 > new[:99].mean()
    ]
    samples, rate = sound(path)
    loud = np.flatnonzero(np.abs(samples[0]) > 0.2) / rate
    beeps = [loud[0], loud[np.flatnonzero(np.diff(loud) > 0.5)[0] + 1]]
    with av.open(str(path)) as file:
        start = next(file.decode(audio=0)).time
    assert flash == pytest.approx([at + start for at in beeps], abs=0.034)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (1920, 1080)])
def test_overlay_letters_are_light_on_dark_and_large_enough(tmp_path: Path, width: int, height: int) -> None:
    grey = np.full((height, width, 3), 128, np.uint8)
    clip = Clip(0.2, width=width, height=height, picture=lambda _: grey).write(tmp_path / "clip.mp4")
    _, picture = pictures(burn(clip, tmp_path / "o.mp4", ticks=2))[-1]
    part = panel(picture)
    assert np.median(part) < 70
    assert part.max() > 215
    light = np.flatnonzero((part > 190).any(1))
    letters = max(np.split(light, np.flatnonzero(np.diff(light) > 1) + 1), key=len)
    assert len(letters) >= max(8, height // 40)


def test_overlay_words_have_letters_in_the_font() -> None:
    """A dash that Pillow's font lacks was drawn as a crossed box."""
    font = ImageFont.load_default(20)
    for said_of_it in (said_many(), said("street", 0.5), said_many(("rain", 0.9))):
        for letter in _row("sound", said_of_it)[1]:
            assert bytes(font.getmask(letter)) != bytes(font.getmask("\uffff")), letter


@pytest.mark.parametrize("rotation", [90.0, 180.0, 270.0])
def test_overlay_is_upright(tmp_path: Path, rotation: float) -> None:
    clip = Clip(0.5, rotation=rotation).write(tmp_path / "clip.mp4")
    after = pictures(burn(clip, tmp_path / "o.mp4", ticks=5))
    upright = np.rot90(pictures(clip)[7][1], int(rotation // 90))
    assert after[7][1].shape == upright.shape
    half = upright.shape[0] // 2
    assert np.abs(after[7][1][:half].astype(int) - upright[:half]).mean() < 3
    with av.open(str(tmp_path / "o.mp4")) as file:
        assert next(file.decode(video=0)).rotation == 0


def test_overlay_odd_sizes_become_even_by_repeating_the_edge(tmp_path: Path) -> None:
    clip = Clip(0.3, width=321, height=239, pix_fmt="yuv444p").write(tmp_path / "clip.mp4")
    after = pictures(burn(clip, tmp_path / "o.mp4", ticks=3))
    assert after[0][1].shape == (240, 322)
    assert [read_index(picture[:, :321]) for _, picture in after] == list(range(9))


def test_overlay_keeps_aspect_and_variable_frame_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.5, 0.51, 1.3, 1.9]
    clip = Clip(2.0, frame_times=times, aspect=Fraction(4, 3)).write(tmp_path / "clip.mp4")
    path = burn(clip, tmp_path / "o.mp4")
    assert [time for time, _ in pictures(path)] == pytest.approx(times, abs=1e-4)
    with av.open(str(path)) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_overlay_of_a_part_begins_at_its_beginning(tmp_path: Path) -> None:
    clip = Clip(3.0, gop=15).write(tmp_path / "clip.mp4")
    path = burn(clip, tmp_path / "o.mp4", ticks=10, span=(NS, 2 * NS))
    shown = pictures(path)
    assert [read_index(picture) for _, picture in shown] == list(range(30, 60))
    assert shown[0][0] == pytest.approx(0, abs=0.001)
    samples, rate = sound(path)
    assert samples.shape[1] / rate == pytest.approx(1.0, abs=0.03)


def test_overlay_goes_on_where_time_jumps_back(tmp_path: Path) -> None:
    first = Clip(1.0, start_ticks=90_000 * 100).write(tmp_path / "a.ts")
    second = Clip(1.0, hz=880).write(tmp_path / "b.ts")
    clip = joined(tmp_path / "clip.ts", first, second)
    path = burn(clip, tmp_path / "o.mp4", ticks=21)
    shown = [read_index(picture) for _, picture in pictures(path)]
    assert shown == [*range(30), *range(30)]
    samples, rate = sound(path)
    assert samples.shape[1] / rate == pytest.approx(2.0, abs=0.15)
    for hz, part in (
        (440, samples[0, rate // 4 : rate * 3 // 4]),
        (880, samples[0, rate * 5 // 4 : rate * 7 // 4]),
    ):
        assert np.argmax(np.abs(np.fft.rfft(part))) * rate / len(part) == pytest.approx(hz, abs=4)


def test_overlay_of_a_file_that_is_cut_off_has_what_is_there(tmp_path: Path) -> None:
    whole = Clip(2.0).write(tmp_path / "whole.mkv")
    clip = truncated(whole, tmp_path / "clip.mkv")
    assert 10 < len(pictures(burn(clip, tmp_path / "o.mp4"))) < 60


def test_overlay_of_sound_alone_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    clip = Clip(1.0, video=None).write(tmp_path / "clip.m4a")
    with pytest.raises(OutputError, match="an overlay needs a video track, got sound alone"):
        burn(clip, tmp_path / "out" / "o.mp4")
    assert not (tmp_path / "out").exists()


def test_overlay_aborted_leaves_only_the_part(tmp_path: Path) -> None:
    clip = Clip(1.0).write(tmp_path / "clip.mp4")
    path = tmp_path / "out" / "o.mp4"
    sink = OverlayVideo(path, parse_source(str(clip)), decode=DecodeConfig(), ticks=TickConfig())
    sink.write_label(make_label(0))
    sink.close(complete=False)
    assert [item.name for item in path.parent.iterdir()] == ["o.mp4.part"]


def test_overlay_on_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (10, 240, 320, 3), np.uint8)
    clip = Clip(1.0, picture=lambda index: noise[index % 10]).write(tmp_path / "clip.mp4")
    path = tmp_path / "out" / "o.mp4"
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(clip), str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout == f"an output must be written whole, got errno 27 (File too large) [{path}]\n"
    assert [item.name for item in path.parent.iterdir()] == ["o.mp4.part"]
