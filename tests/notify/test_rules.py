"""Which events are told, once, when, and to whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from streamfuse.config_notify import NotifyConfig
from streamfuse.notify.rules import Notice, Rules
from streamfuse.types import NS, Event, Label
from tests.notify.made import BERLIN_23H, event, label

TARGETS = {name: {"kind": "command", "run": ["true"]} for name in ("phone", "desk")}


class Told:
    """The rules under a clock that goes with the ticks."""

    def __init__(self, *rules: dict[str, Any], wall_ns: int = BERLIN_23H) -> None:
        self.rules = Rules(NotifyConfig.model_validate({"targets": TARGETS, "rules": rules}))
        self.now_ns, self.wall_ns = 0, wall_ns

    def push(self, *told: Label | Event) -> list[tuple[str, str, tuple[str, ...]]]:
        notices: list[Notice] = []
        for one in told:
            if isinstance(one, Label):
                self.now_ns = one.head.end_ns
            notices += self.rules.push(one, self.now_ns, self.wall_ns + self.now_ns)
        return [(n.event.kind, n.event.label, n.targets) for n in notices]


def ticks(first: int, last: int, score: float = 0.7) -> list[Label]:
    return [label(index, score) for index in range(first, last)]


def begin(at: int, **fields: Any) -> Event:
    """An event that begins with tick `at`, told as its label is: directly after it."""
    return event(start_ns=at * NS // 10, **fields)


def end(at: int, until: int, **fields: Any) -> Event:
    return event("end", start_ns=at * NS // 10, end_ns=until * NS // 10, **fields)


BOTH = ("phone", "desk")


def test_without_rules_every_event_is_told_to_every_target_at_once() -> None:
    told = Told()
    assert told.push(label(0), begin(0)) == [("new", "street", BOTH)]
    assert told.push(*ticks(1, 5)) == []
    assert told.push(end(0, 5)) == [("end", "street", BOTH)]


@pytest.mark.parametrize(
    ("chosen", "is_told"),
    [
        ({"sources": ["door"]}, True),
        ({"sources": ["yard"]}, False),
        ({"heads": ["scene"], "labels": ["street", "forest"]}, True),
        ({"heads": ["emotion"]}, False),
        ({"labels": ["indoor"]}, False),
    ],
)
def test_rule_tells_only_what_it_chooses(chosen: dict[str, Any], is_told: bool) -> None:
    assert bool(Told(chosen).push(label(0), begin(0))) is is_told


def test_beginning_waits_for_its_score() -> None:
    told = Told({"min_score": 0.9})
    assert told.push(label(0, 0.7), begin(0, peak=0.7)) == []
    assert told.push(*ticks(1, 4, 0.8)) == []
    assert told.push(label(4, 0.95)) == [("new", "street", BOTH)]
    assert told.push(*ticks(5, 9, 0.99), end(0, 9, peak=0.99)) == [("end", "street", BOTH)]


def test_score_of_another_source_does_not_count() -> None:
    told = Told({"min_score": 0.9})
    told.push(label(0), begin(0, peak=0.7))
    assert told.push(label(1, 0.99, source="yard"), label(1, 0.99, word="forest")) == []


def test_beginning_waits_for_its_duration() -> None:
    told = Told({"min_duration_s": 1.0})
    assert told.push(label(0), begin(0), *ticks(1, 10)) == []
    assert told.push(label(10)) == [("new", "street", BOTH)]


def test_event_that_is_too_short_is_never_told() -> None:
    told = Told({"min_duration_s": 1.0})
    # 0.9 s: the tick in which it ends is no part of it.
    assert told.push(label(0), begin(0), *ticks(1, 10), end(0, 9)) == []


def test_event_that_lasts_to_its_duration_and_ends_there_is_told_whole() -> None:
    told = Told({"min_duration_s": 1.0})
    assert [kind for kind, *_ in told.push(label(0), begin(0), *ticks(1, 10), end(0, 10))] == ["new", "end"]


def test_cooldown_keeps_a_second_beginning_and_its_end_back() -> None:
    told = Told({"cooldown_s": 10.0})
    assert len(told.push(label(0), begin(0), label(1), end(0, 1))) == 2
    assert told.push(label(50), begin(50), label(51), end(50, 51)) == []
    assert len(told.push(label(102), begin(102))) == 1
    assert told.rules.counts == {"cooldown": 1}


def test_cooldown_is_of_one_source_head_and_label() -> None:
    told = Told({"cooldown_s": 10.0})
    told.push(label(0), begin(0))
    assert told.push(begin(0, source="yard"), begin(0, label="forest"), begin(0, head="emotion")) == [
        ("new", "street", BOTH),
        ("new", "forest", BOTH),
        ("new", "street", BOTH),
    ]


def test_without_tell_end_only_beginnings_are_told() -> None:
    told = Told({"tell_end": False})
    assert told.push(label(0), begin(0), label(1), end(0, 1)) == [("new", "street", BOTH)]
    assert told.push(label(2), begin(2)) == [("new", "street", BOTH)]


def test_target_of_two_rules_hears_of_an_event_once() -> None:
    told = Told({"targets": ["phone"]}, {"min_duration_s": 1.0}, {"heads": ["scene"], "targets": ["phone"]})
    assert told.push(label(0), begin(0)) == [("new", "street", ("phone",))]
    assert told.push(*ticks(1, 12)) == [("new", "street", ("desk",))]
    assert told.push(end(0, 12)) == [("end", "street", ("phone",)), ("end", "street", ("desk",))]
    assert told.push(label(13), begin(13)) == [("new", "street", ("phone",))]


def test_end_without_a_beginning_is_not_told() -> None:
    assert Told().push(label(0), end(0, 1)) == []


def wall(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS


BERLIN = {"begin": "22:00", "end": "06:30", "time_zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("at", "quiet", "is_told"),
    [
        ("2026-01-01T20:59:00", BERLIN, True),  # 21:59 in Berlin
        ("2026-01-01T21:00:00", BERLIN, False),
        ("2026-01-02T05:29:00", BERLIN, False),
        ("2026-01-02T05:30:00", BERLIN, True),
        ("2026-07-01T19:59:00", BERLIN, True),  # summer time: 21:59
        ("2026-07-01T20:00:00", BERLIN, False),
        ("2026-01-01T12:30:00", {"begin": "12:00", "end": "13:00", "time_zone": "UTC"}, False),
        ("2026-01-01T13:00:00", {"begin": "12:00", "end": "13:00", "time_zone": "UTC"}, True),
        # Thursday 2026-01-01 to Friday: quiet began on Thursday.
        ("2026-01-02T02:00:00", BERLIN | {"days": ["thu"]}, False),
        ("2026-01-02T02:00:00", BERLIN | {"days": ["fri"]}, True),
        ("2026-01-02T22:30:00", BERLIN | {"days": ["fri"]}, False),
        ("2026-01-01T12:30:00", {"begin": "00:00", "end": "00:00", "time_zone": "UTC"}, False),
    ],
)
def test_quiet_hours_are_those_of_their_time_zone(at: str, quiet: dict[str, Any], is_told: bool) -> None:
    told = Told({"quiet": [quiet]}, wall_ns=wall(at))
    assert bool(told.push(begin(0))) is is_told
    assert told.rules.counts["quiet"] == (not is_told)


def test_event_that_began_in_quiet_hours_is_not_told_after_them() -> None:
    told = Told({"quiet": [BERLIN]}, wall_ns=wall("2026-01-02T05:29:59"))
    assert told.push(label(0), begin(0), *ticks(1, 100), end(0, 100)) == []


def test_end_of_what_was_told_is_told_in_quiet_hours() -> None:
    told = Told({"quiet": [BERLIN]}, wall_ns=wall("2026-01-01T20:59:59"))
    assert len(told.push(label(0), begin(0))) == 1
    assert told.push(*ticks(1, 100), end(0, 100)) == [("end", "street", BOTH)]


def test_notice_has_one_id_for_one_event() -> None:
    one = Notice(event(), "", ())
    assert one.id == Notice(event(peak=0.99), "night", ("phone",)).id
    others = [event("end"), event(start_ns=5), event(session=4), event(source="yard"), event(label="x")]
    assert len({one.id, *(Notice(other, "", ()).id for other in others)}) == 6


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"targets": ["fax"]}, "rules name targets that are there (desk, phone), got fax"),
        ({"quiet": [BERLIN | {"time_zone": "Mars/Olympus"}]}, "a time zone of the IANA list"),
        ({"quiet": [BERLIN | {"time_zone": "../../etc/passwd"}]}, "a time zone of the IANA list"),
        ({"quiet": [BERLIN | {"begin": "24:00"}]}, "String should match pattern"),
        ({"quiet": [{"begin": "22:00", "end": "06:00"}]}, "Field required"),
        ({"min_score": 1.5}, "less than or equal to 1"),
    ],
)
def test_rule_that_cannot_be_meant_is_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Told(rule)
    assert said in str(error.value)


def test_peak_in_the_notice_is_the_highest_so_far() -> None:
    rules = Rules(NotifyConfig.model_validate({"targets": TARGETS, "rules": [{"min_duration_s": 0.5}]}))
    rules.push(label(0, 0.7), 0, 0)
    rules.push(event(start_ns=0, peak=0.7), 0, 0)
    told = [n for tick in (label(3, 0.91), label(4, 0.8), label(5, 0.8)) for n in rules.push(tick, 0, 0)]
    assert [n.event for n in told] == [replace(event(start_ns=0), peak=0.91)]
