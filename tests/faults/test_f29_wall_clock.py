"""F29: the time of day steps by an hour and back; nothing restarts, nothing stalls, only `time` moves."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path

from streamfuse.types import NS
from tests.faults.clocks import WallClock
from tests.integration.live import LiveRun, check_order

PATTERN = "lavfi:testsrc2=size=64x48:rate=10"


def test_f29_a_clock_that_steps_moves_the_time_of_labels_and_nothing_else(
    tiny_model: Path, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path)
    with LiveRun({"door": PATTERN}, model=tiny_model, env=clock.environment) as run:

        def steps() -> list[float]:
            times = [datetime.fromisoformat(line["time"]).timestamp() for line in run.labels("door")]
            return [after - before for before, after in pairwise(times) if abs(after - before) > 1000]

        for number, offset_s in enumerate((0, 3600, -3600)):
            clock.step(offset_s)
            mark = len(run.lines)
            run.until(
                lambda n=number, m=mark: len(steps()) == n and len(run.lines) > m + 5, "labels after a step"
            )
        assert run.stop() == 0, run.said()
        labels = run.labels("door")
        forward, back = steps()
        assert 3590 < forward < 3610
        assert -7210 < back < -7190
        assert {line["session"] for line in labels} == {0}
        check_order(labels)
        for before, after in pairwise(labels):
            assert round((after["start_s"] - before["start_s"]) * 10) == 1 + after["dropped"]
        assert all(0 <= line["latency"]["edge_age"] < 60 * NS for line in labels)
        assert all(process["restarts"] == 0 for process in run.status())
        assert run.counters("decode", "door")["reconnects"] == 0
        assert run.complaints() == []


def test_f29_sessions_do_not_fall_back_when_the_clock_does(tiny_model: Path, tmp_path: Path) -> None:
    """A restart after the clock was set back two hours: the next session still lies after the last."""
    clock = WallClock(tmp_path)
    with LiveRun({"door": PATTERN}, model=tiny_model, env=clock.environment) as run:
        run.until(lambda: len(run.labels("door")) > 5, "labels")
        clock.step(-7200)
        last = run.labels("door")[-1]
        run.child("decode", "door").kill()
        run.until(lambda: run.session("door") == 1, "the next session")
        first = next(line for line in run.labels("door") if line["session"] == 1)
        assert last["end_s"] <= first["start_s"] < last["end_s"] + 120
        assert run.stop() == 0, run.said()
