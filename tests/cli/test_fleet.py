"""`streamfuse process` over real processes: the same bytes as in one process, whatever dies on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from streamfuse.cli import fleet
from streamfuse.cli.fleet import FOLDER, Fleet, _sweep, analyzer_of
from streamfuse.errors import StreamfuseError
from streamfuse.wire.endpoints import EndpointLock
from tests.cli.conftest import Run
from tests.clips import Clip
from tests.faults.disk import child_environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good recordings, two of one name, and two that cannot be read."""
    folder = tmp_path / "in"
    (folder / "monday").mkdir(parents=True)
    Clip(seconds=2.0).write(folder / "a.mp4")
    Clip(seconds=1.0, audio=None).write(folder / "monday" / "a.mkv")
    Clip(seconds=1.0, video=None).write(folder / "monday" / "b.m4a")
    (folder / "text.mp4").write_text("not a film")
    (folder / "zero.mp4").touch()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "summary.json" and path.suffix != ".checkpoint"
    }


@pytest.mark.parametrize("shared", [False, True])
def test_processes_write_the_bytes_of_one_process(
    run: Run, tiny_model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """shared: the recordings of both workers go through one analyze process, as on a GPU."""
    if shared:
        monkeypatch.setattr(fleet, "analyzer_of", lambda device, worker: analyzer_of("cuda:0", worker))
    common = ("--model", tiny_model, "--device", "cpu", "--html", "--csv")
    apart = run("process", folder, "-o", tmp_path / "apart", *common, "--workers", 2)
    inline = run("process", folder, "-o", tmp_path / "inline", *common, "--inline")
    assert apart.code == inline.code == 1
    assert sorted(apart.complaints) == sorted(inline.complaints)
    assert len(apart.complaints) == 2
    assert contents(tmp_path / "apart") == contents(tmp_path / "inline")
    assert not any(name.endswith(".part") for name in contents(tmp_path / "apart"))
    ours, theirs = (
        {
            entry["input"]: {
                k: v for k, v in entry.items() if k not in ("wall_s", "realtime_factor", "counters")
            }
            for entry in json.loads((tmp_path / name / "summary.json").read_text())["files"]
        }
        for name in ("apart", "inline")
    )
    assert ours == theirs


def test_a_gpu_has_one_analyze_process_and_the_cpu_one_for_each_worker() -> None:
    assert [analyzer_of("cuda:0", worker) for worker in "012"] == ["0", "0", "0"]
    assert [analyzer_of("cpu", worker) for worker in "012"] == ["0", "1", "2"]


@pytest.mark.parametrize("victim", ["decode", "analyze", "publish"])
def test_a_killed_process_costs_nothing_but_time(
    run: Run, tiny_model: Path, tmp_path: Path, victim: str
) -> None:
    # More ticks than have room between the processes, and a slow disk for the first of them: on the fastest
    # machine too, whatever is killed then has not done its part yet.
    clip = Clip(seconds=50.0, fps=10, width=64, height=48).write(tmp_path / "long.mp4")
    slow = os.environ | child_environment("write:SLOW:1-60", path=".labels.jsonl.part")
    common = ["--model", str(tiny_model), "--device", "cpu"]
    command = [sys.executable, "-m", "streamfuse.cli.main", "process", str(clip), *common]
    out = tmp_path / "apart"
    with subprocess.Popen([*command, "-o", str(out)], env=slow, stderr=subprocess.PIPE, text=True) as process:
        part = out / "long.labels.jsonl.part"
        supervisor = psutil.Process(process.pid)
        while not (part.exists() and part.stat().st_size > 0):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            _turn(process)
        for child in supervisor.children(recursive=True):
            if f"streamfuse.services.{victim}" in child.cmdline():
                child.kill()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "killed by SIGKILL" in err
    assert run("process", clip, "-o", tmp_path / "inline", *common, "--inline").code == 0
    ours, theirs = contents(out), contents(tmp_path / "inline")
    assert {name: data for name, data in ours.items() if ".torn-" not in name} == theirs


def test_recording_whose_results_cannot_be_kept_costs_the_others_nothing(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    clip = Clip(seconds=1.0).write(tmp_path / "b.mp4")
    sound = Clip(seconds=1.0, video=None).write(tmp_path / "a.m4a")
    blocked = Clip(seconds=1.0).write(tmp_path / "c.mp4")
    latin = tmp_path / os.fsdecode(b"lat\xe9in.mp4")
    latin.write_bytes(clip.read_bytes())
    out = tmp_path / "out"
    (out / "c.vtt").mkdir(parents=True)
    common = ("--model", tiny_model, "--device", "cpu", "--overlay")
    ran = run("process", sound, blocked, latin, clip, "-o", out, *common)
    assert ran.code == 1
    assert sorted(ran.complaints) == [
        f"streamfuse: a name must be UTF-8 [{tmp_path}/lat\\udce9in.mp4]; --inline takes any name",
        f"streamfuse: an output must be a file, got a folder of that name [{out}/c.vtt]",
        f"streamfuse: an overlay needs a video track, got sound alone [{sound}]; "
        "leave the overlay out for it",
    ]
    files = json.loads((out / "summary.json").read_text())["files"]
    assert [entry["status"] for entry in files] == ["failed", "failed", "failed", "done"]
    whole = {p.name for p in out.iterdir() if p.is_file() and p.suffix not in (".part", ".checkpoint")}
    assert whole == {
        "summary.json",
        *(f"b{suffix}" for suffix in (".labels.jsonl", ".events.jsonl", ".vtt", ".overlay.mp4")),
    }


def test_folders_of_killed_commands_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    for name in ("dead", "young", "alive"):
        folder = tmp_path / "t" / f"{FOLDER}{name}"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "run.lock").touch()
        if name != "young":
            os.utime(folder / "run.lock", (0, 0))
    with EndpointLock(f"ipc://{tmp_path}/t/{FOLDER}alive/run").held():
        _sweep()
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [f"{FOLDER}alive", f"{FOLDER}young"]


def test_run_that_cannot_go_on_still_sums_up_what_was_done(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip(seconds=1.0).write(tmp_path / "b.mp4")

    def die(_: Fleet) -> None:
        raise StreamfuseError("every process of a run has to stay up")

    monkeypatch.setattr(Fleet, "run", die)
    (tmp_path / "empty").mkdir()
    ran = run("process", clip, tmp_path / "empty", "-o", tmp_path / "out", "--model", tiny_model)
    assert ran.code == 1
    files = json.loads((tmp_path / "out" / "summary.json").read_text())["files"]
    assert [entry["error"].partition(" [")[0] for entry in files] == [
        "every process of a run has to stay up",
        "a folder must hold media files, got none",
    ]


def _turn(process: subprocess.Popen[str]) -> None:
    """Let the process go on for a moment; a run that ends is noticed at once."""
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return
