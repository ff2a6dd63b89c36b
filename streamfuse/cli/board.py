"""What a run knows of its sources right now, from labels and progress reports, for the live table."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

from streamfuse.sinks.table import SourceStatus, State
from streamfuse.types import NS, Label
from streamfuse.wire.headers import Progress

RECENT = 200
"""Labels of a source that its age and rate are taken from: 20 s at ten a second."""
RATE_NS = 5 * NS

_STATES: dict[str, State] = {
    "starting": "connecting",
    "running": "running",
    "waiting": "reconnecting",
    "draining": "ended",
    "done": "ended",
    "failed": "failed",
    "refused": "failed",
}


@dataclass(slots=True)
class _Row:
    state: State = "connecting"
    label: Label | None = None
    ages_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    times_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    dropped: int = 0
    reconnects: int = 0
    trouble: str | None = None
    over: bool = False


class Board:
    """One row per source, in the order given."""

    def __init__(self, sources: list[str]) -> None:
        self._rows = {name: _Row() for name in sources}

    def on_label(self, label: Label, now_ns: int) -> None:
        row = self._rows.get(label.head.source)
        if row is None:
            return
        row.label = label
        row.dropped += label.head.dropped
        row.times_ns.append(now_ns)
        if label.latency is not None and "edge_age" in label.latency:
            row.ages_ns.append(label.latency["edge_age"])

    def on_progress(self, report: Progress) -> None:
        row = self._rows.get(report.source)
        if report.service != "decode" or row is None or row.over:
            return
        row.state = _STATES.get(report.state, "connecting")
        row.reconnects = report.counters.get("reconnects", 0)
        row.trouble = report.error or None

    def on_trouble(self, source: str, text: str, *, over: bool) -> None:
        """The source's process was lost (`over` False), or refused for good."""
        row = self._rows.get(source)
        if row is not None:
            row.state, row.trouble, row.over = ("failed" if over else "reconnecting"), text, over

    def statuses(self, now_ns: int) -> list[SourceStatus]:
        return [self._status(name, row, now_ns) for name, row in self._rows.items()]

    def _status(self, name: str, row: _Row, now_ns: int) -> SourceStatus:
        recent = sum(1 for t in row.times_ns if t > now_ns - RATE_NS)
        state: State = row.state
        if state == "running" and row.times_ns and recent == 0:
            state = "stalled"
        return SourceStatus(
            source=name,
            state=state,
            label=row.label,
            age_p50_ns=round(statistics.median(row.ages_ns)) if row.ages_ns else None,
            fps=recent / (RATE_NS / NS) if row.times_ns else None,
            dropped=row.dropped,
            reconnects=row.reconnects,
            trouble=row.trouble,
        )
