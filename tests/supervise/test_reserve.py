"""A process that has loaded already takes the place of one that dies; without it, all goes on as before."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from streamfuse.clock import Clock
from streamfuse.supervise.reserve import PAUSE_NS, Reserve
from tests.supervise.bench import WORK, Bench, running

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
    argv = (sys.executable, "-c", script)
    return Reserve(argv, env, bench.folder) if clock is None else Reserve(argv, env, bench.folder, clock)


def waiting() -> list[psutil.Process]:
    """The reserves that are children of this process."""
    return [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("reserved", [True, False])
def test_reserve_takes_the_place_of_a_reserved_role_that_dies(bench: Bench, reserved: bool) -> None:
    kept = reserve(bench)
    supervisor = bench.supervise(bench.role("decode", WORK, reserved=reserved), reserve=kept)
    seen: list[int] = []
    stood_by: set[int] = set()

    def turn() -> None:
        pid = running(supervisor)
        others = {p.pid for p in waiting()} - {pid}
        if not seen and pid is not None and others:
            seen.append(pid)
            stood_by.update(others)
            os.kill(pid, signal.SIGKILL)
        elif seen and pid is not None and pid not in seen:
            seen.append(pid)
        bench.stop = len(seen) == 2

    supervisor.run(bench.should_stop, turn)
    assert bench.kinds() == ["started", "lost", "restarted", "done"]
    assert (seen[1] in stood_by) is reserved
    assert waiting() == []


def test_reserve_that_has_died_is_replaced_by_a_process_of_its_own(bench: Bench) -> None:
    kept = reserve(bench)
    supervisor = bench.supervise(bench.role("decode", WORK, reserved=True), reserve=kept)
    seen: list[int] = []

    def turn() -> None:
        pid = running(supervisor)
        others = [p for p in waiting() if p.pid != pid]
        if not seen and pid is not None and others:
            seen.append(pid)
            for other in others:
                other.kill()
                other.wait()
            os.kill(pid, signal.SIGKILL)
        elif seen and pid is not None and pid not in seen:
            seen.append(pid)
        bench.stop = len(seen) == 2

    supervisor.run(bench.should_stop, turn)
    assert bench.kinds() == ["started", "lost", "restarted", "done"]
    assert waiting() == []


def test_one_that_cannot_load_is_not_tried_all_the_time(bench: Bench) -> None:
    clock, begun = Hands(), bench.folder / "begun"
    kept = reserve(bench, f"open({str(begun)!r}, 'a').write('x'); raise SystemExit(1)", clock)
    for passed_ns, begins in ((0, 1), (PAUSE_NS - 1, 1), (1, 2)):
        clock.now_ns += passed_ns
        kept.keep()
        assert kept._process is not None
        kept._process.wait()
        assert len(begun.read_text()) == begins
    kept.close()


def test_none_is_given_before_one_is_kept_and_none_is_left_after_close(bench: Bench, tmp_path: Path) -> None:
    kept = reserve(bench)
    assert kept.give(["true"], tmp_path / "log", {}) is None
    kept.keep()
    assert len(waiting()) == 1
    kept.keep()
    assert len(waiting()) == 1
    kept.close()
    assert waiting() == []


def test_process_ends_without_a_line(bench: Bench) -> None:
    """As where its supervisor has ended."""
    kept = reserve(bench)
    kept.keep()
    (process,) = waiting()
    assert kept._process is not None and kept._process.stdin is not None
    kept._process.stdin.close()
    process.wait(60)
    kept.close()
