"""What was recorded comes back as it was; what a crash or a bad disk leaves is read as far as it is whole."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.clock import SYSTEM
from streamfuse.errors import OutputError, WireError
from streamfuse.types import MS, NS, SessionStart, Tick, TickHead
from streamfuse.wire.codec import Body, Message, encode
from streamfuse.wire.facts import SCHEMA, read_facts, write_facts
from streamfuse.wire.headers import End, Hello
from streamfuse.wire.recording import (
    MAGIC,
    WAITING,
    Entry,
    Recorder,
    read_index,
    read_segment,
    segments,
    sources_in,
)
from tests.notify.made import FakeClock

DEADLINE_S = 60
"""It only bounds a failing test."""
START = SessionStart(3, 0, 0, frozenset({"audio"}))


def tick(index: int, session: int = 3, samples: int = 100) -> Tick:
    head = TickHead("door", session, index, 0, 100 * MS, "missing", "ok")
    return Tick(head, None, np.full(samples, index / 1000, np.float32))


def recorder(folder: Path, source: str = "door", **bounds: Any) -> Recorder:
    return Recorder(folder, source, **({"max_bytes": 10**9, "max_s": None, "clock": FakeClock()} | bounds))


def take(made: Recorder, *bodies: Body) -> None:
    for seq, body in enumerate(bodies):
        made.take(body, encode(Message("door", seq, body)))


def until_written(made: Recorder, count: int) -> None:
    """Wait until so many were written or lost."""
    last_ns = SYSTEM.monotonic_ns() + DEADLINE_S * NS
    while made.counts.total() < count:
        assert SYSTEM.monotonic_ns() < last_ns, made.counts
        SYSTEM.sleep_ns(MS)


def record(folder: Path, *bodies: Body, **bounds: Any) -> Recorder:
    made = recorder(folder, **bounds)
    take(made, *bodies)
    made.close()
    return made


def read(folder: Path) -> list[Entry | WireError]:
    return [entry for segment in segments(folder / "door") for entry in read_segment(segment)]


def indices(entries: list[Entry | WireError]) -> list[int]:
    bodies = [entry.message.body for entry in entries if isinstance(entry, Entry)]
    return [body.head.index for body in bodies if isinstance(body, Tick)]


def test_messages_come_back_as_they_were_sent(tmp_path: Path) -> None:
    end = End(source="door", complete=True)
    made = record(tmp_path, START, tick(0), tick(1), end, clock=FakeClock(5 * NS, 7 * NS))
    entries = read(tmp_path)
    assert made.counts == {"recorded": 4, "record_lost": 0}
    first, second, _, last = (entry for entry in entries if isinstance(entry, Entry))
    assert first == Entry(5 * NS, 12 * NS, 0, Message("door", 0, START))
    assert isinstance(second.message.body, Tick)
    assert (second.message.body.samples == tick(0).samples).all()
    assert second.message.body.head == tick(0).head
    assert isinstance(last.message.body, End)
    files = sorted(path.name for path in (tmp_path / "door").iterdir())
    assert files == ["000001.index", "000001.ticks"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "door").iterdir())


def test_index_leads_to_every_record(tmp_path: Path) -> None:
    other = replace(START, session=4)
    record(tmp_path, START, tick(0), tick(1), other, tick(0, session=4))
    segment = segments(tmp_path / "door")[0]
    index = read_index(segment)
    assert [(entry.session, entry.begins_session) for entry in index] == [
        (3, True),
        (3, False),
        (3, False),
        (4, True),
        (4, False),
    ]
    rest = list(read_segment(segment, index[3].offset))
    assert [type(e.message.body) for e in rest if isinstance(e, Entry)] == [SessionStart, Tick]


def test_what_is_sent_again_is_kept_once(tmp_path: Path) -> None:
    record(tmp_path, START, tick(0), tick(1), tick(1), START, tick(0), tick(2), Hello(source="door", epoch=1))
    assert indices(read(tmp_path)) == [0, 1, 2]
    assert len(read(tmp_path)) == 4


def test_next_process_begins_a_segment(tmp_path: Path) -> None:
    record(tmp_path, START, tick(0))
    record(tmp_path, replace(START, session=4), tick(0, session=4))
    assert [path.name for path in segments(tmp_path / "door")] == ["000001.ticks", "000002.ticks"]
    assert len(read(tmp_path)) == 4


def test_oldest_segments_go_when_it_is_too_large(tmp_path: Path) -> None:
    bound = 1_000_000
    made = recorder(tmp_path, max_bytes=bound)
    for first in range(0, 300, 50):
        take(made, *(tick(i, samples=2500) for i in range(first, first + 50)))
        until_written(made, first + 50)
    made.close()
    kept = segments(tmp_path / "door")
    assert sum(path.stat().st_size for path in kept) <= bound
    assert kept[0].stem != "000001"
    found = indices(read(tmp_path))
    assert found == list(range(found[0], 300))
    assert len(found) > 70
    assert {path.stem for path in kept} == {path.stem for path in (tmp_path / "door").glob("*.index")}


def test_old_segments_go_by_age(tmp_path: Path) -> None:
    record(tmp_path, START, tick(0))
    for path in (tmp_path / "door").iterdir():
        os.utime(path, ns=(0, 0))
    record(tmp_path, tick(1), max_s=3600.0, clock=FakeClock(0, 3601 * NS))
    assert indices(read(tmp_path)) == [1]


@settings(max_examples=60)
@given(st.data())
def test_torn_tail_costs_only_what_is_torn(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    record(folder, START, *(tick(i) for i in range(5)))
    segment = segments(folder / "door")[0]
    offsets = [entry.offset for entry in read_index(segment)]
    cut = data.draw(st.integers(len(MAGIC), segment.stat().st_size - 1))
    os.truncate(segment, cut)
    entries = read(folder)
    whole = sum(offset < cut for offset in offsets) - (cut not in offsets)
    assert sum(isinstance(entry, Entry) for entry in entries) == whole
    torn = [entry for entry in entries if isinstance(entry, WireError)]
    assert len(torn) == (cut not in offsets)
    if torn:
        assert str(torn[0]).startswith(
            f"a segment is whole records, got {cut - offsets[whole]} bytes that are not"
        )


@settings(max_examples=60)
@given(st.data())
def test_flipped_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    record(folder, START, *(tick(i) for i in range(3)))
    segment = segments(folder / "door")[0]
    content = bytearray(segment.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    segment.write_bytes(content)
    entries = read(folder)
    assert isinstance(entries[-1], WireError)
    assert indices(entries) == list(range(max(0, len(entries) - 2)))


def test_index_that_is_gone_costs_nothing_but_the_way(tmp_path: Path) -> None:
    record(tmp_path, START, tick(0))
    segments(tmp_path / "door")[0].with_suffix(".index").unlink()
    assert indices(read(tmp_path)) == [0]
    assert read_index(segments(tmp_path / "door")[0]) == []


def test_disk_that_is_too_slow_costs_records_and_the_next_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on, pwrite = threading.Event(), threading.Event(), os.pwrite

    def slow(*arguments: Any) -> int:
        begun.set()
        assert goes_on.wait(DEADLINE_S)
        return pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", slow)
    made = recorder(tmp_path)
    # The first is being written before others come: a thread that took it later might find some lost by then,
    # and two records would tell of them.
    take(made, tick(0))
    assert begun.wait(DEADLINE_S)
    take(made, *(tick(i) for i in range(1, 100)))
    lost = made.counts["record_lost"]
    assert lost == 99 - WAITING
    goes_on.set()
    until_written(made, 100)
    take(made, tick(100))
    made.close()
    entries = [entry for entry in read(tmp_path) if isinstance(entry, Entry)]
    assert [entry.lost for entry in entries if entry.lost] == [lost]
    assert indices(list(entries))[-1] == 100


def test_full_disk_leaves_whole_records_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls, pwrite = [0], os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        calls[0] += 1
        if 8 <= calls[0] <= 12:
            if calls[0] % 2 == 0:
                pwrite(fd, bytes(data)[:5], at)
            raise OSError(28, "No space left on device")
        return pwrite(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    made = record(tmp_path, START, *(tick(i) for i in range(12)))
    entries = read(tmp_path)
    assert not [entry for entry in entries if isinstance(entry, WireError)]
    assert made.counts["record_lost"] >= 3
    assert len(entries) >= 13 - made.counts["record_lost"]
    assert sum(entry.lost for entry in entries if isinstance(entry, Entry)) == made.counts["record_lost"]
    assert caplog.text.count("No space left on device") == 1


def test_other_file_is_no_segment(tmp_path: Path) -> None:
    (tmp_path / "door").mkdir()
    (tmp_path / "door" / "000001.ticks").write_bytes(b"something else entirely")
    (entry,) = read(tmp_path)
    assert isinstance(entry, WireError)
    assert "a segment begins with its magic, got other bytes" in str(entry)


@pytest.mark.parametrize("name", ["..", ".", "a b", "Tür", "a%2Fb", "x" * 60, "-", "~"])
def test_source_of_any_name_has_a_folder_in_the_recording(tmp_path: Path, name: str) -> None:
    recording = tmp_path / "in" / "recording"
    recording.mkdir(parents=True)
    made = recorder(recording, name)
    made.take(START, encode(Message("door", 0, START)))
    made.close()
    assert list(sources_in(recording)) == [name]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["recording"]


FACTS = {"schema": SCHEMA, "config": {"labels": {}}, "identity": {"model.sha256": "00"}}


def test_facts_of_another_run_refuse_the_folder(tmp_path: Path) -> None:
    write_facts(tmp_path, FACTS)
    write_facts(tmp_path, FACTS)
    assert read_facts(tmp_path) == FACTS
    with pytest.raises(OutputError, match="one model and configuration, got another identity"):
        write_facts(tmp_path, FACTS | {"identity": {"model.sha256": "01"}})
    assert read_facts(tmp_path) == FACTS


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "other/1"}'])
def test_facts_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "recording.json").write_text(text)
    with pytest.raises(WireError, match=r"recording\.json is"):
        read_facts(tmp_path)
    with pytest.raises(OutputError, match="a recording goes into a folder of its own"):
        write_facts(tmp_path, FACTS)


def test_folder_without_a_recording_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WireError, match=r"make one with `streamfuse run .* --record DIR`"):
        read_facts(tmp_path)
