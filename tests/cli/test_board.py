"""What the live table makes of the processes' reports."""

from __future__ import annotations

import pytest

from streamfuse.cli.board import Board
from streamfuse.wire.headers import Progress
from tests.view.made import a_label


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
