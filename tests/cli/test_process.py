"""`streamfuse process` where all is well: what it writes, and that the ways to ask for it agree."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest

import streamfuse
from streamfuse.labels.lines import label_line
from tests.cli.conftest import Run, lines_of
from tests.clips import Clip, corrupted

EASY = ("--set", "labels.enter=0.34", "--set", "labels.leave=0.1", "--set", "labels.min_dwell_s=0.2")
"""Even an untrained network is sure enough for events."""


def test_files_and_summary_of_one_recording(process: Run, clip: Path, tmp_path: Path) -> None:
    ran = process(clip, *EASY)
    assert (ran.code, ran.out, ran.complaints) == (0, "", [])
    assert f"{clip}: 20 ticks, 0:02 at " in ran.err
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        ".clip.checkpoint",
        "clip.events.jsonl",
        "clip.labels.jsonl",
        "clip.vtt",
        "summary.json",
    ]
    labels = lines_of(out / "clip.labels.jsonl")
    assert [label["tick"] for label in labels] == list(range(20))
    assert [label["end_s"] for label in labels] == [(index + 1) / 10 for index in range(20)]
    assert all(label["modalities"] == {"video": "ok", "audio": "ok"} for label in labels)
    events = lines_of(out / "clip.events.jsonl")
    assert (
        [event["kind"] for event in events].count("new")
        == [event["kind"] for event in events].count("end")
        > 0
    )
    assert (out / "clip.vtt").read_text().startswith("WEBVTT\n")
    summary = json.loads((out / "summary.json").read_text())
    (entry,) = summary["files"]
    assert (summary["done"], summary["failed"], summary["device"]) == (1, 0, "cpu")
    assert (entry["status"], entry["ticks"], entry["dropped"], entry["truncated"]) == ("done", 20, 0, False)
    assert entry["duration_s"] == pytest.approx(2.0, abs=0.05)
    # wall_s is told to the millisecond, of a second or less; the factor to two places, on a slow machine of
    # less than one.
    factor = entry["analysed_s"] / entry["wall_s"]
    assert entry["realtime_factor"] == pytest.approx(factor, rel=0.02, abs=0.006)
    assert sum(entry["label_shares"]["scene"].values()) == pytest.approx(1, abs=1e-3)
    assert entry["outputs"] == ["clip.labels.jsonl", "clip.events.jsonl", "clip.vtt"]
    assert len(summary["model"]["sha256"]) == 64


def test_more_outputs_on_request(process: Run, clip: Path, tmp_path: Path) -> None:
    assert process(clip, "--csv", "--html", "--overlay", "--raw").code == 0
    out = tmp_path / "out"
    with (out / "clip.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    labels = lines_of(out / "clip.labels.jsonl")
    assert [row["scene"] for row in rows] == [label["scene"]["label"] for label in labels]
    assert set(labels[0]["scene"]["raw"]) == {"indoor", "street", "nature"}
    page = (out / "clip.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    with av.open(str(out / "clip.overlay.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(2.0, abs=0.1)
        assert {stream.type for stream in container.streams} == {"video", "audio"}


def test_python_gives_the_same_labels(process: Run, clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    process(clip)
    model = streamfuse.load_model(tiny_model, device="cpu")
    lines = [label_line(label) for label in streamfuse.analyze(clip, model=model)]
    assert lines == (tmp_path / "out" / "clip.labels.jsonl").read_text().splitlines()


def test_second_run_gives_the_same_bytes(process: Run, clip: Path, tmp_path: Path) -> None:
    names = ("clip.labels.jsonl", "clip.events.jsonl", "clip.vtt")
    process(clip)
    first = [(tmp_path / "out" / name).read_bytes() for name in names]
    process(clip, "--no-resume")
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == first


def test_part_of_a_recording_keeps_the_time_of_the_file(process: Run, clip: Path, tmp_path: Path) -> None:
    assert process(clip, "--from", "0:00.5", "--to", "1.2").code == 0
    labels = lines_of(tmp_path / "out" / "clip.labels.jsonl")
    assert labels[0]["start_s"] == pytest.approx(0.5, abs=0.1)
    assert labels[-1]["end_s"] == pytest.approx(1.2, abs=0.1)


def test_folder_keeps_its_shape(process: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "monday").mkdir(parents=True)
    Clip(seconds=0.5, audio=None).write(folder / "a.mkv")
    Clip(seconds=0.5, video=None).write(folder / "monday" / "b.m4a")
    ran = process(folder)
    assert ran.code == 0
    assert lines_of(tmp_path / "out" / "a.labels.jsonl")[0]["modalities"] == {
        "video": "ok",
        "audio": "missing",
    }
    (first, *_) = lines_of(tmp_path / "out" / "monday" / "b.labels.jsonl")
    assert first["modalities"] == {"video": "missing", "audio": "ok"}
    assert first["source"] == "b"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [entry["outputs"][0] for entry in summary["files"]] == ["a.labels.jsonl", "monday/b.labels.jsonl"]


def test_configuration_file_is_used_and_options_win(
    run: Run, clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(
        f"model: {{path: '{tiny_model}', device: cpu}}\noutputs: {{vtt: false, events: false}}\n"
    )
    ran = run(
        "process",
        clip,
        "-o",
        tmp_path / "out",
        "-c",
        tmp_path / "c.yaml",
        "--set",
        "outputs.csv=true",
        "--inline",
    )
    assert (ran.code, ran.complaints) == (0, [])
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".clip.checkpoint", "clip.csv", "clip.labels.jsonl", "summary.json"]


def test_recording_has_the_settings_of_the_source_of_its_name(
    process: Run, run: Run, clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """In this process and over processes, to the same bytes; others do not have them."""
    other = tmp_path / "other.mp4"
    shutil.copy(clip, other)
    file = tmp_path / "c.yaml"
    file.write_text(
        "labels: {smoothing_s: 5}\nsources: {clip: {input: x, labels: {smoothing_s: 0, raw: true}}}\n"
    )
    assert process(clip, other, "-c", file).code == 0
    common = ("-c", file, "--model", tiny_model, "--device", "cpu")
    assert run("process", clip, other, "-o", tmp_path / "over", *common).code == 0
    made = {name: (tmp_path / "out" / f"{name}.labels.jsonl").read_bytes() for name in ("clip", "other")}
    for name, lines in made.items():
        assert lines == (tmp_path / "over" / f"{name}.labels.jsonl").read_bytes(), name
    for line in map(json.loads, made["clip"].splitlines()):
        assert line["scene"]["score"] == max(line["scene"]["raw"].values())
    assert b'"raw":' not in made["other"]
    # What is finished is finished for these settings alone.
    again = process(clip, "-c", file)
    assert "done before" in again.err
    file.write_text(file.read_text().replace("raw: true", "raw: false"))
    for ran in (process(clip, "-c", file), run("process", clip, "-o", tmp_path / "over", *common)):
        assert ran.code == 0
        assert "done before" not in ran.err
    assert b'"raw":' not in (tmp_path / "out" / "clip.labels.jsonl").read_bytes()
    assert b'"raw":' not in (tmp_path / "over" / "clip.labels.jsonl").read_bytes()


def test_test_pattern_is_a_recording(process: Run, tmp_path: Path) -> None:
    assert process("lavfi:testsrc2=size=160x120:rate=10:duration=1;sine=duration=1").code == 0
    assert len(lines_of(tmp_path / "out" / "lavfi.labels.jsonl")) == 10


def test_codec_outside_the_list_needs_allow_codec(process: Run, tmp_path: Path) -> None:
    clip = Clip(seconds=0.5, video="ffv1", audio=None).write(tmp_path / "a.mkv")
    refused = process(clip)
    assert refused.code == 1
    assert "ffv1" in refused.complaints[0] and "--allow-codec ffv1" in refused.complaints[0]
    assert process(clip, "--allow-codec", "ffv1").code == 0


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["obama_speech.mp4", "movie.avi", "oa4_launch.webm", "cityCC0.mpg"])
def test_real_recordings(process: Run, shared: Path, tmp_path: Path, name: str) -> None:
    ran = process(shared / "media" / name, "--to", "3")
    assert (ran.code, ran.complaints) == (0, [])
    labels = lines_of(tmp_path / "out" / f"{Path(name).stem}.labels.jsonl")
    assert [label["tick"] for label in labels] == list(range(30))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_with_its_code(
    tiny_model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """A real process: stopped in the middle, no output looks whole, and the summary says so."""
    endless = "lavfi:testsrc2=size=320x240:rate=25:duration=3600"
    out = tmp_path / "out"
    command = [sys.executable, "-m", "streamfuse.cli.main", "process", endless, "-o", str(out)]
    with subprocess.Popen(
        [*command, "--model", str(tiny_model), "--device", "cpu"], stderr=subprocess.PIPE, text=True
    ) as process:
        part = out / "lavfi.labels.jsonl.part"
        # Labels are being written: the run is in its middle.
        _wait_for(lambda: part.exists() and part.stat().st_size > 0, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"streamfuse: stopped by {number.name}" in err
    assert "Traceback" not in err
    assert not (out / "lavfi.labels.jsonl").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["stopped_by"], summary["files"][0]["status"]) == (number.name, "stopped")


def _wait_for(condition, process: subprocess.Popen[str]) -> None:
    deadline = os.times().elapsed + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert os.times().elapsed < deadline
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def test_what_was_passed_over_is_told(process: Run, tmp_path: Path) -> None:
    ran = process(corrupted(Clip(seconds=3.0).write(tmp_path / "whole.mkv"), tmp_path / "holed.mkv"))
    (entry,) = json.loads((tmp_path / "out" / "summary.json").read_text())["files"]
    assert entry["counters"]["decode_errors"] > 0
    told = f"; passed over: {entry['counters']['decode_errors']} packets that do not decode"
    assert told in ran.err


def test_nothing_is_passed_over_in_a_sound_recording(process: Run, clip: Path) -> None:
    assert "passed over" not in process(clip).err


@pytest.mark.parametrize("options", [(), ("--no-resume",)])
def test_results_of_another_recording_of_that_name_are_left_alone(
    process: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    one = Clip(seconds=0.5).write(tmp_path / "a.mp4")
    (tmp_path / "y").mkdir()
    other = Clip(seconds=1.0).write(tmp_path / "y" / "a.mkv")
    out = tmp_path / "out"
    assert process(one).code == 0
    first = (out / "a.labels.jsonl").read_bytes()
    beside = f"a-{hashlib.sha256(os.fsencode(other)).hexdigest()[:8]}"
    for run_again in (False, True):
        ran = process(other, *options)
        assert ran.code == 0
        assert f"{other}: a.* are of another recording; its own are {beside}.*" in ran.err
        assert ("done before" in ran.err) == (run_again and not options)
        assert (out / "a.labels.jsonl").read_bytes() == first
        assert len(lines_of(out / f"{beside}.labels.jsonl")) == 11  # AAC ends with a whole frame
        (entry,) = json.loads((out / "summary.json").read_text())["files"]
        assert entry["outputs"][0] == f"{beside}.labels.jsonl"
    assert "done before" in process(one).err


def test_recording_that_was_moved_is_known_again(process: Run, tmp_path: Path) -> None:
    clip = Clip(seconds=0.5).write(tmp_path / "a.mp4")
    assert process(clip).code == 0
    (tmp_path / "y").mkdir()
    assert "done before" in process(clip.rename(tmp_path / "y" / "a.mp4")).err


def test_part_that_lies_beyond_the_end_leaves_nothing(process: Run, clip: Path, tmp_path: Path) -> None:
    ran = process(clip, "--from", 10)
    assert (ran.code, len(ran.complaints)) == (1, 1)
    assert "a span must begin within the recording" in ran.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["summary.json"]
