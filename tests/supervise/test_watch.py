"""The watch decides from progress alone; time is an argument, so nothing here waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.errors import StageError
from streamfuse.supervise.watch import Verdict, Watch, WatchLimits
from streamfuse.types import MS, NS


def running(limits: WatchLimits | None = None, now_ns: int = 0) -> Watch:
    watch = Watch(limits or WatchLimits())
    watch.started(now_ns)
    watch.progressed(now_ns, 0)
    return watch


def test_watch_starts_a_new_process_at_once() -> None:
    assert Watch().verdict(0) is Verdict.START


def test_watch_keeps_a_process_that_makes_progress() -> None:
    watch = running()
    for step in range(1, 100):
        now_ns = step * 500 * MS
        assert watch.verdict(now_ns) is Verdict.KEEP
        watch.progressed(now_ns, step)


def test_watch_kills_a_process_that_reports_the_same_counter() -> None:
    watch = running()
    for step in range(1, 7):
        watch.progressed(step * 500 * MS, 0)
    assert watch.verdict(3 * NS - 1) is Verdict.KEEP
    assert watch.verdict(3 * NS) is Verdict.KILL


def test_watch_notices_a_silent_process_within_three_and_a_half_seconds() -> None:
    watch = running()
    watch.progressed(499 * MS, 1)
    looks = (now for now in range(0, 60 * NS, 100 * MS) if watch.verdict(now) is Verdict.KILL)
    assert next(looks) <= 499 * MS + 3500 * MS


def test_watch_allows_a_step_that_is_known_to_be_long() -> None:
    watch = running()
    watch.progressed(0, 1, allowance_ns=11 * NS)
    assert watch.verdict(10 * NS) is Verdict.KEEP
    assert watch.verdict(11 * NS) is Verdict.KILL


def test_watch_gives_a_start_its_own_deadline() -> None:
    watch = Watch(WatchLimits(start_ns=20 * NS))
    watch.started(0)
    assert watch.verdict(19 * NS) is Verdict.KEEP
    assert watch.verdict(20 * NS) is Verdict.KILL


def test_watch_restarts_at_once_within_the_budget() -> None:
    watch = running()
    watch.failed(NS, "killed by SIGKILL")
    assert watch.verdict(NS) is Verdict.START
    assert (watch.restarts, watch.reason) == (1, "killed by SIGKILL")


def test_watch_gives_up_on_a_crashing_program() -> None:
    watch = Watch()
    for crash in range(6):
        assert watch.verdict(crash * NS) is Verdict.START
        watch.started(crash * NS)
        watch.failed(crash * NS, "exit code 1")
    assert watch.verdict(5 * NS) is Verdict.GIVE_UP
    assert watch.restarts == 5


def test_watch_keeps_trying_at_the_cap_where_the_cause_is_outside() -> None:
    watch = Watch(WatchLimits(outside=True))
    for _ in range(6):
        watch.started(0)
        watch.failed(0, "killed by SIGSEGV")
    assert watch.verdict(30 * NS - 1) is Verdict.KEEP
    assert watch.verdict(30 * NS) is Verdict.START


def test_watch_forgets_failures_older_than_the_window() -> None:
    watch = Watch()
    for crash in range(50):
        watch.started(crash * 13 * NS)
        watch.failed(crash * 13 * NS, "exit code 1")
    assert watch.verdict(50 * 13 * NS) is Verdict.START


def test_watch_leaves_a_finished_process_alone() -> None:
    watch = running()
    watch.finished()
    assert watch.verdict(3600 * NS) is Verdict.KEEP


def test_watch_refuses_a_second_start() -> None:
    watch = running()
    with pytest.raises(StageError, match="started only while it is waited for, got running"):
        watch.started(NS)


@given(st.lists(st.integers(0, 20 * NS), min_size=1, max_size=60))
def test_watch_never_exceeds_its_restart_budget(pauses: list[int]) -> None:
    watch, now_ns, starts = Watch(WatchLimits(outside=True)), 0, []
    for pause in pauses:
        now_ns += pause
        if watch.verdict(now_ns) is Verdict.START:
            watch.started(now_ns)
            starts.append(now_ns)
            watch.failed(now_ns, "exit code 1")
    for first in starts:
        within = [s for s in starts if first <= s < first + 60 * NS]
        assert len(within) <= 6 + 2, "five restarts after a start in a minute, and those at the 30 s cap"
