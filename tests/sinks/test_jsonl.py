from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamfuse.labels.lines import event_line, label_from_line, label_line
from streamfuse.sinks import jsonl
from streamfuse.sinks.jsonl import EventLines, LabelLines, RotatingLines, StreamLines
from tests.sinks.made import make_event, make_label

PIPED = """
from streamfuse.sinks.jsonl import StreamLines
from tests.sinks.made import make_label
sink, written = StreamLines(), 0
while sink.wanted and written < 100_000:
    sink.write_label(make_label(written))
    written += 1
sink.write_label(make_label(written))
raise SystemExit(0 if written < 100_000 else 9)
"""


def day(number: int) -> str:
    return f"2026-01-{number:02d}T23:59:59.950Z"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_recording_lines_are_labels_and_events_apart(tmp_path: Path) -> None:
    labels, events = LabelLines(tmp_path / "a.labels.jsonl"), EventLines(tmp_path / "a.events.jsonl")
    for sink in (labels, events):
        sink.write_label(make_label(7))
        sink.write_event(make_event())
        assert sink.sync() > 0
        sink.close(complete=True)
    assert (tmp_path / "a.labels.jsonl").read_text() == label_line(make_label(7)) + "\n"
    assert (tmp_path / "a.events.jsonl").read_text() == event_line(make_event()) + "\n"


def test_stream_each_line_is_flushed_at_once() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader) as lines_out:
        sink = StreamLines(stream, events=True)
        sink.write_label(make_label(1))
        assert label_from_line(lines_out.readline()).head.index == 1
        sink.write_event(make_event())
        assert json.loads(lines_out.readline())["schema"] == "streamfuse.event/1"
        sink.close(complete=True)
        assert not stream.closed


def test_stream_reader_that_leaves_is_no_error() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PIPED], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert label_from_line(run.stdout.readline()).head.index == 0
        run.stdout.close()
        assert run.stderr.read() == ""
        assert run.wait(timeout=60) == 0


def test_rotating_by_size_loses_and_splits_nothing(tmp_path: Path) -> None:
    path = tmp_path / "door.jsonl"
    size = len(label_line(make_label(10, time=day(1)))) + 1
    sink = RotatingLines(path, max_bytes=3 * size)
    for tick in range(10, 20):
        sink.write_label(make_label(tick, time=day(1)))
    sink.close(complete=True)
    names = sorted(item.name for item in tmp_path.iterdir())
    assert names == ["door.0001.jsonl", "door.0002.jsonl", "door.0003.jsonl", "door.jsonl"]
    assert [line["tick"] for name in names for line in lines(tmp_path / name)] == list(range(10, 20))


def test_rotating_by_day_goes_by_the_lines_own_time(tmp_path: Path) -> None:
    path = tmp_path / "door.jsonl"
    for days in ((1, 1, 2), (2, 3)):  # a restart in between, in the middle of day 2
        sink = RotatingLines(path, daily=True)
        for number in days:
            sink.write_label(make_label(number, time=day(number)))
        sink.write_event(make_event(time=day(days[-1])))
        sink.close(complete=True)
    assert [line["time"] for line in lines(tmp_path / "door.0001.jsonl")] == [day(1), day(1)]
    assert [line["time"] for line in lines(tmp_path / "door.0002.jsonl")] == [day(2), day(2), day(2)]
    assert [line["time"] for line in lines(path)] == [day(3), day(3)]


def test_rotating_keeps_the_newest(tmp_path: Path) -> None:
    (tmp_path / "door.backup.jsonl").write_text("not ours\n")
    sink = RotatingLines(tmp_path / "door.jsonl", max_bytes=1, keep=2)
    for tick in range(6):
        sink.write_label(make_label(tick))
    sink.close(complete=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        *("door.0004.jsonl", "door.0005.jsonl", "door.backup.jsonl", "door.jsonl")
    ]


def test_rotating_appends_after_a_restart_and_cuts_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "door.jsonl"
    path.write_text(label_line(make_label(1)) + "\n" + '{"schema":"streamfuse.la')
    sink = RotatingLines(path)
    sink.write_label(make_label(2))
    sink.close(complete=False)
    assert [line["tick"] for line in lines(path)] == [1, 2]


def test_rotating_full_disk_is_counted_and_overcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "door.jsonl"
    sink = RotatingLines(path)
    sink.write_label(make_label(0))

    def half(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "write_all", half)
        sink.write_label(make_label(1))
        sink.write_label(make_label(2))
    assert (sink.lost, sink.trouble) == (2, "errno 28 (No space left on device)")
    sink.write_label(make_label(3))
    assert sink.trouble is None
    sink.close(complete=True)
    sink.close(complete=True)
    assert [line["tick"] for line in lines(path)] == [0, 3]
