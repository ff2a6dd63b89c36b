"""A process that has loaded already takes the place of one that dies; without it, all goes on as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from streamfuse.clock import Clock
from streamfuse.services.process import reserve_command
from streamfuse.supervise.reserve import PAUSE_NS, Reserve
from tests.supervise.bench import WORK, Bench, running

MARK = "one-that-waits"
BECOMES = """
import json, os, sys
line = sys.stdin.readline()
if line:
    order = json.loads(line)
    os.execve(order["argv"][0], order["argv"], {**os.environ, **order["env"]})
"""


class Hands(Clock):
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1

    def monotonic_ns(self) -> int:
        return self.now_ns


def reserve(bench: Bench, script: str = BECOMES, clock: Clock | None = None) -> Reserve:
    env = {**os.environ, "REPORTS": str(bench.folder / "reports")}
    argv = (sys.executable, "-c", script, MARK)
    return Reserve(argv, env, bench.folder) if clock is None else Reserve(argv, env, bench.folder, clock)


def waiting() -> list[psutil.Process]:
    """The reserves that wait for their role."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.Error):  # one that has just ended
            found += [process] if MARK in process.cmdline() else []
    return found


def who_follows(bench: Bench, *, reserved: bool = True, reserve_dies: bool = False) -> bool:
    """Kill the process of a role beside a reserve; whether its follower is the one that stood by."""
    supervisor = bench.supervise(bench.role("decode", WORK, reserved=reserved), reserve=reserve(bench))
    seen: list[int] = []
    stood_by: set[int] = set()

    def turn() -> None:
        pid, others = running(supervisor), waiting()
        if not seen and pid is not None and others:
            seen.append(pid)
            stood_by.update(other.pid for other in others)
            for other in others if reserve_dies else []:
                other.kill()
                other.wait()
            os.kill(pid, signal.SIGKILL)
        elif seen and pid is not None and pid not in seen:
            seen.append(pid)
        bench.stop = len(seen) == 2

    supervisor.run(bench.should_stop, turn)
    assert bench.kinds() == ["started", "lost", "restarted", "done"]
    assert waiting() == []
    return seen[1] in stood_by


def test_reserve_takes_the_place_of_a_reserved_role_that_dies(bench: Bench) -> None:
    assert who_follows(bench)


def test_reserve_takes_no_other_place(bench: Bench) -> None:
    assert not who_follows(bench, reserved=False)


def test_reserve_that_has_died_is_replaced_by_a_process_of_its_own(bench: Bench) -> None:
    assert not who_follows(bench, reserve_dies=True)


def test_one_that_cannot_load_is_tried_ever_less_often(bench: Bench) -> None:
    clock, begun = Hands(), bench.folder / "begun"
    kept = reserve(bench, f"open({str(begun)!r}, 'a').write('x'); raise SystemExit(1)", clock)
    kept.keep()
    for pause_ns in (PAUSE_NS, 2 * PAUSE_NS, 4 * PAUSE_NS):
        assert kept._process is not None
        kept._process.wait()
        begins = len(begun.read_text())
        for passed_ns, more in ((0, 0), (pause_ns - 1, 0), (1, 1)):
            clock.now_ns += passed_ns
            kept.keep()
            if more:
                assert kept._process is not None
                kept._process.wait()
            assert len(begun.read_text()) == begins + more
    kept.close()


def test_one_that_cannot_be_started_is_tried_again_after_the_pause(bench: Bench) -> None:
    clock, program = Hands(), bench.folder / "program"
    kept = Reserve((str(program), "-c", BECOMES, MARK), os.environ, bench.folder, clock)
    kept.keep()
    program.symlink_to(sys.executable)
    kept.keep()
    assert kept.give(["true"], bench.folder / "log", {}) is None
    clock.now_ns += PAUSE_NS
    kept.keep()
    assert len(waiting()) == 1
    kept.close()


def test_one_that_has_ended_is_buried_also_while_none_may_be_started(bench: Bench) -> None:
    kept = reserve(bench)
    kept.keep()
    (process,) = waiting()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    kept.keep(start=False)
    assert not psutil.pid_exists(process.pid)
    assert waiting() == []


def test_none_is_given_before_one_is_kept_and_none_is_left_after_close(bench: Bench, tmp_path: Path) -> None:
    kept = reserve(bench)
    assert kept.give(["true"], tmp_path / "log", {}) is None
    kept.keep()
    assert len(waiting()) == 1
    kept.keep()
    assert len(waiting()) == 1
    kept.close()
    assert waiting() == []


def test_process_of_the_product_ends_without_a_line(bench: Bench) -> None:
    """As where its supervisor has ended."""
    command = reserve_command(bench.folder)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
