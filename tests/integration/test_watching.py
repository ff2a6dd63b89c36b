"""Somebody is told of events, keeps what they were about, and gives the whole run again at a desk."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image

from streamfuse.cli.main import main
from tests.clips import Clip
from tests.integration.conftest import StartCamera
from tests.integration.live import Line, LiveRun
from tests.notify.receivers import Broker, HttpReceiver, Listener

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "schema" / "event-1.schema.json").read_text())
FPS = 10
BRIGHT = range(30, 50)
"""Frames of the clip that are white: it is bright from 3.0 to 5.0 s."""
LIVE_ONLY = ("latency", "snapshot", "clip")
LIVE_ONLY_TEXT = re.compile(rb',"latency":\{[^}]*\}|,"(?:snapshot|clip)":"[^"]*"')


def picture(index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((120, 160, 3), 255 if index in BRIGHT else 0, np.uint8)


class Watched:
    """A run that ended by itself, with everything it left behind."""

    def __init__(self, folder: Path, run: LiveRun, told: list[dict[str, Any]]) -> None:
        self.folder, self.told = folder, told
        self.counters = run.counters("publish")
        self.said = run.said()

    def lines(self, source: str, where: str = "out") -> list[Line]:
        text = (self.folder / where / f"{source}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def event(self, source: str, label: str, kind: str = "new") -> Line:
        found = [x for x in self.lines(source) if x.get("label") == label and x.get("kind") == kind]
        assert found, f"{source}: no {kind} of {label}; {self.said}"
        return found[0]


def settings(folder: Path, web: HttpReceiver) -> dict[str, Any]:
    return {
        "labels": {"smoothing_s": 0, "min_dwell_s": 0.2},
        "pictures": {"fps": 5, "width": 160},
        "notify": {
            "targets": {"desk": {"kind": "webhook", "url": web.url, "secret": "geheim", "retry_max_s": 0.1}},
            "rules": [{"sources": ["film"], "labels": ["bright"], "min_duration_s": 1}],
            "files": {"folder": str(folder / "events"), "clips": True, "before_s": 1, "after_s": 1.5},
        },
    }


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, meter: Path) -> Iterator[Watched]:
    """A film whose picture turns bright, at its own pace, with a receiver that fails half the time."""
    folder = tmp_path_factory.mktemp("watched")
    film = Clip(seconds=6.0, width=160, height=120, fps=FPS, gop=10, picture=picture, container="mpegts")
    film.write(folder / "film.ts")
    fails = random.Random(3)
    with ExitStack() as stack:
        web = stack.enter_context(HttpReceiver(lambda _: fails.choice([200, 500, None])).running())
        (folder / "run.yaml").write_text(yaml.safe_dump(settings(folder, web)))
        options = ("-c", str(folder / "run.yaml"), "-o", str(folder / "out"), "--record", str(folder / "rec"))
        run = stack.enter_context(LiveRun({"film": str(folder / "film.ts")}, *options, model=meter))
        assert run.wait() == 0, run.said()
        told = [json.loads(web.take().body) for _ in range(2)]
        assert web.requests.empty()
        yield Watched(folder, run, told)


def test_chosen_event_is_told_once_it_has_lasted_and_when_it_ends(watched: Watched) -> None:
    assert [(one["kind"], one["label"]) for one in watched.told] == [("new", "bright"), ("end", "bright")]
    for one in watched.told:
        jsonschema.validate(one, SCHEMA)
    assert watched.told[1]["end_s"] - watched.told[1]["start_s"] == pytest.approx(2.0, abs=0.11)
    assert "geheim" not in json.dumps(watched.told) + watched.said


def test_snapshot_shows_the_beginning(watched: Watched) -> None:
    path = Path(watched.event("film", "bright")["snapshot"])
    assert path.parent == watched.folder / "events" / "film"
    with Image.open(path) as image:
        assert (image.format, image.size) == ("JPEG", (160, 120))
        assert np.asarray(image.convert("L")).mean() > 200
    assert watched.told[0]["snapshot"] == watched.event("film", "bright", "end")["snapshot"] == str(path)


def test_clip_holds_the_seconds_around_the_beginning(watched: Watched) -> None:
    path = Path(watched.event("film", "bright")["clip"])
    with av.open(str(path)) as container:
        light = [frame.to_ndarray(format="gray").mean() > 128 for frame in container.decode(video=0)]
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
    # From the key frame at or before 2.0 s to 4.5 s: dark for a second or more, then bright for 1.5 s.
    dark = light.index(True)
    assert 10 <= dark <= 20
    assert all(light[dark:])
    assert len(light) - dark == pytest.approx(15, abs=1)


def replay(capsys: pytest.CaptureFixture[str], watched: Watched, *options: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a replay in this process."""
    code = main(["replay", str(watched.folder / "rec"), *map(str, options)])
    return code, *capsys.readouterr()


def without(lines: list[Line], *keys: str) -> list[str]:
    return [json.dumps({key: value for key, value in line.items() if key not in keys}) for line in lines]


def test_replay_gives_the_labels_and_events_of_the_run(
    watched: Watched, meter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = replay(capsys, watched, "--model", meter, "-o", watched.folder / "again")
    live = watched.lines("film")
    ticks = sum("tick" in line for line in live)
    assert done == (0, "", f"streamfuse: film: {ticks} ticks, 1 session\n")
    assert len(live) > 50
    run, again = ((watched.folder / where / "film.jsonl").read_bytes() for where in ("out", "again"))
    assert again == LIVE_ONLY_TEXT.sub(b"", run)


def test_replay_is_the_same_every_time_at_any_speed(
    watched: Watched, meter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for speed in ("max", "1"):
        done = replay(capsys, watched, "--model", meter, "--speed", speed, "-o", watched.folder / speed)
        assert done[0] == 0
    once, paced = ((watched.folder / where / "film.jsonl").read_bytes() for where in ("max", "1"))
    assert once == paced


def test_replay_on_stdout_gives_labels_or_events(
    watched: Watched, meter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = watched.lines("film")
    _, out, _ = replay(capsys, watched, "--model", meter, "--source", "film", "--session", 0)
    labels = [json.loads(line) for line in out.splitlines()]
    assert without(labels, *LIVE_ONLY) == without([x for x in live if "tick" in x], *LIVE_ONLY)
    _, out, _ = replay(capsys, watched, "--model", meter, "--events")
    events = [json.loads(line) for line in out.splitlines()]
    assert without(events, *LIVE_ONLY) == without([x for x in live if "kind" in x], *LIVE_ONLY)
    code, out, err = replay(capsys, watched, "--model", meter, "--session", 7)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "a replay needs records, got none of session 7" in err


def test_replay_of_a_recording_without_records_says_so(
    watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(watched.folder / "rec" / "recording.json", tmp_path)
    assert main(["replay", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"streamfuse: a replay needs records, got none [{tmp_path}]; --list says what there is\n"
    )


def test_replay_with_other_settings_says_so_and_gives_others(
    watched: Watched, meter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = replay(capsys, watched, "--model", meter)
    other = replay(capsys, watched, "--model", meter, "--set", "labels.smoothing_s=2")
    assert same[2].startswith("streamfuse: film: ")
    assert "not as recorded, so labels may differ: labels.smoothing_s 2.0 instead of 0.0" in other[2]
    assert (same[0], other[0]) == (0, 0)
    assert same[1] != other[1]


def test_replay_without_the_recorded_model_is_refused(
    watched: Watched, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = replay(capsys, watched)
    assert (code, out) == (3, "")
    assert "a replay needs the recorded model, meter.ts, got another default model" in err
    code, _, err = replay(capsys, watched, "--model", tiny_model)
    assert code == 0
    assert "labels may differ: model.sha256" in err


def test_replay_tells_what_there_is(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = replay(capsys, watched, "--list")
    ticks = sum("tick" in line for line in watched.lines("film"))
    assert code == 0
    assert re.fullmatch(rf"film: session 0, 20\S+Z, [56]\.\d s, {ticks + 2} records\n", out)
    code, _, err = replay(capsys, watched, "--source", "door")
    assert code == 2
    assert "--source names a source of the recording, got door" in err


def test_replay_of_a_damaged_recording_goes_as_far_as_it_is_whole(
    watched: Watched, meter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(watched.folder / "rec", tmp_path / "rec")
    segment = tmp_path / "rec" / "film" / "000001.ticks"
    os.truncate(segment, segment.stat().st_size // 2)
    code = main(["replay", str(tmp_path / "rec"), "--model", str(meter)])
    out, err = capsys.readouterr()
    assert code == 1
    assert "a segment is whole records" in err
    whole = [json.dumps(x) for x in watched.lines("film") if "tick" in x]
    assert 10 < len(out.splitlines()) < len(whole) - 10


def test_recording_says_nothing_of_addresses(watched: Watched) -> None:
    text = (watched.folder / "rec" / "recording.json").read_text()
    assert "film.ts" not in text
    assert "geheim" not in text
    assert str(watched.folder) not in text


def test_camera_is_cut_and_told_over_mqtt(start_camera: StartCamera, meter: Path, tmp_path: Path) -> None:
    """A real camera and a real broker; the clip is what the camera sent, its password nowhere.

    The stream begins between two key frames a second apart, so the clip begins with the first of them.
    """
    broker = Broker(tmp_path)
    camera = start_camera("--fps", "10", "--size", "320x240", "--user", "viewer", "--password", "geheim")
    url = camera.url.replace("rtsp://", "rtsp://viewer:geheim@")
    listener = Listener(broker.port)
    config = {
        "labels": {"smoothing_s": 0, "min_dwell_s": 0.2},
        "notify": {
            "targets": {
                "house": {"kind": "mqtt", "url": f"mqtt://127.0.0.1:{broker.port}", "labels_every_s": 0}
            },
            "files": {"folder": str(tmp_path / "events"), "clips": True, "before_s": 1, "after_s": 3},
        },
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    with LiveRun({"door": url}, "-c", str(tmp_path / "run.yaml"), model=meter) as run:
        assert listener.take("streamfuse/door/status") == b"offline"
        assert json.loads(listener.take("streamfuse/door/label"))["source"] == "door"
        event = json.loads(listener.take("streamfuse/door/event/scene"))
        path = Path(event["clip"])
        run.until(path.exists, "the clip")
        assert run.stop() == 0, run.said()
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert frames[0].shape == (240, 320)
    assert 15 <= len(frames) <= 42
    assert sum(frame.std() > 5 for frame in frames) == len(frames)  # the moving ball, not a grey ruin
    assert listener.take("streamfuse/status") == b"offline"
    names = "".join(str(one) for one in (tmp_path / "events").rglob("*"))
    assert "geheim" not in names + json.dumps(event)
    listener.close()
    broker.stop()
