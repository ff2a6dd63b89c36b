"""F5, F8, F11, F13 to F18, F41: one run with a camera for each of these faults, and one without any.

Each camera sends a few seconds of a transport stream at its own pace, and then nothing more; a run would wait
a minute before it calls that a loss. So whatever session begins, begins because of what was sent.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clips import Clip, joined
from tests.faults.test_f13_time_stamps import with_late_dts
from tests.faults.test_f16_tracks import with_unknown_sound
from tests.integration.live import Line, LiveRun, check_order
from tests.media.servers import Answer, Tcp, http_server, stream, tcp_server
from tests.ports import free_port

HALF_S, WHOLE_S, FPS = 2.5, 5.0, 10
AT_TICKS, GAP_TICKS = 900_000, 60 * 90_000
STEP = 188 * 7
CHANGED_TICKS, HELD_BACK = 10, 8
"""Enough of a second half; ticks at the end that nothing comes to push out."""
OPTIONS = ("--set", "decode.read_timeout_s=60", "--set", "decode.open_timeout_s=3")
PLAIN: dict[str, Any] = {"fps": FPS, "width": 64, "height": 48, "options": {"mpegts_copyts": "1"}}

CHANGES: dict[str, dict[str, Any]] = {
    "size": {"width": 96, "height": 72},  # F14
    "rate": {"rate": 16_000, "layout": "mono"},  # F15
    "jump": {"start_ticks": AT_TICKS + GAP_TICKS},  # F13, forward
    "back": {"start_ticks": 90_000},  # F11
}
"""What the second half of a camera's stream does otherwise: a session of its own."""


def clip(folder: Path, name: str, seconds: float = WHOLE_S, **made: Any) -> Path:
    return Clip(seconds=seconds, **(PLAIN | {"start_ticks": AT_TICKS} | made)).write(folder / f"{name}.ts")


def streams(folder: Path) -> dict[str, bytes]:
    """What each camera sends."""
    after = AT_TICKS + round(HALF_S * 90_000)
    first, found = clip(folder, "first", HALF_S), dict[str, Path]()
    for name, how in CHANGES.items():
        second = clip(folder, f"{name}-2", HALF_S, **({"start_ticks": after} | how))
        found[name] = joined(folder / f"{name}.ts", first, second)
    plain = clip(folder, "door")
    late = clip(folder, "late", b_frames=2).read_bytes()
    made = {name: path.read_bytes() for name, path in found.items()}
    return made | {
        "door": plain.read_bytes(),
        "late": with_late_dts(late, 90_000, 7)[0],  # F13: decoded after it is shown
        "kind": with_unknown_sound(plain.read_bytes(), 0x7F),  # F16
        "mute": clip(folder, "mute", audio=None).read_bytes(),  # F17
        "drift": clip(folder, "drift", audio_clock=1.05).read_bytes(),  # F18
    }


def paced(data: bytes, over: threading.Event) -> Answer:
    """The stream at its own pace, then silence on an open connection until all is over."""

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(data), STEP):
            yield data[at : at + STEP]
            if over.wait(WHOLE_S * STEP / len(data)):
                return
        over.wait()

    return stream(pieces, "video/mp2t")


class Cameras:
    """What they were asked, and how the run that watched them ended."""

    def __init__(self, run: LiveRun, asked: list[str], knocks: list[int]) -> None:
        self.run, self.asked, self.knocks = run, asked, knocks

    def labels(self, name: str) -> list[Line]:
        return self.run.labels(name)

    def sessions(self, name: str) -> set[int]:
        return {line["session"] for line in self.labels(name)}


@pytest.fixture(scope="module")
def cameras(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cameras]:
    """The run has ended when the tests look at it: every camera has sent what it had."""
    over, knocks = threading.Event(), list[int]()
    data = streams(tmp_path_factory.mktemp("cameras"))

    def silent(_: socket.socket, tcp: Tcp) -> None:
        knocks.append(1)
        tcp.stop.wait()

    with ExitStack() as stack:
        http = stack.enter_context(
            http_server({f"/{name}.ts": paced(one, over) for name, one in data.items()})
        )
        deaf = stack.enter_context(tcp_server(silent))
        stack.callback(over.set)
        sources = {name: http.url(f"/{name}.ts") for name in data}
        sources |= {"silent": f"http://127.0.0.1:{deaf.port}/x", "away": f"http://127.0.0.1:{free_port()}/x"}
        run = stack.enter_context(LiveRun(sources, *OPTIONS, model=tiny_model))
        for name in data:
            wanted = 1 if name in CHANGES else 0
            run.until(lambda n=name, w=wanted: _last(run, n)[0] == w, f"the last session of {name}")
            until = CHANGED_TICKS if wanted else WHOLE_S * FPS - HELD_BACK
            run.until(lambda n=name, t=until: _last(run, n)[1] >= t, f"the end of {name}")
        run.until(lambda: len(knocks) >= 3, "the silent one is tried again")
        assert run.stop() == 0, run.said()
        yield Cameras(run, http.paths, knocks)


def _last(run: LiveRun, name: str) -> tuple[int, int]:
    return max(((line["session"], line["tick"]) for line in run.labels(name)), default=(-1, -1))


def test_camera_without_a_fault_loses_nothing(cameras: Cameras) -> None:
    labels = cameras.labels("door")
    assert cameras.sessions("door") == {0}
    check_order(labels)
    assert labels[0]["tick"] == labels[0]["dropped"]
    assert labels[-1]["tick"] >= WHOLE_S * FPS - HELD_BACK
    counters = cameras.run.counters("decode", "door")
    assert counters["video_frames"] >= WHOLE_S * FPS - HELD_BACK
    assert (counters["reconnects"], counters["link_lost"], counters.get("decode_errors", 0)) == (0, 0, 0)
    assert cameras.asked.count("/door.ts") == 1


@pytest.mark.parametrize("name", CHANGES)
def test_camera_that_changes_begins_a_session(cameras: Cameras, name: str) -> None:
    assert cameras.sessions(name) == {0, 1}
    check_order(cameras.labels(name))
    for session in (0, 1):
        assert any(line["modalities"] == {"video": "ok", "audio": "ok"} for line in cameras.labels(name)
                   if line["session"] == session), f"session {session}"  # fmt: skip
    assert cameras.run.counters("decode", name)["reconnects"] == 0
    assert cameras.asked.count(f"/{name}.ts") == 1


@pytest.mark.parametrize("name", ["late", "kind", "mute", "drift"])
def test_camera_with_a_fault_within_a_session_keeps_it(cameras: Cameras, name: str) -> None:
    assert cameras.sessions(name) == {0}
    check_order(cameras.labels(name))
    counters = cameras.run.counters("decode", name)
    assert counters["reconnects"] == 0
    assert counters["video_frames"] >= WHOLE_S * FPS - HELD_BACK
    assert cameras.asked.count(f"/{name}.ts") == 1


def test_camera_with_wrong_time_stamps_keeps_its_pictures(cameras: Cameras) -> None:
    counters, labels = cameras.run.counters("decode", "late"), cameras.labels("late")
    assert [counters[f"{name}_frames"] for name in ("reordered", "early")] == [0, 0]
    shown = [line["modalities"]["video"] for line in labels].count("ok")
    unlucky = counters["late_frames"] + sum(line["dropped"] for line in labels)  # a busy machine
    assert shown + unlucky >= WHOLE_S * FPS - HELD_BACK


@pytest.mark.parametrize("name", ["kind", "mute"])
def test_camera_without_sound_that_is_known_is_seen(cameras: Cameras, name: str) -> None:
    """FFmpeg may find out by itself what kind of sound it is."""
    assert "ok" in {line["modalities"]["video"] for line in cameras.labels(name)}
    if name == "mute":
        assert {line["modalities"]["audio"] for line in cameras.labels(name)} == {"missing"}


def test_camera_with_a_wrong_audio_clock_keeps_its_session(cameras: Cameras) -> None:
    """Five in a hundred for five seconds: the sound is put in its place again before it is 80 ms off."""
    assert cameras.run.counters("decode", "drift")["audio_gaps"] >= 2
    assert {line["modalities"]["video"] for line in cameras.labels("drift")} <= {"ok", "held"}


def test_silent_camera_is_told_once_and_tried_again(cameras: Cameras) -> None:
    said = [line for line in cameras.run.complaints() if "decode silent: " in line]
    assert len(said) == 1 and "nothing came in time" in said[0] and "it is tried again" in said[0]
    assert cameras.run.counters("decode", "silent")["reconnects"] >= len(cameras.knocks) - 1 >= 2
    assert cameras.labels("silent") == []


def test_camera_that_is_not_there_is_told_once(cameras: Cameras) -> None:
    """F41: however often it is tried, its lines stay few."""
    said = [line for line in cameras.run.complaints() if "decode away: " in line]
    assert len(said) == 1 and "nobody listens at the address" in said[0]
    assert cameras.run.counters("decode", "away")["reconnects"] >= 3
    logs = cameras.run.run_dir / "logs"
    assert sum(path.stat().st_size for path in logs.glob("decode-away.log")) < 2000


def test_nobody_else_is_complained_of(cameras: Cameras) -> None:
    assert len(cameras.run.complaints()) == 2, cameras.run.complaints()
    for process in cameras.run.status():
        assert process["restarts"] == 0, process
    for path in (cameras.run.run_dir / "logs").iterdir():
        assert "Traceback" not in path.read_text(), path
