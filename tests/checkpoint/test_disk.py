"""Whatever the disk does: nothing is lost, nothing is silent, and the next run ends with the same bytes."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from streamfuse.checkpoint.record import CheckpointFile
from streamfuse.cli import patience
from streamfuse.cli.stop import Stop, Stopped
from streamfuse.errors import OutputError
from streamfuse.types import Event, Label
from tests.checkpoint.made import Runs
from tests.faults.disk import broken_disk

Clips = Callable[..., Path]
Golden = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def clip(clips: Clips) -> Path:
    return clips("ac3.mkv", 1.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TRY_NS", 1_000_000)


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("write", "EIO"),
        ("write", "EROFS"),
        ("fsync", "EIO"),
        ("rename", "EIO"),
        ("truncate", "EIO"),
        ("open", "EROFS"),
    ],
)
def test_an_error_of_any_operation_is_told_and_the_next_run_ends_with_the_same_bytes(
    runs: Runs, clip: Path, golden: Golden, operation: str, error: str
) -> None:
    runs.checkpoint_s = 0.02
    with broken_disk(path=str(runs.folder)) as disk:
        runs.run(clip)
    calls = disk.calls[operation]
    assert calls > 2
    # Every call of the few, and of the many some: the first, the last, and between them.
    tried = sorted({*range(1, min(calls, 4) + 1), calls // 2, *range(max(1, calls - 2), calls + 1)})
    for number in tried:
        runs.resume = False
        with broken_disk(f"{operation}:{error}:{number}", path=str(runs.folder)):
            try:
                runs.run(clip)
            except OutputError as told:
                assert f"errno {getattr(errno, error)}" in str(told)
        runs.resume = True
        runs.run(clip)
        assert runs.results(clip) == golden(clip), f"{operation} {number} of {calls}"


def test_short_writes_are_finished(runs: Runs, clip: Path, golden: Golden) -> None:
    with broken_disk("write:SHORT:1-100000", path=str(runs.folder)):
        runs.run(clip)
    assert runs.results(clip) == golden(clip)


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_is_waited_out_and_told_once(
    runs: Runs, clip: Path, golden: Golden, capsys: pytest.CaptureFixture[str], error: str
) -> None:
    with broken_disk(f"write:{error}:4-9", path=".labels.jsonl.part"):
        runs.run(clip)
    said = capsys.readouterr().err
    words = os.strerror(getattr(errno, error))
    assert said.count(f"streamfuse: {clip}: {words} [{runs.folder}]; it waits for room") == 1
    assert said.count(f"{clip}: there is room again [{runs.folder}]; it goes on") == 1
    assert runs.results(clip) == golden(clip)


def test_a_full_disk_under_the_checkpoint_costs_that_checkpoint_only(
    runs: Runs, clip: Path, golden: Golden
) -> None:
    with broken_disk("write:ENOSPC:1-2", path=".checkpoint.part") as disk:
        runs.run(clip)
    assert disk.calls["write"] > 2
    assert runs.results(clip) == golden(clip)


@pytest.mark.parametrize("phase", ["closing", "done"])
def test_a_full_disk_at_the_very_end_is_waited_out(
    runs: Runs, clip: Path, golden: Golden, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last two checkpoints: all is written, and all has its name."""
    runs.checkpoint_s = 3600
    refused = {"closing": "1-3", "done": "2-4"}[phase]
    with broken_disk(f"write:ENOSPC:{refused}", path=".checkpoint.part"):
        runs.run(clip)
    said = capsys.readouterr().err
    assert said.count("; it waits for room") == 1
    assert said.count("there is room again") == 1
    assert runs.results(clip) == golden(clip)
    file = CheckpointFile(runs.folder / clip.stem).read()
    assert file is not None and file.phase == "done"


def test_a_full_disk_may_be_left_waiting_by_a_signal(runs: Runs, clip: Path, golden: Golden) -> None:
    stop = Stop()

    def stop_at_once(item: Label | Event) -> None:
        if isinstance(item, Label) and item.head.index == 6 and not stop.asked:
            stop.on_signal(15, None)

    with broken_disk("write:ENOSPC:7-100000", path=".labels.jsonl.part"), pytest.raises(Stopped):
        runs.run(clip, stop_at_once, stop)
    runs.run(clip)
    assert runs.results(clip) == golden(clip)


@pytest.mark.parametrize("checkpoint_s", [1e-6, 3600])
def test_a_folder_that_vanishes_is_told_and_what_was_moved_goes_on(
    runs: Runs, clip: Path, golden: Golden, checkpoint_s: float
) -> None:
    """By the next checkpoint, or where none is due, at the end."""
    runs.checkpoint_s = checkpoint_s
    moved = runs.folder.with_name("moved")

    def move(item: Label | Event) -> None:
        if isinstance(item, Label) and item.head.index == 5 and runs.folder.exists():
            runs.folder.rename(moved)

    with pytest.raises(OutputError, match=r"errno 2 \(No such file or directory\)"):
        runs.run(clip, move)
    moved.rename(runs.folder)
    runs.run(clip)
    assert runs.results(clip) == golden(clip)


def test_a_torn_tail_is_kept_aside(runs: Runs, clip: Path, golden: Golden) -> None:
    assert runs.run_killed_after(clip, 9) is None
    part = runs.folder / f"{clip.stem}.labels.jsonl.part"
    with part.open("ab") as file:
        file.write(b'{"schema":"streamfuse.lab')
    runs.run(clip)
    torn = (runs.folder / f"{clip.stem}.labels.jsonl.torn-1").read_bytes()
    assert torn.endswith(b'{"schema":"streamfuse.lab')
    assert runs.results(clip) == golden(clip)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data.replace(b'"tick":3', b'"tick":9'), "other bytes in line 4"),
        (lambda data: data[:1200] + b"\0\0\0" + data[1203:], r"other bytes in line \d"),
        (lambda data: data.replace(b'"tick"', b'"tock"'), r"other bytes in some of its \d+ lines"),
        (lambda data: b"no json\n" + data[8:].replace(b'"tick":5', b'"tick":7'), "other bytes in line 1"),
        (lambda data: data[:100], r"must hold the \d+ bytes of its checkpoint, got 100 bytes"),
    ],
)
def test_damage_in_the_middle_is_refused_by_its_line(
    runs: Runs,
    clip: Path,
    golden: Golden,
    damage: Callable[[bytes], bytes],
    told: str,
    every_checkpoint: None,
) -> None:
    """What is damaged lies within the last checkpoint."""
    assert runs.run_killed_after(clip, 12) is None
    part = runs.folder / f"{clip.stem}.labels.jsonl.part"
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(OutputError, match=f"{told}.*{re.escape(str(part))}.*--no-resume begins anew"):
        runs.run(clip)
    runs.resume = False
    runs.run(clip)
    assert runs.results(clip) == golden(clip)


def test_a_checkpoint_with_any_byte_changed_is_refused(runs: Runs, clip: Path) -> None:
    assert runs.run_killed_after(clip, 9) is None
    file = CheckpointFile(runs.folder / clip.stem)
    whole = file.path.read_bytes()
    for at in [*range(0, 80, 7), len(whole) // 2, len(whole) - 1]:
        file.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(OutputError, match=r"a checkpoint must be as it was written, got .*--no-resume"):
            runs.run(clip)
    for cut in (0, 10, 100, len(whole) - 1):
        file.path.write_bytes(whole[:cut])
        with pytest.raises(OutputError, match="a checkpoint must be as it was written"):
            runs.run(clip)


def test_a_run_that_died_between_the_renames_is_finished_without_decoding(
    runs: Runs, clip: Path, golden: Golden
) -> None:
    with broken_disk("rename:EIO:1-100000", path=".vtt") as disk, pytest.raises(OutputError):
        runs.run(clip)
    assert disk.calls["rename"] == 1
    assert (runs.folder / f"{clip.stem}.labels.jsonl").exists()
    assert CheckpointFile(runs.folder / clip.stem).read().phase == "closing"
    report = runs.run(clip, lambda _: pytest.fail("all was written before"))
    assert (report.status, report.was_done) == ("done", True)
    assert runs.results(clip) == golden(clip)
    assert json.loads(json.dumps(report.as_dict()))["ticks"] == 11
