"""Events that have begun outlive the process that began them, and get their end from the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamfuse.config import LabelConfig
from streamfuse.labels.events import EventState, EventTracker
from streamfuse.model.spec import HeadSpec
from streamfuse.services.unfinished import AGAIN_NS, Unfinished, sources_left_open
from streamfuse.types import MS, NS, Event, HeadLabel, Label, TickHead

HEADS = (HeadSpec("scene", ("street", "beach"), "softmax"),)
CONFIG = LabelConfig(min_dwell_s=0.1, enter=0.6, leave=0.4)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def a_label(index: int, *, session: int = 0, score: float = 0.9, source: str = "front door") -> Label:
    head = TickHead(source, session, index, 0, 100 * MS, "ok", "ok")
    scores = {"street": score, "beach": 1 - score}
    winner = "street" if score > 0.5 else "beach"
    said = HeadLabel(winner, scores[winner], None, tuple(scores.items()), scores=scores)
    return Label(head, {"scene": said}, {"frame": "ok"}, True, time="2026-01-02T03:04:05.000Z")


def tracker() -> EventTracker:
    return EventTracker(HEADS, CONFIG)


def said(events: list[Event]) -> list[tuple[str, str, int, int | None]]:
    return [(e.kind, e.label, e.start_ns, e.end_ns) for e in events]


def test_next_process_ends_what_the_last_one_began(run_dir: Path) -> None:
    first, kept = tracker(), Unfinished(run_dir, "front door")
    for index in range(5):
        first.push(a_label(index))
        kept.keep(first.state, index * NS)
    assert list(sources_left_open(run_dir)) == ["front door"]
    # The process dies here.
    second, found = tracker(), Unfinished(run_dir, "front door").left()
    assert found is not None
    second.state = found
    events = second.push(a_label(0, session=1, score=0.1))
    assert said(events)[0] == ("end", "street", 0, 500 * MS)
    assert (events[0].session, events[0].source, events[0].peak) == (0, "front door", 0.9)


def test_nothing_stays_where_every_event_has_its_end(run_dir: Path) -> None:
    one, kept = tracker(), Unfinished(run_dir, "a/b")
    one.push(a_label(0))
    kept.keep(one.state, 0)
    assert len(list((run_dir / "open").iterdir())) == 1
    one.flush()
    kept.keep(one.state, 1)
    assert list((run_dir / "open").iterdir()) == []
    assert Unfinished(run_dir, "a/b").left() is None


def test_file_is_written_when_something_begins_and_once_a_second(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[str] = []
    write_bytes = Path.write_bytes

    def counted(path: Path, data: bytes) -> int:
        writes.append(path.name)
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", counted)
    one, kept = tracker(), Unfinished(run_dir, "cam")
    for index in range(21):  # 2 s
        one.push(a_label(index))
        kept.keep(one.state, index * 100 * MS)
    assert len(writes) == 3
    assert 20 * 100 * MS == 2 * AGAIN_NS


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80" * 7, b"\x81\xa5heads\x05"])
def test_file_that_is_damaged_is_told_and_put_away(
    run_dir: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Unfinished(run_dir, "cam")
    (run_dir / "open" / "cam.open").write_bytes(content)
    assert kept.left() is None
    assert "open events cannot be read" in caplog.text
    assert list(sources_left_open(run_dir)) == []


def test_disk_that_takes_nothing_is_told_once_and_ends_nothing(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, kept = tracker(), Unfinished(run_dir, "cam")
    (run_dir / "open").rename(run_dir / "gone")
    for index in range(30):
        one.push(a_label(index))
        kept.keep(one.state, index * NS)
    assert caplog.text.count("open events cannot be kept") == 1
    (run_dir / "gone").rename(run_dir / "open")
    kept.keep(one.state, 40 * NS)
    assert list(sources_left_open(run_dir)) == ["cam"]


def test_no_run_directory_has_nothing_open(tmp_path: Path) -> None:
    assert list(sources_left_open(tmp_path / "nowhere")) == []
    assert Unfinished(_private(tmp_path), "cam").left() is None
    assert EventState().heads == {}


def _private(path: Path) -> Path:
    path.chmod(0o700)
    return path
