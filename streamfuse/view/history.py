"""What the page remembers of each source: its last minutes, and how it is doing now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from streamfuse.types import MS, NS
from streamfuse.view.rows import AGE, TIME, Row
from streamfuse.view.states import Phase, phase_of

KEEP_MS = 500
"""One label in so long is kept for pages that are opened later: at 16 sources a page begins with 1 MB."""
BUCKET_NS = 2 * NS
"""Ages are told as the p50 and p99 of so long."""
RECENT = 200
"""Labels that the age and rate of now are taken from: 20 s."""
RATE_NS = 5 * NS
AGE_NS = 10 * NS
STALLED_NS = 1500 * MS
"""Without a label for so long, a source that runs is stalled: fifteen ticks."""
SILENT_NS = 2500 * MS
"""A process reports twice a second; one that has not for so long has died, or hangs."""
EVENTS = 100
"""Of each source."""

State = Phase | Literal["stalled", "lost", "paused"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a decode process says of itself (wire.headers.Progress)."""

    source: str
    state: str
    counters: dict[str, int]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Roster:
    """The sources that the run has now: others leave the page, new ones come to it.

    paused  those that `ctl pause` has let go of
    """

    sources: tuple[str, ...]
    paused: frozenset[str] = frozenset()


@dataclass
class SourceHistory:
    """One source. Times are monotonic nanoseconds, but for the rows' own."""

    name: str
    minutes: float
    began_ns: int
    ages: deque[tuple[int, int | None]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """(monotonic ns, age us) of the last labels; without stamps, labels have no age."""
    events: deque[Row] = field(default_factory=lambda: deque(maxlen=EVENTS))
    dropped: int = 0
    session: int | None = None
    reason: str = ""
    """Why the session began."""

    def __post_init__(self) -> None:
        self.rows: deque[Row] = deque(maxlen=round(self.minutes * 60_000 / KEEP_MS))
        self.buckets: deque[Row] = deque(maxlen=round(self.minutes * 60 * NS / BUCKET_NS))
        """[wall ms, p50 us, p99 us]."""
        self._bucket: list[int] = []
        self._bucket_end_ns = self.began_ns + BUCKET_NS
        self._frames: deque[tuple[int, int]] = deque(maxlen=12)
        self._report: Report | None = None
        self._reported_ns = self._labelled_ns = self.began_ns
        self._over = False
        self._paused = False

    def label(self, row: Row, now_ns: int) -> None:
        if row[TIME] is not None:
            _forget_after(row[TIME], self.rows, TIME)
            if not self.rows or row[TIME] - self.rows[-1][TIME] >= KEEP_MS:
                self.rows.append(row)
        self.session = row[1]
        self.dropped += row[5]
        self._labelled_ns = now_ns
        self.ages.append((now_ns, row[AGE]))
        if row[AGE] is not None:
            self._bucket.append(row[AGE])

    def begin(self, session: int, reason: str, now_ns: int) -> None:
        self.session, self.reason, self._labelled_ns = session, reason, now_ns

    def report(self, report: Report, now_ns: int) -> None:
        frames = report.counters.get("video_frames", 0)
        if self._frames and frames < self._frames[-1][1]:  # another process
            self._frames.clear()
        self._frames.append((now_ns, frames))
        self._report, self._reported_ns = report, now_ns
        self._over = report.state in ("refused", "done")

    def pause(self, paused: bool) -> None:
        """Let go of, or taken up again: then it begins anew."""
        if self._paused and not paused:
            self._report, self.session, self.reason, self._over = None, None, "", False
        self._paused = paused

    def close_bucket(self, now_ns: int, wall_ms: int) -> Row | None:
        """The ages of the last seconds, where they are over and there were any."""
        if now_ns < self._bucket_end_ns:
            return None
        self._bucket_end_ns = now_ns + BUCKET_NS
        taken, self._bucket = sorted(self._bucket), []
        if not taken:
            return None
        row = [wall_ms, quantile(taken, 0.5), quantile(taken, 0.99)]
        _forget_after(wall_ms, self.buckets, 0)
        self.buckets.append(row)
        return row

    def state(self, now_ns: int) -> State:
        report = self._report
        if self._paused:
            return "paused"
        if report is None:
            return "starting"
        reconnects = report.counters.get("reconnects", 0)
        begun = self.session is not None
        state = phase_of(report.state, begun=begun, error=report.error, reconnects=reconnects)
        if not self._over and now_ns - self._reported_ns > SILENT_NS:
            return "lost"
        if state != "live":
            return state
        if self.session is None:
            return "starting"
        return "stalled" if now_ns - self._labelled_ns > STALLED_NS else "live"

    def status(self, now_ns: int) -> dict[str, Any]:
        """How the source is doing, for the page. Ages in us, rates per second."""
        ages = sorted(age for at_ns, age in self.ages if age is not None and at_ns > now_ns - AGE_NS)
        labels = sum(1 for at_ns, _ in self.ages if at_ns > now_ns - RATE_NS)
        report = self._report
        return {
            "state": self.state(now_ns),
            "age": [quantile(ages, 0.5), quantile(ages, 0.99)] if ages else None,
            "fps": self._fps(now_ns),
            "rate": labels / (RATE_NS / NS),
            "dropped": self.dropped,
            "reconnects": report.counters.get("reconnects", 0) if report else 0,
            "session": self.session,
            "reason": self.reason,
            "trouble": report.error if report and not self._paused else "",
        }

    def _fps(self, now_ns: int) -> float | None:
        """Frames a second over the reports of the last seconds; None where nothing is known."""
        seen = [(at_ns, frames) for at_ns, frames in self._frames if at_ns > now_ns - RATE_NS - NS]
        (first_ns, first), (last_ns, last) = (seen[0], seen[-1]) if seen else ((0, 0), (0, 0))
        if last_ns == first_ns:
            return None
        return round((last - first) * NS / (last_ns - first_ns), 1)


def _forget_after(time_ms: int, rows: deque[Row], place: int) -> None:
    """Where the clock was set back, what lies in its future would hold up all that comes."""
    while rows and rows[-1][place] > time_ms:
        rows.pop()


def quantile(ordered: list[int], share: float) -> int:
    """The nearest-rank quantile of an ordered list that is not empty."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
