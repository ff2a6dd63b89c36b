"""The same command typed again: it goes on, it does nothing, or it says why it may not go on."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from streamfuse.checkpoint.identity import differences, identity
from streamfuse.checkpoint.record import CheckpointFile
from streamfuse.config import OWN, AppConfig
from streamfuse.errors import OutputError
from streamfuse.media.source import parse_source
from tests.checkpoint.made import Runs
from tests.cli.conftest import Ran, run  # noqa: F401  the command line as a fixture

Clips = Callable[..., Path]
Golden = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def clip(clips: Clips, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    (tmp_path / "in").mkdir()
    return Path(shutil.copy2(clips("ac3.mkv", 1.0), tmp_path / "in"))


@pytest.fixture
def begun(runs: Runs, clip: Path) -> Runs:
    assert runs.run_killed_after(clip, 7) is None
    return runs


def test_a_finished_recording_is_left_alone_and_said_to_be_done(
    run: Callable[..., Ran],  # noqa: F811
    clip: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    command = ("process", clip, "-o", out, "--model", tiny_model, "--device", "cpu", "--inline")
    assert run(*command).code == 0
    first = json.loads((out / "summary.json").read_text())["files"][0]
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name != "summary.json"}
    again = run(*command)
    assert (again.code, again.complaints) == (0, [])
    assert f"{clip}: done before, nothing to do; --no-resume begins anew" in again.err
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name != "summary.json"}
    assert after == before
    entry = json.loads((out / "summary.json").read_text())["files"][0]
    assert (entry["status"], entry["done_before"]) == ("done", True)
    for key in ("outputs", "ticks", "label_shares", "duration_s", "analysed_s", "counters", "truncated"):
        assert entry[key] == first[key]
    anew = run(*command, "--no-resume")
    assert f"{clip}: 11 ticks" in anew.err
    assert (out / "ac3-mkv.labels.jsonl").stat().st_mtime_ns > before["ac3-mkv.labels.jsonl"]


def test_a_finished_recording_asked_for_otherwise_begins_anew(runs: Runs, clip: Path) -> None:
    runs.run(clip)
    first = runs.results(clip)
    runs.labels["smoothing_s"] = 5.0
    report = runs.run(clip)
    assert not report.was_done
    assert runs.results(clip) != first


def test_a_finished_recording_whose_output_is_gone_begins_anew(runs: Runs, clip: Path) -> None:
    runs.run(clip)
    first = runs.results(clip)
    (runs.folder / f"{clip.stem}.vtt").unlink()
    assert not runs.run(clip).was_done
    assert runs.results(clip) == first


def test_another_configuration_may_not_go_on(begun: Runs, clip: Path, golden: Golden) -> None:
    begun.labels["smoothing_s"] = 5.0
    with pytest.raises(OutputError) as told:
        begun.run(clip)
    assert str(told.value) == (
        "what was begun must be gone on with as it was begun, got labels.smoothing_s 5.0 instead of 0.3 "
        f"[{begun.folder / clip.stem}]; type it as before, or --no-resume begins anew"
    )
    begun.labels["smoothing_s"] = 0.3
    begun.run(clip)
    whole, got = golden(clip), begun.results(clip)
    del whole["html"], got["html"]  # it says the way to the recording, which differs
    assert got == whole


def test_more_differences_than_a_line_holds_are_counted(begun: Runs, clip: Path) -> None:
    begun.labels |= {"smoothing_s": 5.0, "enter": 0.5, "leave": 0.2, "min_dwell_s": 1.0, "raw": True}
    with pytest.raises(OutputError, match=r"got labels.enter 0.5 instead of 0.34, .* and 2 more \["):
        begun.run(clip)


def test_a_changed_recording_may_not_go_on(begun: Runs, clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    data[-100] ^= 1
    clip.write_bytes(bytes(data))
    rule = r"must be gone on with as it was begun, got input.changed_ns \d+ instead of \d+, input.sha256 "
    with pytest.raises(OutputError, match=rule + r"[0-9a-f]{8}\.\.\. instead of [0-9a-f]{8}\.\.\."):
        begun.run(clip)
    clip.write_bytes(bytes(data) + b"more")
    with pytest.raises(OutputError, match=rf"input.bytes {len(data) + 4} instead of {len(data)}"):
        begun.run(clip)


def test_a_recording_that_was_only_touched_may_not_go_on(begun: Runs, clip: Path) -> None:
    os.utime(clip, ns=(0, 0))
    with pytest.raises(OutputError, match=r"got input.changed_ns 0 instead of"):
        begun.run(clip)


def test_another_model_may_not_go_on(begun: Runs, clip: Path) -> None:
    begun.model.sha256, kept = "0" * 64, begun.model.sha256
    try:
        with pytest.raises(OutputError, match=rf"got model.sha256 00000000... instead of {kept[:8]}"):
            begun.run(clip)
    finally:
        begun.model.sha256 = kept


def test_no_resume_forgets_what_was_begun(begun: Runs, clip: Path) -> None:
    begun.labels["smoothing_s"] = 5.0
    begun.resume = False
    assert begun.run(clip).resumed_ns is None
    assert CheckpointFile(begun.folder / clip.stem).read().phase == "done"


def test_one_that_may_not_go_on_fails_and_the_others_are_done(
    begun: Runs,
    clip: Path,
    run: Callable[..., Ran],  # noqa: F811
    clips: Clips,
    tiny_model: Path,
) -> None:
    other = clips("aac.mp4", 1.0)
    options = ("--model", tiny_model, "--device", "cpu", "--inline")
    ran = run("process", clip, other, "-o", begun.folder, *options)
    assert ran.code == 1
    (complaint,) = ran.complaints
    assert complaint.startswith(
        "streamfuse: what was begun must be gone on with as it was begun, got labels."
    )
    entries = json.loads((begun.folder / "summary.json").read_text())["files"]
    assert [entry["status"] for entry in entries] == ["failed", "done"]


def test_a_pipe_is_read_once_and_begins_anew(begun: Runs, clip: Path, golden: Golden) -> None:
    media = clip.read_bytes()
    clip.unlink()
    os.mkfifo(clip)
    writer = threading.Thread(target=clip.write_bytes, args=(media,), daemon=True)
    writer.start()
    report = begun.run(clip)
    writer.join()
    assert (report.status, report.resumed_ns) == ("done", None)
    wanted = [
        line.split(b',"start_s"')[0] for line in golden(clip_of(media, clip))["labels.jsonl"].splitlines()
    ]
    got = begun.results(clip)["labels.jsonl"].splitlines()
    assert [line.split(b',"start_s"')[0] for line in got] == wanted


def clip_of(media: bytes, clip: Path) -> Path:
    clip.unlink()
    clip.write_bytes(media)
    return clip


def test_identity_takes_in_whatever_the_labels_depend_on(clip: Path) -> None:
    def of(device: str = "cpu", **sections: object) -> dict[str, str]:
        config = AppConfig.model_validate(sections).of("clip")
        return identity(parse_source(str(clip)), "clip", config, model_sha256="ab", device=device)

    plain = of()
    for section, settings in {
        "labels": {"heads": {"scene": {"enter": 0.9}}},
        "decode": {"audio": False},
        "ticks": {"hold_max_ms": 500},
        "outputs": {"csv": True},
        "model": {"threads": 2},
    }.items():
        assert len(differences(plain, of(**{section: settings}))) >= 1, section
        own = {"clip": {"input": "x", section: settings}}
        if section in OWN:
            assert of(sources=own) == of(**{section: settings}), section
            assert of(sources={"another": own["clip"]}) == plain
    # How long to wait and how to share out the work change no label.
    for section, settings in {
        "decode": {"threads": 1, "read_timeout_s": 5.0},
        "ticks": {"max_wait_ms": 100},
        "outputs": {"checkpoint_s": 10},
        "live": {"keep": 3},
    }.items():
        assert of(**{section: settings}) == plain, section
    # Batches there are on CUDA alone.
    for setting in ({"recorded_batch": 4}, {"cuda_graphs": False}):
        assert of(model=setting) == plain
        (told,) = differences(of("cuda:0"), of("cuda:0", model=setting))
        assert next(iter(setting)) in told
    assert {"version of torch", "version of av", "machine", "model.device"} <= plain.keys()
