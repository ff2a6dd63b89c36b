"""`streamfuse profile` over real processes and sockets."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from streamfuse.cli.measure import Measured, Plan, measure
from streamfuse.config import AppConfig, ModelConfig
from streamfuse.errors import StreamfuseError
from streamfuse.profiling.chrome import trace_text
from streamfuse.profiling.page import render_page
from streamfuse.profiling.sweep import Cell, choose
from streamfuse.trace import latency_parts, track_parts
from streamfuse.types import NS
from tests.cli.conftest import Run
from tests.cli.conftest import run as run
from tests.clips import Clip

PATTERN = "lavfi:testsrc2=size=160x120:rate=30;sine=frequency=440:sample_rate=48000"


def config(model: Path) -> AppConfig:
    return AppConfig(model=ModelConfig(path=str(model), device="cpu"))


@pytest.fixture(scope="module")
def lived(meter: Path) -> Measured:
    return measure(Plan(PATTERN, 3 * NS, NS, streams=2), config(meter))


def test_parts_of_a_live_run_sum_exactly_to_the_age_of_every_answer(lived: Measured) -> None:
    answers = [a for rows in lived.recording.answers.values() for a in rows]
    assert len(answers) > 50
    for answer in answers:
        trace, told = answer.head.trace, answer.latency
        parts = latency_parts(trace, answer.publish_ns)
        assert sum(parts.values()) == told["edge_age"] == answer.publish_ns - answer.arrival_ns
        assert parts == {name: value for name, value in told.items() if "." in name}
        assert min(parts.values()) >= 0
        for track in ("video", "audio"):
            age = told.get(f"{track}_age", 0)
            assert sum(track_parts(trace, track, answer.publish_ns).values()) == age  # type: ignore[arg-type]
        assert {"decode", "sync", "analyze", "publish"} <= {stamp.stage for stamp in trace.stamps}


def test_live_run_is_measured_after_its_warm_up(lived: Measured) -> None:
    report, recording = lived.report, lived.recording
    assert {process.title for process in recording.processes.values()} == {
        "publish", "analyze 0", "analyze 0 (spare)", "decode lavfi-1", "decode lavfi-2"
    }  # fmt: skip
    assert (report.streams_wanted, report.offered_per_s) == (2, 20.0)
    assert 0 < report.answers < sum(len(rows) for rows in recording.answers.values())
    assert report.warm_up_s > 1
    assert report.cpu_s_per_media_s is not None and report.cpu_s_per_media_s > 0
    assert "lavfi-2" in render_page(report, recording)


def test_saturated_recording_is_read_again_until_the_time_is_over(meter: Path, tmp_path: Path) -> None:
    clip = Clip(seconds=2.0, width=160, height=120).write(tmp_path / "clip.mp4")
    measured = measure(Plan(str(clip), 3 * NS, NS // 2, "saturated"), config(meter))
    report = measured.report
    assert report.duration_s == pytest.approx(3, abs=0.01)
    assert report.deadline_misses is None and report.realtime_factor > 1
    assert len(report.samples.answers_per_s) == 3 and min(report.samples.answers_per_s) > 0
    assert report.cpu_s_per_media_s is not None and report.rss_bytes is not None
    assert {one.kind for one in report.happened} >= {"loop"}
    ticks = [(a.head.session, a.head.index) for a in measured.recording.answers["clip"]]
    per_pass = max(index for _, index in ticks) + 1
    assert per_pass in (20, 21)  # AAC pads to whole frames
    assert ticks == [divmod(place, per_pass) for place in range(len(ticks))], (
        "every tick of every pass, in order"
    )
    starts = [a.head.start_ns for a in measured.recording.answers["clip"]]
    assert starts == sorted(starts)
    trace = json.loads(trace_text(measured.recording))["traceEvents"]
    decoders = {p.pid for p in measured.recording.processes.values() if p.service == "decode"}
    assert {e["pid"] for e in trace if e["ph"] == "s"} == decoders


def test_command_writes_three_files_and_a_summary(run: Run, meter: Path, tmp_path: Path) -> None:
    # Fewer than forty answers are too few to compare, and a busy machine drops some.
    options = ("--duration", "10s", "--warm-up", "500ms", "--model", meter, "--device", "cpu")
    ran = run("profile", PATTERN, *options, "-o", tmp_path)
    assert ran.code == 0, ran.err
    assert "edge age" in ran.out and "left out" in ran.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["schema"] == "streamfuse.profile/1" and report["rate"] == "paced"
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    ran = run(
        "profile", "compare", tmp_path / "report.json", tmp_path / "report.json", "--fail-if", "p50>1.1x"
    )
    assert ran.code == 0, ran.err


def test_sweep_measures_every_combination_and_chooses(run: Run, meter: Path, tmp_path: Path) -> None:
    options = ("--duration", "6s", "--warm-up", "1s", "--model", meter, "--device", "cpu", "-o", tmp_path)
    ran = run("profile", "sweep", PATTERN, "--vary", "hop=100,200", "--target", "60s", *options)
    assert ran.code == 0, ran.err + ran.out
    told = json.loads((tmp_path / "sweep.json").read_text())
    assert [cell["settings"] for cell in told["cells"]] == [{"hop": "100"}, {"hop": "200"}]
    assert [cell["hop_ms"] for cell in told["cells"]] == [100, 200]
    assert all(cell["error"] is None and cell["p99_is_max"] for cell in told["cells"])
    chosen = choose([msgspec.convert(cell, Cell) for cell in told["cells"]], 60_000)
    assert told["chosen"] == chosen, "none, where the machine has so much to do that ticks are dropped"
    assert ("no combination" if chosen is None else "choose hop=") in ran.out
    assert ran.out.count("(max)") == 2
    assert "<svg" in (tmp_path / "sweep.html").read_text()


@pytest.mark.parametrize("there", [False, True])
def test_folder_goes_again_where_nothing_was_measured(
    run: Run, meter: Path, tmp_path: Path, there: bool
) -> None:
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
    ran = run("profile", tmp_path / "nope.mp4", "--model", meter, "--device", "cpu", "-o", folder)
    assert ran.code != 0 and "nope.mp4" in ran.err
    assert folder.exists() == there


def test_source_that_is_refused_is_told_in_one_line(meter: Path, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"this is no film")
    with pytest.raises(StreamfuseError, match=r"no\.mp4"):
        measure(Plan(str(tmp_path / "no.mp4"), NS, NS), config(meter))
