"""The supervisor over real processes: small scripts that report to a datagram socket as services do."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from streamfuse.supervise.child import Role, describe_exit
from streamfuse.supervise.supervisor import Notice, Supervisor
from streamfuse.supervise.watch import WatchLimits
from streamfuse.types import MS, NS
from streamfuse.wire.headers import Progress

PRELUDE = """
import json, os, signal, socket, sys, time
reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
reports.connect(os.environ["REPORTS"])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
def report(counter, state="running", error=""):
    reports.send(json.dumps([os.getpid(), counter, state, error]).encode())
def work():
    counter = 0
    while not stopped:
        report(counter)
        counter += 1
        time.sleep(0.05)
"""
WORK = "work()"
QUICK = WatchLimits(start_ns=20 * NS, silence_ns=500 * MS)


class Bench:
    """A supervisor over scripts, what it said, and what to do at each of its turns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "reports"))
        self.notices: list[Notice] = []
        self.stop = False
        self.turns = 0

    def role(self, service: str, script: str, limits: WatchLimits = QUICK, spare: bool = False) -> Role:
        env = {**os.environ, "REPORTS": str(self.folder / "reports")}
        return Role(service, "main", (sys.executable, "-c", PRELUDE + script), env, limits, spare)

    def read(self, timeout_ns: int) -> Iterable[Progress]:
        self.socket.settimeout(timeout_ns / NS)
        try:
            pid, counter, state, error = json.loads(self.socket.recv(4096))
        except (TimeoutError, BlockingIOError):
            return
        yield Progress(
            source="main",
            seq=0,
            service="decode",
            pid=pid,
            counter=counter,
            allowance_ms=0,
            state=state,
            counters={},
            gauges={},
            error=error,
        )

    def supervise(self, *roles: Role) -> Supervisor:
        return Supervisor(roles, self.folder, self.read, self.notices.append)

    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]

    def should_stop(self) -> bool:
        self.turns += 1
        assert self.turns < 2000, f"the supervisor does not come to an end: {self.notices}"
        return self.stop


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def running(supervisor: Supervisor, index: int = 0) -> int | None:
    """The pid of a process that has reported, or None."""
    slot = supervisor.slots[index]
    return slot.child.pid if slot.child is not None and slot.report is not None else None


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


def test_supervisor_ends_the_run_when_the_model_is_refused(bench: Bench) -> None:
    script = 'print("streamfuse: the model file must be whole", file=sys.stderr); sys.exit(3)'
    supervisor = bench.supervise(bench.role("decode", WORK), bench.role("analyze", script))
    supervisor.run(bench.should_stop)
    assert supervisor.failure is not None
    assert supervisor.failure.exit_code == 3
    assert "the model file must be whole" in str(supervisor.failure)


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
time.sleep(1.2)
work()
"""
    supervisor = bench.supervise(bench.role("analyze", script))

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
