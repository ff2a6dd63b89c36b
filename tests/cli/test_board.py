"""What the live table makes of the processes' reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamfuse.cli.board import Board
from streamfuse.types import NS
from streamfuse.wire.headers import Progress
from tests.view.made import a_label


def test_top_line_is_of_the_labels_of_all_sources() -> None:
    """100 ages of 1..100 ms, 50 for each of two sources, the pace of the last five seconds."""
    board = Board(["door", "yard"])
    assert board.summary(0) == ""
    for i in range(50):
        for place, source in enumerate(("door", "yard")):
            board.on_label(a_label(i, source, age_ms=2 * i + place + 1), now_ns=i * NS // 10)
    ages, pace = "age p50 50.0 · p95 95.0 · p99 99.0 ms", "20.0 of 20.0 answers a second"
    assert board.summary(49 * NS // 10) == f"{ages}   {pace}   0 dropped · 0 later than a hop"
    board.on_label(replace(a_label(60, age_ms=150), head=replace(a_label(60).head, dropped=10)), 6 * NS)
    assert board.summary(6 * NS).endswith("10 dropped · 1 later than a hop")


def report(state: str, error: str = "", reconnects: int = 0) -> Progress:
    return Progress(
        source="door",
        service="decode",
        pid=1,
        counter=0,
        allowance_ms=0,
        state=state,  # type: ignore[arg-type]
        counters={"reconnects": reconnects},
        gauges={},
        error=error,
    )


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (report("waiting"), "connecting"),
        (report("waiting", error="Connection refused"), "reconnecting"),
        (report("waiting", reconnects=1), "reconnecting"),
        (report("running"), "running"),
        (report("done"), "ended"),
        (report("refused", error="401"), "failed"),
    ],
)
def test_report_becomes_a_state(told: Progress, shown: str) -> None:
    board = Board(["door"])
    board.on_progress(told)
    assert [status.state for status in board.statuses(0)] == [shown]


def test_source_that_was_there_before_is_away() -> None:
    board = Board(["door"])
    board.on_label(a_label(0), now_ns=0)
    board.on_progress(report("waiting"))
    assert [status.state for status in board.statuses(0)] == ["reconnecting"]
