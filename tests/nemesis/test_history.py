"""The checker condemns every kind of broken history: each test breaks one that was good."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.nemesis.history import (
    Fault,
    Targets,
    Unwritten,
    balance_problems,
    event_problems,
    leak_problems,
    log_problems,
    order_problems,
    recovery_problems,
    with_unwritten,
)

Lines = list[dict[str, Any]]


def good() -> Lines:
    """Two sessions of five ticks, the second with two that were dropped and said so."""
    first = [{"session": 0, "tick": k, "dropped": 0, "start_s": k / 10} for k in range(5)]
    second = [
        {"session": 1, "tick": k, "dropped": 2 if k == 4 else 0, "start_s": 3 + k / 10} for k in (0, 1, 4)
    ]
    return first + second


def swap(lines: Lines) -> None:
    lines[2], lines[3] = lines[3], lines[2]


BREAKS: dict[str, tuple[Callable[[Lines], Any], str]] = {
    "a tick twice": (lambda x: x.insert(2, dict(x[1])), "comes after session 0 tick 1"),
    "two swapped": (swap, "comes after session 0 tick 3"),
    "one gone": (lambda x: x.pop(2), "1 ticks before it are neither there nor counted"),
    "a drop not said": (lambda x: x[-1].update(dropped=0), "2 ticks before it are neither there nor counted"),
    "a drop too many": (lambda x: x[2].update(dropped=1), "-1 ticks before it"),
    "a beginning gone": (lambda x: x.pop(5), "begins at tick 1, 0 are counted"),
    "a session again": (lambda x: [line.update(session=0) for line in x], "comes after session 0 tick 4"),
    "time falls back": (lambda x: x[-1].update(start_s=1.0), "time falls back from 3.1 to 1.0"),
}


def test_order_of_a_good_history_is_good() -> None:
    assert order_problems("cam", good()) == []


@pytest.mark.parametrize("name", BREAKS)
def test_order_that_is_broken_is_condemned(name: str) -> None:
    lines = copy.deepcopy(good())
    break_it, said = BREAKS[name]
    break_it(lines)
    assert any(said in problem for problem in order_problems("cam", lines)), order_problems("cam", lines)


def event(kind: str, start_s: float, end_s: float | None = None, label: str = "street") -> dict[str, Any]:
    return {"schema": "streamfuse.event/1", "kind": kind, "session": 0, "head": "scene", "label": label,
            "start_s": start_s, "end_s": end_s}  # fmt: skip


def test_events_good_and_bad() -> None:
    assert event_problems("cam", [event("new", 1.0), event("end", 1.0, 2.0), *good()]) == []
    assert "never ends" in event_problems("cam", [event("new", 1.0)])[0]
    assert "has not begun" in event_problems("cam", [event("end", 1.0, 2.0)])[0]
    assert "begins twice" in event_problems("cam", [event("new", 1.0), event("new", 1.0)])[0]
    twice = [event("new", 1.0), event("end", 1.0, 2.0), event("end", 1.0, 2.0)]
    assert "ends twice" in event_problems("cam", twice)[0]
    assert "before it begins" in event_problems("cam", [event("new", 1.0), event("end", 1.0, 0.5)])[0]


def window(counted: int, *ticks: int) -> Unwritten:
    return Unwritten(
        tuple(line for line in good() if line["session"] == 0 and line["tick"] in ticks), counted
    )


def without(*ticks: int) -> Lines:
    return [line for line in good() if line["session"] or line["tick"] not in ticks]


def test_unwritten_labels_that_were_counted_are_put_back_in_their_place() -> None:
    whole, events, problems = with_unwritten("cam", without(2, 3), [window(2, 1, 2, 3, 4)])
    assert (whole, events, problems) == (good(), 0, [])
    assert with_unwritten("cam", without(1, 3), [window(1, 0, 1, 2), window(1, 2, 3, 4)])[0] == good()


def test_unwritten_labels_that_nobody_counted_are_condemned() -> None:
    _, _, problems = with_unwritten("cam", without(2, 3), [window(1, 1, 2, 3, 4)])
    assert problems == ["cam: 2 labels are not written, 1 are counted"]


def test_unwritten_labels_that_nobody_saw_are_still_missing() -> None:
    """Lost outside of the time in which the disk was full."""
    whole, _, _ = with_unwritten("cam", without(1, 3), [window(1, 2, 3, 4)])
    assert len(order_problems("cam", whole)) == 1
    whole, _, _ = with_unwritten("cam", without(3), [])
    assert len(order_problems("cam", whole)) == 1


def test_unwritten_lines_beyond_the_labels_may_be_events() -> None:
    whole, events, _ = with_unwritten("cam", without(2), [window(3, 1, 2, 3)])
    assert (whole, events) == (good(), 2)
    alone = [event("new", 1.0), event("end", 2.0, 3.0)]
    assert event_problems("cam", alone, events) == []
    assert len(event_problems("cam", alone, 1)) == 2
    assert event_problems("cam", [event("new", 1.0), event("new", 1.0)], 9) != []


def process(**counters: int) -> dict[str, Any]:
    made = {"ticks": 10, "link_produced": 10, "link_done": 7, "link_dropped": 2, "link_lost": 1}
    return {"service": "decode", "name": "cam", "counters": {**made, **counters}}


def test_balance_good_and_bad() -> None:
    assert (
        balance_problems([process(), {"service": "publish", "name": "publish", "counters": {"labels": 3}}])
        == []
    )
    assert balance_problems([process(link_lost=0)]) == [
        "decode cam: 10 sent, and of 9 it is known what became"
    ]
    unfinished = process(link_done=5) | {"gauges": {"waiting": 1, "under_way": 1}}
    assert balance_problems([unfinished | {"state": "draining"}]) == []
    assert balance_problems([unfinished | {"state": "done"}]) != []
    assert balance_problems([process(ticks=11)]) == ["decode cam: 11 made, 10 sent"]


KILLED = Fault(10.0, "killed", "decode cam", back_s=11.5)
CUT = Fault(10.0, "cut", "cam", noticed_s=12.0, healed_s=15.0, back_s=18.0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (replace(KILLED, back_s=None), "never came back"),
        (replace(KILLED, back_s=13.0), "back after 3.0 s, 2.0 s are allowed"),
        (
            Fault(10.0, "killed", "analyze", noticed_s=10.1, back_s=17.1),
            "back after 7.0 s, 6.0 s are allowed",
        ),
        (Fault(10.0, "hung", "publish", noticed_s=13.0, back_s=16.0), "back after 3.0 s, 2.0 s are allowed"),
        (Fault(10.0, "stopped", "publish", noticed_s=14.0, back_s=15.0), "noticed after 4.0 s, 3.5 s are"),
        (replace(CUT, noticed_s=21.0, back_s=19.0), "noticed after 11.0 s"),
        (replace(CUT, back_s=21.0), "back after 6.0 s, 5.0 s are allowed"),
        (Fault(10.0, "killed", "supervisor", noticed_s=11.5, back_s=15.0), "noticed after 1.5 s, 1.0 s are"),
        (Fault(10.0, "killed", "group", noticed_s=10.5, back_s=31.0), "back after 20.5 s, 20.0 s are"),
        (Fault(10.0, "full", "disk", 11.0, 13.0, back_s=16.0), "back after 3.0 s, 2.0 s are allowed"),
        (Fault(10.0, "full", "disk", 14.0, 15.0, back_s=16.0), "noticed after 4.0 s, 3.5 s are"),
        (Fault(10.0, "stepped", "clock", back_s=13.0), "back after 3.0 s, 2.0 s are allowed"),
    ],
)
def test_recovery_too_late_is_condemned(fault: Fault, said: str) -> None:
    (problem,) = recovery_problems([fault], Targets())
    assert said in problem
    assert str(fault) in problem


def test_recovery_in_time_is_good() -> None:
    hung = Fault(10.0, "hung", "publish", noticed_s=13.4, back_s=15.3)
    assert (
        recovery_problems([KILLED, CUT, hung, Fault(1.0, "killed", "analyze", back_s=6.0)], Targets()) == []
    )
    assert recovery_problems([replace(KILLED, back_s=13.0)], Targets(slack=2.0)) == []


def test_leaks_are_condemned() -> None:
    before = {"supervisor": (100_000_000, 20), "gone": (1, 1)}
    assert leak_problems(before, {"supervisor": (119_000_000, 24)}, Targets()) == []
    assert leak_problems(before, {"supervisor": (121_000_000, 20)}, Targets()) == [
        "supervisor: 21 MB more than at the beginning"
    ]
    assert leak_problems(before, {"supervisor": (100_000_000, 26)}, Targets()) == [
        "supervisor: 6 handles more than at the beginning"
    ]


def test_traceback_in_a_log_is_condemned() -> None:
    assert log_problems("publish.log", "WARNING x: y\n") == []
    assert log_problems("publish.log", "Traceback (most recent call last):\n  File") == [
        "publish.log: a traceback"
    ]
