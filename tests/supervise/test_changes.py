"""One process of a run paused, restarted, added or removed: the others go on."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest

from streamfuse.supervise.child import Role
from streamfuse.supervise.supervisor import Supervisor
from streamfuse.supervise.watch import WatchLimits
from streamfuse.types import MS
from tests.supervise.bench import WORK, Bench, running


def two(bench: Bench) -> tuple[Role, Role]:
    """Two processes of different names that work until they are asked to stop."""
    left = bench.role("decode", WORK)
    return replace(left, name="left"), replace(left, name="right")


def pids(supervisor: Supervisor) -> dict[str, int]:
    return {
        slot.role.name: slot.child.pid
        for slot in supervisor.slots
        if slot.child is not None and slot.watch.state == "running"
    }


def test_one_process_is_paused_and_goes_on_while_the_other_does_not_notice(bench: Bench) -> None:
    left, right = two(bench)
    supervisor = bench.supervise(left, right)
    first: dict[str, int] = {}
    after: dict[str, int] = {}

    def turn() -> None:
        now = pids(supervisor)
        slot = supervisor.slot("decode", "left")
        assert slot is not None
        if not first and len(now) == 2:
            first.update(now)
            supervisor.wish(slot, "pause")
        elif first and slot.paused and slot.child is None:
            assert not psutil.pid_exists(first["left"])
            supervisor.wish(slot, "run")
        elif first and slot.wish == "run" and len(now) == 2:
            after.update(now)
            bench.stop = True

    supervisor.run(bench.should_stop, turn)
    assert after["right"] == first["right"]
    assert after["left"] != first["left"]
    assert bench.kinds() == ["started", "started", "paused", "started", "done", "done"]


def test_restart_is_no_failure_and_forgets_those_before(bench: Bench) -> None:
    supervisor = bench.supervise(bench.role("decode", WORK, WatchLimits(restarts=0)))
    seen: list[int] = []

    def turn() -> None:
        pid = pids(supervisor).get("main")
        if pid is not None and pid not in seen:
            seen.append(pid)
            if len(seen) < 4:
                supervisor.wish(supervisor.slots[0], "restart")
        bench.stop = len(seen) == 4

    supervisor.run(bench.should_stop, turn)
    assert "given up" not in bench.kinds()
    assert supervisor.slots[0].watch.restarts == 0


def test_source_that_was_refused_is_started_again_by_hand(bench: Bench) -> None:
    script = f"""
path = {str(bench.folder / "mended")!r}
report(0)
if not os.path.exists(path):
    report(1, "refused", "wrong password")
    sys.exit(4)
work()
"""
    supervisor = bench.supervise(bench.role("decode", script), replace(bench.role("decode", WORK), name="b"))

    def turn() -> None:
        slot = supervisor.slots[0]
        if slot.over:
            (bench.folder / "mended").touch()
            supervisor.wish(slot, "restart")
        bench.stop = "refused" in bench.kinds() and "main" in pids(supervisor)

    supervisor.run(bench.should_stop, turn)
    assert [n.text for n in bench.notices if n.kind == "refused"] == ["wrong password"]


def test_roles_are_added_and_removed_while_the_others_go_on(bench: Bench) -> None:
    left, right = two(bench)
    third = replace(left, name="third")
    supervisor = bench.supervise(left, right)
    first: dict[str, int] = {}

    def turn() -> None:
        now = pids(supervisor)
        if not first and len(now) == 2:
            first.update(now)
            supervisor.change([left, third])
        bench.stop = bool(first) and set(now) == {"left", "third"}

    supervisor.run(bench.should_stop, turn)
    assert [slot.role.name for slot in supervisor.slots] == ["left", "third"]
    assert psutil.Process().children() == [], "and what left was not started again"
    assert not psutil.pid_exists(first["right"])
    assert "lost" not in bench.kinds()


def test_process_that_was_asked_to_leave_is_not_hurried_by_the_end_of_the_run(bench: Bench) -> None:
    """A second SIGTERM would mean: at once."""
    script = """
said = []
def once(*_):
    said.append(1)
    if len(said) > 1:
        os._exit(143)
signal.signal(signal.SIGTERM, once)
counter = 0
while not said or counter < 20:
    report(counter)
    counter += 1
    time.sleep(0.05)
"""
    supervisor = bench.supervise(bench.role("decode", script))

    def turn() -> None:
        if running(supervisor) is not None and supervisor.slots[0].has_begun and not bench.stop:
            supervisor.wish(supervisor.slots[0], "remove")
            bench.stop = True

    supervisor.run(bench.should_stop, turn)
    assert "lost" not in bench.kinds()


def test_process_that_does_not_leave_is_killed_and_the_run_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamfuse.supervise.supervisor.STOP_NS", 300 * MS)
    forever = "counter = 0\nwhile True:\n    report(counter)\n    counter += 1\n    time.sleep(0.05)\n"
    deaf = replace(bench.role("decode", forever), name="deaf")
    other = replace(bench.role("decode", WORK), name="other")
    supervisor = bench.supervise(deaf, other)
    first: dict[str, int] = {}

    def turn() -> None:
        now = pids(supervisor)
        if not first and len(now) == 2:
            first.update(now)
            supervisor.change([other])
        bench.stop = bool(first) and len(supervisor.slots) == 1

    supervisor.run(bench.should_stop, turn)
    assert not psutil.pid_exists(first["deaf"])
