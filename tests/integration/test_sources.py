"""Sources of every live kind through the whole program, each with a truth that its labels must tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from streamfuse.types import MS, NS
from tests.clips import Clip, flash_and_beep, joined, wrapping_ts
from tests.integration.live import Line, LiveRun, check_order
from tests.integration.meter import write_meter
from tests.integration.senders import flv_camera, http_camera, udp_sender, with_late_sound
from tests.ports import free_port

SMALL = {"width": 160, "height": 120, "fps": 10}
TS_SECONDS = 4.0
LONG_SECONDS = 8.0
FLASHES = (1.0, 2.0)
FRAME_NS = NS // 10
SOUND_LATE_MS = (0, 300)
NO_SMOOTHING = ("--set", "labels.smoothing_s=0")
UNHURRIED = ("--set", "ticks.max_wait_ms=1000", "--set", "live.spare=false")
"""On a busy machine a track that is read late is waited for, and no second analyzer warms up beside it."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("live")
    wraps = [wrapping_ts(folder / f"wrap{i}.ts", before=0.7, seconds=1.5, **SMALL) for i in range(3)]
    early, late = folder / "early.ts", folder / "late.ts"
    Clip(seconds=1.5, container="mpegts", **SMALL).write(early)
    Clip(seconds=1.5, container="mpegts", start_ticks=60 * 90_000, **SMALL).write(late)
    long = Clip(seconds=LONG_SECONDS, container="mpegts", **SMALL).write(folder / "long.ts")
    return {
        "lagging": with_late_sound(long, folder / "lagging.ts", 0.4 / LONG_SECONDS),
        "stream": Clip(seconds=TS_SECONDS, container="mpegts", **SMALL).write(folder / "stream.ts"),
        "flash": flash_and_beep(folder / "flash.mp4", FLASHES, seconds=3.5, **SMALL),
        "late_beep": flash_and_beep(folder / "late_beep.mp4", FLASHES, seconds=3.5, offset=0.3, **SMALL),
        "loop": Clip(seconds=1.0, **SMALL).write(folder / "loop.mp4"),
        "deaf": Clip(seconds=2.0, audio=None, **SMALL).write(folder / "deaf.mp4"),
        "blind": Clip(seconds=2.0, video=None).write(folder / "blind.mp4"),
        "late_sound": Clip(seconds=3.0, audio_start=1.2, audio_seconds=1.8, **SMALL).write(
            folder / "late.mkv"
        ),
        "wraps": joined(folder / "wraps.ts", *wraps),
        "jumps": joined(folder / "jumps.ts", early, late, early),
    }


def sent(labels: list[Line], label: str, head: str) -> list[int]:
    """Ticks in which `head` said `label`."""
    return [line["tick"] for line in labels if line[head]["label"] == label]


@pytest.fixture(scope="module")
def network(clips: dict[str, Path], meter: Path) -> Iterator[LiveRun]:
    """Cameras on the network, and a file that begins again and again."""
    port = free_port()
    with ExitStack() as stack:
        base = stack.enter_context(http_camera(clips["stream"], TS_SECONDS))
        lagging = stack.enter_context(http_camera(clips["lagging"], LONG_SECONDS))
        stack.enter_context(udp_sender(clips["stream"], TS_SECONDS, port))
        sources = {
            "http": f"{base}/stream.ts",
            "lagging": f"{lagging}/stream.ts",
            "mjpeg": f"{base}/mjpeg",
            "udp": f"udp://127.0.0.1:{port}",
            "loop": str(clips["loop"]),
        }
        options = ("--loop", "--set", "decode.read_timeout_s=5")
        yield stack.enter_context(LiveRun(sources, *options, model=meter))


@pytest.mark.parametrize("name", ["http", "udp"])
def test_stream_is_seen_and_heard_and_goes_on_when_it_ends(network: LiveRun, name: str) -> None:
    def whole() -> bool:
        both = [x for x in network.labels(name) if x["modalities"] == {"video": "ok", "audio": "ok"}]
        return len(both) > 10 and any(x["emotion"]["label"] == "loud" for x in both)

    network.until(whole, f"picture and sound of {name}")
    network.until(lambda: network.session(name) >= 1, f"{name} begins again")
    check_order(network.labels(name))


def test_mjpeg_camera_is_seen(network: LiveRun) -> None:
    network.until(lambda: len(network.labels("mjpeg")) > 10, "labels of mjpeg")
    seen = network.labels("mjpeg")[-5:]
    assert {line["scene"]["label"] for line in seen} == {"bright"}
    assert {line["modalities"]["audio"] for line in seen} == {"missing"}


def test_sound_that_always_comes_late_is_waited_for(network: LiveRun) -> None:
    def whole() -> bool:
        late = [x for x in network.labels("lagging") if x["latency"]["sync_wait"] > 200_000_000]
        told = {(x["modalities"]["audio"], x["partial"]) for x in late[-10:]}
        return len(late) >= 10 and told == {("ok", False)}

    network.until(whole, "ten whole ticks in a row")


def test_file_that_loops_begins_a_session_each_time(network: LiveRun) -> None:
    """The last of this run: it ends it."""
    network.until(lambda: network.session("loop") >= 3, "the fourth time")
    assert network.stop() == 0
    labels = network.labels("loop")
    check_order(labels)
    for session in (1, 2):
        ticks = [line["tick"] for line in labels if line["session"] == session]
        assert ticks[-1] == 9 or ticks[-1] == 10  # AAC pads its last frame


@pytest.fixture(scope="module")
def files(clips: dict[str, Path], meter: Path) -> Iterator[LiveRun]:
    """Recordings played at their own pace; the run ends by itself when all have ended."""
    names = ("flash", "late_beep", "deaf", "blind", "late_sound", "wraps", "jumps")
    sources = {name: str(clips[name]) for name in names}
    with LiveRun(sources, *NO_SMOOTHING, *UNHURRIED, model=meter) as run:
        assert run.wait() == 0, run.said()
        assert run.complaints() == []
        for name in names:
            check_order(run.labels(name))
        yield run


def heard_and_seen(run: LiveRun, name: str) -> tuple[list[int], list[int]]:
    labels = run.labels(name)
    return sent(labels, "bright", "scene"), sent(labels, "loud", "emotion")


def test_flash_and_beep_fall_into_the_same_tick(files: LiveRun) -> None:
    flashes, beeps = heard_and_seen(files, "flash")
    assert flashes == [10, 20]
    # A beep that begins at 1.000 s reaches, by the MFCC's window and the codec's own spread, its neighbours.
    assert {10, 20} <= set(beeps) <= {9, 10, 11, 19, 20, 21}
    for line in files.labels("flash"):
        assert abs(line["latency"]["av_skew"]) <= FRAME_NS


def test_beep_that_is_late_is_heard_late(files: LiveRun) -> None:
    flashes, beeps = heard_and_seen(files, "late_beep")
    assert flashes == [10, 20]
    assert {13, 23} <= set(beeps) <= {12, 13, 14, 22, 23, 24}


def test_tracks_that_are_not_there_are_missing(files: LiveRun) -> None:
    assert {line["modalities"]["audio"] for line in files.labels("deaf")} == {"missing"}
    assert {line["modalities"]["video"] for line in files.labels("blind")} == {"missing"}
    assert set(sent(files.labels("blind"), "loud", "emotion")) >= set(range(2, 18))


def test_sound_that_begins_late_joins(files: LiveRun) -> None:
    heard = {line["tick"]: line["modalities"]["audio"] for line in files.labels("late_sound")}
    assert all(state == "missing" for tick, state in heard.items() if tick < 11)
    assert all(heard[tick] == "ok" for tick in range(13, 28))


def test_time_stamps_that_wrap_three_times_are_not_noticed(files: LiveRun) -> None:
    labels = files.labels("wraps")
    sessions = {line["session"] for line in labels}
    # Each part lies 1.5 s before the end of the one before it, which is a session; the wrap inside is none.
    ends = [max(line["tick"] for line in labels if line["session"] == session) for session in sessions]
    assert len(sessions) == 3 and all(end >= 13 for end in ends), ends
    assert labels[-1]["end_s"] - labels[0]["start_s"] < 10


def test_jump_of_the_clock_begins_a_session(files: LiveRun) -> None:
    labels = files.labels("jumps")
    sessions = sorted({line["session"] for line in labels})
    ends = [max(line["tick"] for line in labels if line["session"] == session) for session in sessions]
    assert len(sessions) == 3 and all(end >= 13 for end in ends), ends
    assert labels[-1]["end_s"] - labels[0]["start_s"] < 10


@pytest.fixture(scope="module")
def beeps(tmp_path_factory: pytest.TempPathFactory, meter: Path) -> Iterator[LiveRun]:
    """The same flash and beep from two cameras; one sends its sound later than the picture it belongs to."""
    at = (6.0, 7.0)  # after what FFmpeg buffers to see what comes, which then arrives at once
    options = {"flvflags": "no_duration_filesize"}  # a film has a length, a camera has none
    clip = tmp_path_factory.mktemp("flv") / "flash.flv"
    flash_and_beep(clip, at, seconds=9.0, options=options, **SMALL)
    with ExitStack() as stack:
        sources = {f"late{ms}": stack.enter_context(flv_camera(clip, ms / 1000)) for ms in SOUND_LATE_MS}
        run = stack.enter_context(LiveRun(sources, *NO_SMOOTHING, model=meter))
        for name in sources:
            run.until(lambda n=name: any(x["tick"] >= 85 for x in run.labels(n)), f"the end of {name}")
        yield run


@pytest.mark.parametrize("late_ms", SOUND_LATE_MS)
def test_skew_is_how_much_later_the_sound_comes(beeps: LiveRun, late_ms: int) -> None:
    name = f"late{late_ms}"
    labels = [line for line in beeps.labels(name) if line["session"] == 0 and line["tick"] < 90]
    flashes, heard = sent(labels, "bright", "scene"), sent(labels, "loud", "emotion")
    assert (flashes, {60, 70} <= set(heard)) == ([60, 70], True), heard  # it was waited for
    skews_ns = [line["latency"]["av_skew"] for line in labels if 50 <= line["tick"] < 80]
    assert abs(median(skews_ns) - late_ms * MS) <= FRAME_NS


def test_answers_that_are_no_numbers_are_unknown_and_counted(clips: dict[str, Path], tmp_path: Path) -> None:
    model = write_meter(tmp_path / "nan.ts", nan_every=5)
    with LiveRun({"deaf": str(clips["deaf"])}, *NO_SMOOTHING, model=model) as run:
        assert run.wait() == 0, run.said()
        bad = [line["tick"] for line in run.labels("deaf") if line["scene"]["label"] == "unknown"]
        assert bad == list(range(4, 20, 5))  # its state began anew after each
        assert run.counters("analyze")["bad_answers"] == len(bad)
