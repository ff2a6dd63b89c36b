"""What the services are made of, without processes: pauses, session numbers, pacing, reading again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from streamfuse.clock import SYSTEM
from streamfuse.errors import BackendError, OutputError, SourceLost, SourceRefused
from streamfuse.pipeline.live import Pacer
from streamfuse.services.backoff import CAP_KNOWN_NS, CAP_UNKNOWN_NS, GOOD_NS, Backoff
from streamfuse.services.loop import Reporter
from streamfuse.services.process import command, exit_code
from streamfuse.services.reader import Finished, Reader
from streamfuse.services.sessions import LiveSessions, SessionNumbers
from streamfuse.types import MS, NS, AudioChunk, MediaItem, SessionStart, Tick, TickHead, VideoFrame
from streamfuse.wire.transport import wait
from tests.hand_clock import HandClock

START = SessionStart(0, 0, 0, frozenset({"video", "audio"}))


def test_pauses_double_to_the_cap_of_a_source_that_never_worked() -> None:
    backoff = Backoff(random.Random(1))
    pauses = [backoff.next_ns(0) for _ in range(20)]
    assert 250 * MS <= pauses[0] <= 500 * MS
    assert all(CAP_UNKNOWN_NS // 2 <= p <= CAP_UNKNOWN_NS for p in pauses[8:])
    assert len(set(pauses[8:])) > 5, "jitter"


def test_pauses_of_a_source_that_worked_stay_below_three_seconds() -> None:
    backoff = Backoff(random.Random(1))
    backoff.next_ns(NS)
    assert max(backoff.next_ns(0) for _ in range(20)) <= CAP_KNOWN_NS


def test_a_good_minute_forgives_failures() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next_ns(0)
    assert backoff.next_ns(GOOD_NS) <= 500 * MS


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_session_numbers_outlive_their_process(run_dir: Path) -> None:
    first = SessionNumbers(run_dir, "front door")
    assert [first.take(), first.take()] == [0, 1]
    assert SessionNumbers(run_dir, "front door").take() == 2
    assert SessionNumbers(run_dir, "back door").take() == 0


def test_session_numbers_that_cannot_be_read_are_an_error_not_a_zero(run_dir: Path) -> None:
    SessionNumbers(run_dir, "a").take()
    (run_dir / "sessions" / "a.json").write_text("{")
    with pytest.raises(OutputError, match=r"session numbers must be readable .*a\.json"):
        SessionNumbers(run_dir, "a")


def a_tick(index: int) -> Tick:
    return Tick(TickHead("cam", 0, index, 0, 100 * MS, "missing", "ok"), None, np.zeros(10, np.float32))


def test_live_sessions_number_place_and_continue_time_over_reconnects(run_dir: Path) -> None:
    sessions = LiveSessions(SessionNumbers(run_dir, "cam"))
    assert sessions.begin(START, wall_ns=1000 * NS) == START
    assert [sessions.place(a_tick(i)).head.start_ns for i in range(3)] == [0, 100 * MS, 200 * MS]
    again = sessions.begin(replace(START, zero_ns=7, reason="lost"), wall_ns=1005 * NS)
    assert (again.session, again.offset_ns, again.zero_ns) == (1, 5 * NS, 7)
    assert sessions.place(a_tick(0)).head.start_ns == 5 * NS
    back = sessions.begin(START, wall_ns=1 * NS)  # the wall clock was set back
    assert back.offset_ns == 5 * NS + 100 * MS


def test_session_begun_by_us_goes_on_where_the_other_stopped(run_dir: Path) -> None:
    sessions = LiveSessions(SessionNumbers(run_dir, "cam"))
    sessions.begin(START, wall_ns=NS)
    for i in range(4):
        sessions.place(a_tick(i))
    start = sessions.begin_again(100 * MS, "the analyzer was restarted")
    assert start is not None
    assert (start.session, start.zero_ns, start.offset_ns) == (1, 400 * MS, 400 * MS)
    head = sessions.place(a_tick(4)).head
    assert (head.session, head.index, head.start_ns) == (1, 0, 400 * MS)
    second = sessions.begin_again(100 * MS, "again")
    assert second is not None
    assert (second.session, second.offset_ns) == (2, 500 * MS)
    assert sessions.place(a_tick(5)).head.start_ns == 500 * MS


def test_nothing_to_begin_again_before_the_media_have_begun(run_dir: Path) -> None:
    assert LiveSessions(SessionNumbers(run_dir, "cam")).begin_again(100 * MS, "x") is None


class Waits(threading.Event):
    """An Event that remembers how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        return False


def test_pacer_stamps_what_is_late_with_the_time_it_was_due() -> None:
    """Otherwise reading that falls behind would not show as age: coordinated omission."""
    clock, waits = HandClock(), Waits()
    pacer = Pacer(clock)
    pacer.pace(replace(START, zero_ns=5 * NS), waits)
    frame = VideoFrame(5 * NS + 40 * MS, 40 * MS, lambda: None)  # type: ignore[arg-type, return-value]
    early = pacer.pace(frame, waits)
    assert isinstance(early, VideoFrame)
    assert early.arrival_ns == 1000 * NS + 40 * MS
    assert waits.waited == [0.04]
    clock.now_ns += NS
    chunk = pacer.pace(AudioChunk(5 * NS, np.zeros(1600, np.float32)), waits)
    assert isinstance(chunk, AudioChunk)
    assert chunk.arrival_ns == 1000 * NS + 100 * MS, "sound is there when its last sample is"
    assert len(waits.waited) == 1


def test_pacer_of_a_network_source_begins_anew_after_a_stall() -> None:
    """Its backlog comes at the pace of before; a file's comes at once, for it is late by our doing."""
    for elastic, late in ((True, [0, 0, 2000, 2000, 2000]), (False, [0, 0, 0, 0, 0])):
        clock, waits = HandClock(), Waits()
        pacer = Pacer(clock, elastic=elastic)
        pacer.pace(START, waits)
        # Frames of 100 ms: two in time, then two seconds of nothing, then the rest at once.
        came_ms = [0, 100, 2200, 2200, 2200]
        for index, (at_ms, late_ms) in enumerate(zip(came_ms, late, strict=True)):
            arrival_ns = 1000 * NS + at_ms * MS
            clock.now_ns = max(clock.now_ns, arrival_ns)
            frame = VideoFrame(index * 100 * MS, 100 * MS, lambda: None, arrival_ns)  # type: ignore[arg-type, return-value]
            given = pacer.pace(frame, waits)
            assert isinstance(given, VideoFrame)
            assert given.arrival_ns == 1000 * NS + (index * 100 + late_ms) * MS


def test_pacer_does_not_let_small_delays_add_up() -> None:
    """A picture and the sound beside it are due together, and one is read after the other."""
    clock, waits = HandClock(), Waits()
    pacer = Pacer(clock, elastic=True)
    pacer.pace(START, waits)
    for index in range(1000):
        due_ns = 1000 * NS + index * 10 * MS
        frame = VideoFrame(index * 10 * MS, 10 * MS, lambda: None, due_ns + 5 * MS)  # type: ignore[arg-type, return-value]
        given = pacer.pace(frame, waits)
        assert isinstance(given, VideoFrame)
        assert given.arrival_ns == due_ns


class FakeDecoder:
    """Gives some items, then ends or fails."""

    pacing = "own"

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self._count, self._error = count, error
        self.counters = {"video_frames": count}
        self.truncated = False
        self.position_ns = count
        self.info = SimpleNamespace(duration_ns=count * 100 * MS)
        self.closed_by: int | None = None

    def __iter__(self) -> Iterator[MediaItem]:
        yield START
        for i in range(self._count):
            yield AudioChunk(i * 100 * MS, np.zeros(1600, np.float32))
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed_by = threading.get_ident()


def reader_of(open_source: Callable[[], object], *, live: bool, loop: bool = False) -> Reader:
    reader = Reader(
        open_source,  # type: ignore[arg-type]
        live=live,
        loop=loop,
        clock=SYSTEM,
        rng=random.Random(1),
    )
    reader.start()
    return reader


def drain(reader: Reader, *, items: int = 10_000) -> list[MediaItem | Finished]:
    taken: list[MediaItem | Finished] = []
    last_ns = SYSTEM.monotonic_ns() + 20 * NS
    while len(taken) < items and not (taken and isinstance(taken[-1], Finished)):
        assert SYSTEM.monotonic_ns() < last_ns, "the deadline has passed"
        item = reader.take()
        if item is None:
            wait([reader.wake.fileno()], 100 * MS)
        else:
            taken.append(item)
    return taken


def test_reader_gives_everything_of_a_recording_and_its_end() -> None:
    decoder = FakeDecoder(100)
    reader = reader_of(lambda: decoder, live=False)
    taken = drain(reader)
    assert len(taken) == 102
    assert taken[-1] == Finished(None)
    assert reader.counters["video_frames"] == 100
    assert reader.counters.get("reconnects", 0) == 0
    assert decoder.closed_by not in (None, threading.get_ident()), "closed where it was read"


def test_reader_opens_a_lost_source_again_and_adds_its_counters_up() -> None:
    decoders = iter([FakeDecoder(2, SourceLost("gone")), FakeDecoder(3, SourceLost("gone")), FakeDecoder(1)])
    reader = reader_of(lambda: next(decoders), live=True)
    taken = drain(reader)
    assert sum(isinstance(item, SessionStart) for item in taken) == 3
    assert reader.counters["reconnects"] == 2
    assert reader.counters["video_frames"] == 6


def test_reader_reports_a_recording_that_is_lost() -> None:
    reader = reader_of(lambda: FakeDecoder(2, SourceLost("gone")), live=False)
    last = drain(reader)[-1]
    assert isinstance(last, Finished)
    assert str(last.error) == "gone"


def test_source_that_refuses_from_the_start_is_given_up() -> None:
    def refuse() -> FakeDecoder:
        raise SourceRefused("wrong password")

    (last,) = drain(reader_of(refuse, live=True))
    assert isinstance(last, Finished)
    assert isinstance(last.error, SourceRefused)


def test_source_that_worked_and_then_refuses_is_starting_up() -> None:
    answers: Iterator[object] = iter(
        [FakeDecoder(1, SourceLost("gone")), SourceRefused("503"), SourceRefused("503"), FakeDecoder(1)]
    )

    def open_source() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    taken = drain(reader_of(open_source, live=True))
    assert sum(isinstance(item, SessionStart) for item in taken) == 2
    assert taken[-1] == Finished(None)


def test_reader_that_fails_in_an_unforeseen_way_says_so() -> None:
    def fail() -> FakeDecoder:
        raise KeyError("a bug")

    (last,) = drain(reader_of(fail, live=True))
    assert isinstance(last, Finished)
    assert str(last.error) == "reading must not fail, got KeyError"


def test_stopped_reader_ends_also_while_nobody_takes() -> None:
    reader = reader_of(lambda: FakeDecoder(10_000), live=False)
    drain(reader, items=20)
    reader.stop()
    assert isinstance(drain(reader)[-1], Finished)


def test_looped_file_begins_again() -> None:
    reader = reader_of(lambda: FakeDecoder(2), live=True, loop=True)
    taken = drain(reader, items=9)
    assert sum(isinstance(item, SessionStart) for item in taken) == 3
    assert reader.counters["reconnects"] == 0, "it was never away"
    reader.stop()


def test_nothing_but_names_is_in_a_command_line() -> None:
    argv = command("decode", Path("/run/x/run.json"), "cam")
    assert argv[1:] == ["-m", "streamfuse.services.decode", "--config", "/run/x/run.json", "--source", "cam"]
    assert command("analyze", Path("r.json"), "0", standby=True)[-1] == "--standby"


def test_exit_codes_tell_what_another_start_would_change() -> None:
    assert (exit_code(SourceLost("x")), exit_code(SourceRefused("x"))) == (1, 4)
    assert exit_code(BackendError("device cuda is not usable")) == 6


def test_time_goes_on_in_another_process_though_the_wall_clock_was_set_back(run_dir: Path) -> None:
    sessions = LiveSessions(SessionNumbers(run_dir, "cam"))
    sessions.begin(START, wall_ns=1000 * NS)
    for i in range(4):
        sessions.place(a_tick(i))
    after = LiveSessions(SessionNumbers(run_dir, "cam")).begin(START, wall_ns=NS)
    assert (after.session, after.offset_ns) == (1, 400 * MS)
    later = LiveSessions(SessionNumbers(run_dir, "cam")).begin(START, wall_ns=1060 * NS)
    assert (later.session, later.offset_ns) == (2, 60 * NS)


def test_source_that_is_away_says_why_until_it_is_back() -> None:
    """As the process reports it: only while it waits, and with nothing a header may not carry."""
    gate = threading.Event()
    answers: Iterator[object] = iter([SourceLost("the source failed", got="Connection\nrefused"), gate])

    def open_source() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        gate.wait(20)
        return FakeDecoder(1)

    reader = reader_of(open_source, live=True)
    last_ns = SYSTEM.monotonic_ns() + 20 * NS
    while not reader.trouble:
        assert SYSTEM.monotonic_ns() < last_ns, "the deadline has passed"
    told: list[tuple[str, str]] = []
    reporter = Reporter.__new__(Reporter)
    reporter._clock, reporter._due_ns, reporter._last_state, reporter._counter = SYSTEM, 0, None, 0
    reporter.report = lambda state, *_, error="", **__: told.append((state, error))  # type: ignore[method-assign]
    service = SimpleNamespace(trouble=reader.trouble, counters={}, gauges={})
    for state in ("waiting", "running"):
        reporter.follow(service, state)
    assert told == [("waiting", "the source failed, got Connection refused"), ("running", "")]
    gate.set()
    drain(reader)
    assert reader.trouble == ""
