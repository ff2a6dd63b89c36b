"""What a run knows of its sources right now, from labels and progress reports, for the live table."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from streamfuse.sinks.table import SourceStatus, State
from streamfuse.types import MS, NS, Label
from streamfuse.view.states import Phase, phase_of
from streamfuse.wire.headers import Progress

RECENT = 200
"""Labels of a source that its age and rate are taken from: 20 s at ten a second."""
RATE_NS = 5 * NS

_STATES: dict[Phase, State] = {
    "starting": "connecting",
    "live": "running",
    "reconnecting": "reconnecting",
    "failed": "failed",
    "ended": "ended",
}


@dataclass(slots=True)
class _Row:
    state: State = "connecting"
    hop_ns: int = 0
    late: int = 0
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

    def keep(self, sources: Iterable[str], *, begun_anew: Collection[str] = ()) -> None:
        """Show these from now on; those that begin anew have their old troubles forgotten."""
        names = list(sources)
        for name in begun_anew:
            row = self._rows.get(name)
            if row is not None:
                row.state, row.trouble, row.over = "connecting", None, False
        self._rows = {name: self._rows.get(name) or _Row() for name in names}

    def on_pause(self, source: str) -> None:
        row = self._rows.get(source)
        if row is not None:
            row.state, row.trouble, row.over = "paused", None, False

    def on_label(self, label: Label, now_ns: int) -> None:
        row = self._rows.get(label.head.source)
        if row is None:
            return
        row.label = label
        row.dropped += label.head.dropped
        row.times_ns.append(now_ns)
        if label.latency is not None and "edge_age" in label.latency:
            row.hop_ns = label.head.hop_ns
            row.ages_ns.append(label.latency["edge_age"])
            row.late += label.latency["edge_age"] > row.hop_ns

    def on_progress(self, report: Progress) -> None:
        row = self._rows.get(report.source)
        if report.service != "decode" or row is None or row.over:
            return
        row.reconnects = report.counters.get("reconnects", 0)
        begun = row.label is not None
        phase = phase_of(report.state, begun=begun, error=report.error, reconnects=row.reconnects)
        row.state = _STATES[phase]
        row.trouble = report.error or None

    def on_trouble(self, source: str, text: str, *, over: bool) -> None:
        """The source's process was lost (`over` False), or refused for good."""
        row = self._rows.get(source)
        if row is not None:
            row.state, row.trouble, row.over = ("failed" if over else "reconnecting"), text, over

    def summary(self, now_ns: int) -> str:
        """The ages of all sources over the last 20 s, and what did not keep time since the start."""
        rows = list(self._rows.values())
        ages_ns = sorted(age for row in rows for age in row.ages_ns)
        if not ages_ns:
            return ""
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        told = [f"{name} {ages_ns[math.ceil(q * len(ages_ns)) - 1] / MS:.1f}" for name, q in shares.items()]
        rate = sum(sum(t > now_ns - RATE_NS for t in row.times_ns) for row in rows) / (RATE_NS / NS)
        due = sum(NS / row.hop_ns for row in rows if row.hop_ns)
        lost, late = sum(row.dropped for row in rows), sum(row.late for row in rows)
        pace = f"{rate:.1f} of {due:.1f} answers a second"
        return f"age {' · '.join(told)} ms   {pace}   {lost:,} dropped · {late:,} later than a hop"

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
