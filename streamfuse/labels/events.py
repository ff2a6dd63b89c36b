"""Labels that begin and end: two thresholds, a minimum dwell, and an end for every beginning."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from streamfuse.clock import shift_iso
from streamfuse.config import HeadConfig, LabelConfig
from streamfuse.errors import StageError
from streamfuse.labels.smooth import UNKNOWN
from streamfuse.model.spec import HeadSpec
from streamfuse.types import MS, NS, Event, HeadLabel, Label


@dataclass(slots=True)
class Span:
    """The ticks [start_ns, end_ns) of one label's event so far, and its smoothed score over them.

    *_time  live: their wall clock
    """

    label: str
    start_ns: int
    end_ns: int
    start_time: str | None
    end_time: str | None
    peak: float = 0.0
    total: float = 0.0
    count: int = 0

    def extend(self, label: Label, score: float) -> None:
        self.end_ns, self.end_time = label.head.end_ns, label.time
        self.peak = max(self.peak, score)
        self.total += score
        self.count += 1

    def has_lasted(self, config: HeadConfig) -> bool:
        return self.end_ns - self.start_ns >= round(config.min_dwell_s * NS)


@dataclass(slots=True)
class HeadState:
    """One head's events by label; a softmax head has at most one in each.

    open      events that have begun
    dwelling  may become events
    cut       softmax: the open event as it was when the dwelling one came up, which may end it there
    fallen    softmax: the open event is over; it waits to hear whether it is cut
    """

    open: dict[str, Span] = field(default_factory=dict)
    dwelling: dict[str, Span] = field(default_factory=dict)
    cut: Span | None = None
    fallen: bool = False


@dataclass(slots=True)
class EventState:
    """What goes from one label to the next: plain data, so that a checkpoint can hold it."""

    source: str = ""
    session: int | None = None
    heads: dict[str, HeadState] = field(default_factory=dict)


class EventTracker:
    """Stage[Label, Event]: `new` and `end` of each head's labels.

    An event begins when its label is said with a score of at least `enter` in every tick of
    `min_dwell_s`; its start is the first of them. It ends with the last tick that has a score of at
    least `leave`; with its session; at more than `max_gap_ms` of dropped ticks; at flush(). A softmax
    head has one event at a time, so there the start of the next one ends it too. `unknown` is no event.
    """

    def __init__(self, heads: Sequence[HeadSpec], config: LabelConfig, *, max_gap_ms: int = 2000) -> None:
        self._heads, self._config, self._max_gap_ns = tuple(heads), config, max_gap_ms * MS
        self.reset()

    def reset(self) -> None:
        self.state = EventState(heads={head.name: HeadState() for head in self._heads})
        self._flushed = False

    def push(self, label: Label) -> list[Event]:
        if self._flushed:
            raise StageError("no push() after flush(), reset() first", where=label.head.source)
        state, events = self.state, []
        if label.head.session != state.session or label.head.dropped * label.head.hop_ns > self._max_gap_ns:
            events = self._end_all()
        state.source, state.session = label.head.source, label.head.session
        for spec in self._heads:
            follow = self._follow_one if spec.kind == "softmax" else self._follow_many
            events += follow(spec.name, label)
        return events

    def flush(self) -> list[Event]:
        """End every event."""
        self._flushed = True
        return self._end_all()

    def _end_all(self) -> list[Event]:
        events = []
        for name, head in self.state.heads.items():
            events += [self._event("end", name, span) for span in head.open.values()]
            self.state.heads[name] = HeadState()
        return events

    def _follow_many(self, name: str, label: Label) -> list[Event]:
        """Sigmoid: each label for itself."""
        part, config, head = label.heads[name], self._config.head(name), self.state.heads[name]
        scores = _scores(part)
        events = []
        for span in list(head.open.values()):
            if not _hold(span, label, scores, config.leave):
                events.append(self._event("end", name, head.open.pop(span.label)))
        entering = [e for e, score in part.labels or () if score >= config.enter and e not in head.open]
        for span in _dwell(head, entering, label, scores):
            if span.has_lasted(config):
                head.open[span.label] = head.dwelling.pop(span.label)
                events.append(self._event("new", name, span))
        return events

    def _follow_one(self, name: str, label: Label) -> list[Event]:
        """Softmax: one event at a time.

        Where a rival comes up while the open event still holds (enter + leave < 1), only the rival's
        dwell decides whether the open one ended there.
        """
        part, config, head = label.heads[name], self._config.head(name), self.state.heads[name]
        scores, current = _scores(part), next(iter(head.open.values()), None)
        winner = part.label or UNKNOWN
        is_entering = winner != UNKNOWN and scores[winner] >= config.enter
        if is_entering and current is not None and winner == current.label:
            is_entering = head.fallen
        if is_entering and winner not in head.dwelling:
            head.cut = replace(current) if current is not None else None
        rival = next(iter(_dwell(head, [winner] if is_entering else [], label, scores)), None)
        if current is not None and not head.fallen:
            head.fallen = not _hold(current, label, scores, config.leave)

        begins = rival is not None and rival.has_lasted(config)
        overlaps = rival is not None and current is not None and rival.start_ns < current.end_ns
        events = []
        if current is not None and (begins or (head.fallen and not overlaps)):
            over = head.cut if overlaps and head.cut is not None else current
            events.append(self._event("end", name, over))
            head.open, head.cut, head.fallen = {}, None, False
        if rival is not None and begins:
            head.open, head.dwelling = {rival.label: rival}, {}
            events.append(self._event("new", name, rival))
        return events

    def _event(self, kind: Literal["new", "end"], name: str, span: Span) -> Event:
        state = self.state
        session = 0 if state.session is None else state.session
        mean = span.total / span.count
        end_ns, time = (None, span.start_time) if kind == "new" else (span.end_ns, span.end_time)
        start_ns = span.start_ns
        return Event(kind, state.source, session, name, span.label, start_ns, end_ns, span.peak, mean, time)


def _scores(part: HeadLabel) -> dict[str, float]:
    """Every label's smoothed score; of a label that was read from a line only those that were told."""
    return part.scores if part.scores is not None else {**dict(part.top), **dict(part.labels or ())}


def _hold(span: Span, label: Label, scores: dict[str, float], leave: float) -> bool:
    """Extend the event by this tick if its score allows."""
    score = scores.get(span.label, 0.0)
    if score < leave:
        return False
    span.extend(label, score)
    return True


def _dwell(head: HeadState, entering: Collection[str], label: Label, scores: dict[str, float]) -> list[Span]:
    """Extend or begin the dwell of the labels that enter; the others lose theirs."""
    head.dwelling = {name: span for name, span in head.dwelling.items() if name in entering}
    for name in entering:
        if name not in head.dwelling:
            start_time = None if label.time is None else shift_iso(label.time, -label.head.hop_ns)
            start_ns, end_ns = label.head.start_ns, label.head.end_ns
            head.dwelling[name] = Span(name, start_ns, end_ns, start_time, label.time)
        head.dwelling[name].extend(label, scores[name])
    return list(head.dwelling.values())
