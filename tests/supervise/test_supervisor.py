"""The supervisor over real processes: what it starts, restarts, kills, gives up and stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamfuse.supervise.child import Role, describe_exit
from streamfuse.supervise.supervisor import LOOK_NS
from streamfuse.supervise.watch import WatchLimits
from streamfuse.types import MS, NS
from streamfuse.wire.headers import Progress
from tests.supervise.bench import QUICK, WORK, Bench, running


def test_supervisor_ends_when_every_process_has_ended(bench: Bench) -> None:
    supervisor = bench.supervise(bench.role("decode", "report(0)"))
    supervisor.run(bench.should_stop)
    assert bench.kinds()[-1] == "done"
    assert supervisor.failure is None


def test_supervisor_restarts_a_killed_process(bench: Bench) -> None:
    supervisor = bench.supervise(bench.role("decode", WORK))
    seen: list[int] = []

    def turn() -> None:
        pid = running(supervisor)
        if pid is not None and pid not in seen:
            seen.append(pid)
            if len(seen) == 1:
                os.kill(pid, signal.SIGKILL)
        bench.stop = len(seen) == 2

    supervisor.run(bench.should_stop, turn)
    assert bench.kinds() == ["started", "lost", "restarted", "done"]
    assert "killed by SIGKILL" in bench.notices[1].text


def test_words_of_the_process_before_it_are_not_said_of_one_that_dies_without_any(bench: Bench) -> None:
    flag = bench.folder / "second"
    script = f"""
report(0)
if os.path.exists({str(flag)!r}): os.kill(os.getpid(), signal.SIGKILL)
open({str(flag)!r}, "w").close()
sys.exit("out of luck")
"""
    supervisor = bench.supervise(bench.role("decode", script, WatchLimits(restarts=1)))
    supervisor.run(bench.should_stop)
    lost = [notice.text for notice in bench.notices if notice.kind == "lost"]
    assert lost == ["exit code 1: out of luck", "killed by SIGKILL"]


@pytest.mark.parametrize("ailment", ["stopped", "hung"])
def test_supervisor_kills_and_restarts_what_makes_no_progress(bench: Bench, ailment: str) -> None:
    flag = bench.folder / "second"
    script = f"""
if os.path.exists({str(flag)!r}): sys.exit(work())
open({str(flag)!r}, "w").close()
report(0)
while True: pass
"""
    supervisor = bench.supervise(bench.role("decode", script))
    seen: list[int] = []

    def turn() -> None:
        pid = running(supervisor)
        if pid is not None and pid not in seen:
            seen.append(pid)
            if ailment == "stopped" and len(seen) == 1:
                os.kill(pid, signal.SIGSTOP)
        bench.stop = len(seen) == 2

    supervisor.run(bench.should_stop, turn)
    assert bench.kinds() == ["started", "lost", "restarted", "done"]
    assert bench.notices[1].text == "made no progress and was killed"
    assert not psutil.pid_exists(seen[0])


def test_supervisor_tells_once_of_a_source_that_is_refused(bench: Bench) -> None:
    script = """
report(0, "refused", "the camera must accept the password, got 401")
sys.exit(4)
"""
    supervisor = bench.supervise(bench.role("decode", script), bench.role("analyze", WORK))
    supervisor.run(bench.should_stop)
    refusals = [notice for notice in bench.notices if notice.kind == "refused"]
    assert [notice.text for notice in refusals] == ["the camera must accept the password, got 401"]
    assert supervisor.slots[0].exit_code == 4
    assert supervisor.failure is None


def test_supervisor_waits_for_the_last_word_of_a_process_whose_end_it_saw_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bench.read
    held: list[Progress] = []

    def read_late(timeout_ns: int) -> Iterator[Progress]:
        for report in read(timeout_ns):
            held.append(report)
        if timeout_ns > LOOK_NS and held:
            yield held.pop()

    monkeypatch.setattr(bench, "read", read_late)
    supervisor = bench.supervise(bench.role("decode", 'report(0, "refused", "no such camera"); sys.exit(4)'))
    supervisor.run(bench.should_stop)
    assert [(notice.kind, notice.text) for notice in bench.notices] == [("refused", "no such camera")]


def test_supervisor_ends_the_run_when_the_model_is_refused(bench: Bench) -> None:
    script = 'print("streamfuse: the model file must be whole", file=sys.stderr); sys.exit(3)'
    supervisor = bench.supervise(bench.role("decode", WORK), bench.role("analyze", script))
    supervisor.run(bench.should_stop)
    assert supervisor.failure is not None
    assert supervisor.failure.exit_code == 3
    assert "the model file must be whole" in str(supervisor.failure)


def test_supervisor_ends_the_run_at_once_where_the_device_is_not_there(bench: Bench) -> None:
    """It was never running, and no other start would help: the one line is the error's own."""
    script = """
report(0, "starting")
report(1, "failed", "device cuda:0 is not usable [kernels]; no usable CUDA driver")
sys.exit(6)
"""
    supervisor = bench.supervise(bench.role("decode", WORK), bench.role("analyze", script))
    supervisor.run(bench.should_stop)
    assert str(supervisor.failure) == "device cuda:0 is not usable [kernels]; no usable CUDA driver"
    assert supervisor.failure is not None and supervisor.failure.exit_code == 1
    kinds = [notice.kind for notice in bench.notices if notice.role.service == "analyze"]
    assert kinds == ["refused"]


def test_supervisor_gives_up_on_a_crash_loop(bench: Bench) -> None:
    supervisor = bench.supervise(bench.role("decode", WORK), bench.role("publish", "sys.exit(1)"))
    supervisor.run(bench.should_stop)
    assert supervisor.failure is not None
    assert "died more than 5 times within 60 s, last: exit code 1" in str(supervisor.failure)
    assert bench.kinds().count("lost") == 6


def test_supervisor_starts_a_spare_once_the_first_runs(bench: Bench) -> None:
    supervisor = bench.supervise(bench.role("analyze", WORK), bench.role("analyze", WORK, spare=True))
    order: list[str] = []

    def turn() -> None:
        for slot in supervisor.slots:
            if slot.child is not None and slot.role.title not in order:
                assert not slot.role.spare or running(supervisor, 0) is not None
                order.append(slot.role.title)
        bench.stop = running(supervisor, 1) is not None

    supervisor.run(bench.should_stop, turn)
    assert order == ["analyze main", "analyze main (spare)"]


def test_supervisor_kills_what_does_not_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamfuse.supervise.supervisor.STOP_NS", 300 * MS)
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
work()
"""
    supervisor = bench.supervise(bench.role("decode", script))

    def turn() -> None:
        bench.stop = running(supervisor) is not None

    supervisor.run(bench.should_stop, turn)
    assert bench.kinds()[-1] == "stopped late"


def test_supervisor_leaves_no_child_on_any_way_out(bench: Bench) -> None:
    supervisor = bench.supervise(bench.role("decode", WORK))
    pids: list[int] = []

    def turn() -> None:
        if (pid := running(supervisor)) is not None:
            pids.append(pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervisor.run(bench.should_stop, turn)
    assert not psutil.pid_exists(pids[0])


def test_child_that_cannot_be_started_is_told_in_one_line(bench: Bench) -> None:
    role = Role("decode", "main", ("/nonexistent/program",), {}, QUICK)
    with pytest.raises(Exception, match="a process can be started, got No such file or directory"):
        bench.supervise(role).run(bench.should_stop)


@pytest.mark.parametrize(
    ("code", "words"), [(1, "exit code 1"), (-9, "killed by SIGKILL"), (-11, "killed by SIGSEGV")]
)
def test_describe_exit(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_supervisor_gives_a_slow_start_its_time(bench: Bench) -> None:
    script = """
report(0, "starting")
time.sleep(2)
work()
"""
    limits = WatchLimits(start_ns=20 * NS, silence_ns=NS)
    supervisor = bench.supervise(bench.role("analyze", script, limits))

    def turn() -> None:
        bench.stop = running(supervisor) is not None and supervisor.slots[0].watch.state == "running"

    supervisor.run(bench.should_stop, turn)
    assert bench.kinds() == ["started", "done"]


@pytest.mark.parametrize("state", ["starting", "standby"])
def test_supervisor_ends_at_once_and_says_nothing_of_what_holds_nothing(bench: Bench, state: str) -> None:
    script = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
report(0, "{state}")
time.sleep(60)
"""
    supervisor = bench.supervise(bench.role("analyze", script))

    def turn() -> None:
        bench.stop = running(supervisor) is not None

    supervisor.run(bench.should_stop, turn)
    assert set(bench.kinds()) <= {"started"}


def test_supervisor_asks_a_process_to_stop_whose_word_of_having_begun_was_lost(
    bench: Bench, tmp_path: Path
) -> None:
    """Killed, a reader could not tell the analyzer that nothing more comes."""
    script = f"""
report(0, "starting")
while not stopped:
    time.sleep(0.01)
open({str(tmp_path / "drained")!r}, "w").close()
"""
    supervisor = bench.supervise(bench.role("decode", script))

    def turn() -> None:
        bench.stop = running(supervisor) is not None

    supervisor.run(bench.should_stop, turn)
    assert (tmp_path / "drained").exists()
