"""F20, F21, F22, live: a disk that is full, gone, read-only or slow costs lines, never the run, and is told.

What recordings do is in test_resume*.py and tests/sinks/test_durable.py.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamfuse.sinks.jsonl import RotatingLines
from tests.faults.disk import broken_disk, child_environment
from tests.faults.small_disk import small_disk
from tests.integration.live import LiveRun, check_order
from tests.sinks.made import make_label as label

PATTERN = "lavfi:testsrc2=size=64x48:rate=10"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ticks(path: Path) -> list[object]:
    return [line["tick"] for line in lines(path)]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[RotatingLines]:
    one = RotatingLines(tmp_path / "out" / "door.jsonl")
    yield one
    one.close(complete=True)


@pytest.mark.parametrize(
    "operation", ["write:ENOSPC", "write:EIO", "write:EROFS", "write:EDQUOT", "write:EFBIG"]
)
def test_f20_lines_are_lost_counted_and_whole(operation: str, sink: RotatingLines) -> None:
    with broken_disk(f"{operation}:3-5", path="door.jsonl"):
        troubles = []
        for tick in range(8):
            sink.write_label(label(tick))
            troubles.append(sink.trouble)
    assert sink.lost == 3
    name = getattr(errno, operation.partition(":")[2])
    assert [trouble is not None for trouble in troubles] == [False] * 2 + [True] * 3 + [False] * 3
    assert troubles[2] == f"errno {name} ({os.strerror(name)})"
    assert ticks(sink.path) == [0, 1, 5, 6, 7]


def test_f20_half_a_line_is_taken_back(sink: RotatingLines) -> None:
    """The kernel takes half of a line, then refuses the rest."""
    with broken_disk("write:SHORT:2", "write:ENOSPC:3", path="door.jsonl"):
        for tick in range(4):
            sink.write_label(label(tick))
    assert sink.lost == 1
    assert ticks(sink.path) == [0, 2, 3]


def test_f20_every_write_in_turn_may_fail(tmp_path: Path) -> None:
    """SQLite's way: the fault at the first call, the second, and so on over all of them."""
    for number in range(1, 13):
        sink = RotatingLines(tmp_path / f"{number}" / "door.jsonl", max_bytes=700)
        with broken_disk(f"write:ENOSPC:{number}", f"rename:EACCES:{number}", f"open:EMFILE:{number}",
                         path="door.jsonl") as disk:  # fmt: skip
            for tick in range(10):
                sink.write_label(label(tick))
        sink.close(complete=True)
        written = [tick for path in sorted(sink.path.parent.iterdir()) for tick in ticks(path)]
        assert len(written) == 10 - sink.lost
        assert sorted(written, key=int) == sorted(set(written), key=int)  # type: ignore[call-overload]
        assert disk.calls["write"] >= 10 - sink.lost


@pytest.mark.parametrize("what", ["file deleted", "folder deleted", "file moved", "folder moved"])
def test_f21_what_is_moved_or_deleted_is_begun_again(what: str, sink: RotatingLines, tmp_path: Path) -> None:
    folder = sink.path.parent
    for tick in range(3):
        sink.write_label(label(tick))
    if what == "file deleted":
        sink.path.unlink()
    elif what == "folder deleted":
        shutil.rmtree(folder)
    elif what == "file moved":
        sink.path.rename(folder / "door.jsonl.1")  # as logrotate does
    else:
        folder.rename(tmp_path / "older")
    for tick in range(3, 6):
        sink.write_label(label(tick))
    assert ticks(sink.path) == [3, 4, 5]
    assert sink.lost == 0
    if what == "file moved":
        assert ticks(folder / "door.jsonl.1") == [0, 1, 2]


def test_f21_folder_that_cannot_be_made_again_is_told(sink: RotatingLines) -> None:
    sink.write_label(label(0))
    shutil.rmtree(sink.path.parent)
    sink.path.parent.write_text("a file in its place")
    sink.write_label(label(1))
    assert sink.lost == 1
    assert sink.trouble is not None
    assert "File exists" in sink.trouble or "Not a directory" in sink.trouble
    sink.path.parent.unlink()
    sink.write_label(label(2))
    assert sink.trouble is None
    assert ticks(sink.path) == [2]


def test_f20_a_live_run_on_a_full_disk_goes_on_counts_and_tells(tiny_model: Path) -> None:
    """A real file system of 1 MB that another file fills; then there is room again."""
    with small_disk(1 << 20) as disk, LiveRun({"door": PATTERN}, "-o", str(disk), model=tiny_model) as run:
        out = disk / "door.jsonl"
        run.until(lambda: out.exists() and len(out.read_text().splitlines()) > 3, "lines in the file")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as more, pytest.raises(OSError, match="No space left"):
            while True:
                more.write(bytes(4096))
        run.until(lambda: run.complaints(), "the loss is told")
        filler.unlink()
        mark = run.labels("door")[-1]["tick"]

        def last() -> int:
            return max(int(line["tick"]) for line in lines(out) if "tick" in line)  # type: ignore[call-overload]

        run.until(lambda: last() > mark, "lines are written again")
        assert run.stop() == 0, run.said()
        counters = run.counters("publish")
        written = [line for line in lines(out) if "tick" in line]
        assert counters["lines_lost"] > 0
        assert len(lines(out)) + counters["lines_lost"] == counters["labels"] + counters["events"]
        assert [line["tick"] for line in written] == sorted({int(line["tick"]) for line in written})  # type: ignore[call-overload]
        assert run.complaints() == [
            "streamfuse: publish: labels cannot be written to their files, and are lost; its log says why"
        ]
        log = (run.run_dir / "logs" / "publish-publish.log").read_text()
        assert "labels cannot be written, and are lost: errno 28 (No space left on device)" in log
        assert "labels are written again" in log
        check_order(run.labels("door"))


@pytest.mark.parametrize("fault", ["EIO", "SLOW"])
def test_f22_a_disk_that_cannot_sync_or_is_slow_holds_no_camera_up(
    fault: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Rotation syncs. A slow sync takes longer than a process may be silent."""
    env = child_environment(f"fsync:{fault}:1-1000", path="door")
    options = ("-o", str(tmp_path), "--set", "live.max_bytes=10000")
    with LiveRun({"door": PATTERN}, *options, model=tiny_model, env=env) as run:
        run.until(lambda: run.labels("door"), "a label")
        publish = run.child("publish").pid
        run.until(lambda: len(list(tmp_path.glob("door*.jsonl"))) > 2, "two rotations")
        assert run.child("publish").pid == publish
        assert run.stop() == 0, run.said()
        counters = run.counters("publish")
        written = [line for path in sorted(tmp_path.iterdir()) for line in lines(path)]
        assert counters["lines_lost"] == 0
        assert len(written) == counters["labels"] + counters["events"]
        assert run.complaints() == []
        log = (run.run_dir / "logs" / "publish-publish.log").read_text()
        assert ("may not outlive a power cut" in log) == (fault == "EIO")
        check_order(run.labels("door"))
