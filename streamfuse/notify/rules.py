"""Which events are told, and when: a stage from labels and events to notices, with no clock of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from streamfuse.config_notify import DAYS, EventFilter, NotifyConfig, NotifyRule, QuietHours
from streamfuse.labels.lines import event_line
from streamfuse.types import NS, Event, Label

Place = tuple[str, str, str]
"""Source, head, label: of these one event is open at a time."""

MAX_REMEMBERED = 10_000
"""Cooldowns that are remembered; each is of a source, head and label, so no run comes near."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An event to be told, and by which rule to which targets."""

    event: Event
    rule: str
    targets: tuple[str, ...]

    @property
    def id(self) -> str:
        """The same for the same event, also when it is sent again, or by a publisher that was restarted."""
        event = self.event
        said = f"{event.kind}/{event.source}/{event.session}/{event.head}/{event.label}/{event.start_ns}"
        return f"evt_{hashlib.sha256(said.encode()).hexdigest()[:24]}"

    @property
    def body(self) -> bytes:
        """The event as every receiver gets it: a line of streamfuse.event/1 without its newline."""
        return event_line(self.event).encode()


@dataclass(slots=True)
class _Open:
    """An event that has begun, as far as its notice goes."""

    event: Event
    told: bool = False
    silenced: bool = False
    """By the cooldown or the quiet hours in which it became due: it is not told later either."""


class RuleStage:
    """One rule. push() takes what is published, in order: a tick's label, then its events.

    now_ns   monotonic, for the cooldown; wall_ns for the quiet hours; an event's length is media time
    counts   `cooldown` and `quiet`: beginnings that were not told for that reason
    """

    def __init__(self, rule: NotifyRule, targets: Sequence[str]) -> None:
        self._rule, self._targets = rule, rule.targets or tuple(targets)
        self._quiet = [_Quiet(hours) for hours in rule.quiet]
        self._open: dict[Place, _Open] = {}
        self._told_ns: dict[Place, int] = {}
        self._reached_ns: dict[str, int] = {}
        """By source: the end of its last tick."""
        self.counts: Counter[str] = Counter(cooldown=0, quiet=0)

    def push(self, told: Label | Event, now_ns: int, wall_ns: int) -> list[Notice]:
        if isinstance(told, Label):
            return self._on_label(told, now_ns, wall_ns)
        if not chosen(self._rule, told):
            return []
        place = place_of(told)
        if told.kind == "end":
            return self._on_end(place, told, now_ns, wall_ns)
        one = self._open[place] = _Open(told)
        reached_ns = max(told.start_ns, self._reached_ns.get(told.source, 0))
        return self._begin_if_due(one, reached_ns, now_ns, wall_ns)

    def _on_label(self, label: Label, now_ns: int, wall_ns: int) -> list[Notice]:
        source, notices = label.head.source, []
        self._reached_ns[source] = label.head.end_ns
        for (name, head, word), one in self._open.items():
            if name != source or head not in label.heads:
                continue
            part = label.heads[head]
            score = (part.scores or dict(part.top)).get(word, 0.0)
            if score > one.event.peak:
                one.event = replace(one.event, peak=score)
            # Whether the event has this tick too is only known when its end does not follow.
            notices += self._begin_if_due(one, label.head.start_ns, now_ns, wall_ns)
        return notices

    def _on_end(self, place: Place, end: Event, now_ns: int, wall_ns: int) -> list[Notice]:
        one = self._open.pop(place, None)
        if one is None:
            return []
        notices = self._begin_if_due(one, end.end_ns or end.start_ns, now_ns, wall_ns)
        if one.told and self._rule.tell_end:
            notices.append(Notice(end, self._rule.name, self._targets))
        return notices

    def _begin_if_due(self, one: _Open, end_ns: int, now_ns: int, wall_ns: int) -> list[Notice]:
        """The notice of a beginning that is due and neither told nor silenced; it has lasted to end_ns."""
        if one.told or one.silenced or not self._is_due(one, end_ns):
            return []
        place = place_of(one.event)
        last_ns = self._told_ns.get(place)
        if last_ns is not None and now_ns - last_ns < round(self._rule.cooldown_s * NS):
            one.silenced = True
            self.counts["cooldown"] += 1
            return []
        if any(quiet.holds(wall_ns) for quiet in self._quiet):
            one.silenced = True
            self.counts["quiet"] += 1
            return []
        one.told = True
        self._told_ns[place] = now_ns
        if len(self._told_ns) > MAX_REMEMBERED:
            del self._told_ns[next(iter(self._told_ns))]
        return [Notice(one.event, self._rule.name, self._targets)]

    def _is_due(self, one: _Open, end_ns: int) -> bool:
        long_enough = end_ns - one.event.start_ns >= round(self._rule.min_duration_s * NS)
        return long_enough and one.event.peak >= self._rule.min_score


class Rules:
    """All rules: each that chooses an event tells it, and a target hears of it once."""

    def __init__(self, config: NotifyConfig) -> None:
        rules = config.rules or (NotifyRule(),)
        self._stages = [RuleStage(rule, tuple(config.targets)) for rule in rules]
        self._heard: set[tuple[str, Place, int]] = set()
        """Targets that were told of an event that is open."""

    def push(self, told: Label | Event, now_ns: int, wall_ns: int) -> list[Notice]:
        """What is to be told now, oldest first."""
        notices = [n for stage in self._stages for n in stage.push(told, now_ns, wall_ns)]
        once = [self._once(notice) for notice in notices]
        if isinstance(told, Event) and told.kind == "end":
            self._heard = {heard for heard in self._heard if heard[1] != place_of(told)}
        return [notice for notice in once if notice.targets]

    @property
    def counts(self) -> Counter[str]:
        return sum((stage.counts for stage in self._stages), Counter())

    def _once(self, notice: Notice) -> Notice:
        """A beginning for targets that have not heard of it, an end for those that have."""
        event, begins = notice.event, notice.event.kind == "new"
        known = {(name, place_of(event), event.start_ns): name for name in notice.targets}
        keys = {key for key in known if (key in self._heard) != begins}
        targets = tuple(known[key] for key in known if key in keys)
        self._heard = self._heard | keys if begins else self._heard - keys
        return replace(notice, targets=targets)


class _Quiet:
    """Quiet hours, asked about moments."""

    def __init__(self, hours: QuietHours) -> None:
        self._zone = ZoneInfo(hours.time_zone)
        self._begin, self._end = _minutes(hours.begin), _minutes(hours.end)
        self._days = {DAYS.index(day) for day in hours.days}

    def holds(self, wall_ns: int) -> bool:
        at = datetime.fromtimestamp(wall_ns // NS, self._zone)
        minute = at.hour * 60 + at.minute
        if self._begin < self._end:
            return self._begin <= minute < self._end and at.weekday() in self._days
        if minute >= self._begin:
            return at.weekday() in self._days
        # After midnight the hours are those that began the day before.
        return minute < self._end and (at - timedelta(days=1)).weekday() in self._days


def place_of(event: Event) -> Place:
    return event.source, event.head, event.label


def chosen(chosen_by: EventFilter, event: Event) -> bool:
    """Whether the filter means this event."""
    wanted = (
        (chosen_by.sources, event.source),
        (chosen_by.heads, event.head),
        (chosen_by.labels, event.label),
    )
    return all(not names or name in names for names, name in wanted)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
