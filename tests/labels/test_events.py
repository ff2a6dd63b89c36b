from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streamfuse.clock import utc_iso
from streamfuse.errors import StageError
from streamfuse.labels.events import EventState, EventTracker
from streamfuse.model.spec import HeadSpec
from streamfuse.types import NS, Event, Label
from tests.labels.made import HOP_NS, SCENE, SOUND, events_of, label_all, plain

S = NS // 10
"""One tick."""


def scene(*street: float) -> list[Label]:
    """Labels whose scores of street are these; the rest goes to indoor and forest alike."""
    return label_all([[s, (1 - s) / 2, (1 - s) / 2] for s in street])


def spans(events: list[Event]) -> list[tuple[str, int, int]]:
    """(label, first tick, tick after the last) of each event that ended."""
    return [(e.label, e.start_ns // S, e.end_ns // S) for e in events if e.kind == "end"]


def test_event_begins_after_the_dwell_at_its_first_tick() -> None:
    labels = scene(0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75)
    tracker = EventTracker([SCENE], plain(min_dwell_s=0.5))
    told = [tracker.push(label) for label in labels]
    assert [len(events) for events in told] == [0, 0, 0, 0, 0, 1, 0]
    (new,) = told[5]
    assert (new.kind, new.head, new.label, new.start_ns, new.end_ns) == ("new", "scene", "street", S, None)
    (end,) = tracker.flush()
    assert (end.kind, end.start_ns, end.end_ns) == ("end", S, 7 * S)


def test_dwell_that_is_broken_begins_again() -> None:
    labels = scene(*[0.75] * 4, 0.5, *[0.75] * 4)
    assert events_of(labels, min_dwell_s=0.5) == []
    assert spans(events_of(labels, min_dwell_s=0.4)) == [("street", 0, 9)]


def test_event_ends_with_the_last_tick_that_holds() -> None:
    labels = scene(0.75, 0.5, 0.40625, 0.375, 0.75)
    events = events_of(labels, min_dwell_s=0)
    assert spans(events) == [("street", 0, 3), ("street", 4, 5)]
    assert [e.kind for e in events] == ["new", "end", "new", "end"]


def test_peak_and_mean_are_those_of_the_event_alone() -> None:
    events = events_of(scene(0.625, 0.875, 0.5, 0.25), min_dwell_s=0.2)
    assert [(e.kind, e.peak, e.mean) for e in events] == [
        ("new", 0.875, 0.75),
        ("end", 0.875, (0.625 + 0.875 + 0.5) / 3),
    ]


def test_unknown_is_no_event() -> None:
    head = msgspec.structs.replace(SCENE, threshold=0.9)
    labels = label_all([[0.875, 0.125, 0.0]] * 9, head)
    assert labels[0].scene.label == "unknown"
    assert events_of(labels, head, min_dwell_s=0) == []


def test_event_goes_on_while_unknown_is_said_but_the_score_holds() -> None:
    labels = scene(0.75, 0.4375, 0.75)
    assert [label.scene.label for label in labels] == ["street", "unknown", "street"]
    assert spans(events_of(labels, min_dwell_s=0)) == [("street", 0, 3)]


def test_next_softmax_event_ends_the_one_before_where_it_begins() -> None:
    rows = [[0.5, 0.4, 0.1]] * 3 + [[0.4, 0.5, 0.1]] * 3
    labels = label_all(rows, msgspec.structs.replace(SCENE, threshold=0.0))
    events = events_of(labels, enter=0.45, leave=0.3, min_dwell_s=0.2)
    assert spans(events) == [("street", 0, 3), ("indoor", 3, 6)]
    assert [e.kind for e in events] == ["new", "end", "new", "end"]
    assert events[1].mean == pytest.approx(0.5)


def test_softmax_event_goes_on_when_its_rival_does_not_last() -> None:
    rows = [[0.5, 0.4, 0.1]] * 3 + [[0.4, 0.5, 0.1]] * 2 + [[0.5, 0.4, 0.1]] * 3
    labels = label_all(rows, msgspec.structs.replace(SCENE, threshold=0.0))
    events = events_of(labels, enter=0.45, leave=0.3, min_dwell_s=0.3)
    assert spans(events) == [("street", 0, 8)]
    assert events[-1].mean == pytest.approx((6 * 0.5 + 2 * 0.4) / 8)


LOW = {"enter": 0.45, "leave": 0.3, "min_dwell_s": 0.3}
"""Thresholds at which two labels of a softmax head can both hold."""
STREET, BOTH, INDOOR = [0.75, 0.25, 0.0], [0.4375, 0.5, 0.0625], [0.25, 0.75, 0.0]


def low(*rows: list[float]) -> list[Event]:
    return events_of(label_all(rows, msgspec.structs.replace(SCENE, threshold=0.0)), **LOW)


def test_softmax_event_that_falls_under_its_rival_ends_where_the_rival_begins() -> None:
    events = low(*[STREET] * 4, BOTH, *[INDOOR] * 3)
    assert spans(events) == [("street", 0, 4), ("indoor", 4, 8)]
    assert [(e.kind, e.label) for e in events[1:3]] == [("end", "street"), ("new", "indoor")]
    assert events[1].mean == 0.75


def test_softmax_event_that_fell_and_comes_back_is_another_one() -> None:
    assert spans(low(*[STREET] * 4, BOTH, INDOOR, *[STREET] * 3)) == [("street", 0, 5), ("street", 6, 9)]


def test_softmax_event_that_fell_before_its_rival_came_ends_at_once() -> None:
    events = low(*[STREET] * 4, [0.25, 0.25, 0.5], *[INDOOR] * 3)
    assert spans(events) == [("street", 0, 4), ("indoor", 5, 8)]


def test_sigmoid_events_run_side_by_side() -> None:
    rows = [[0.75, 0.0, 0.0], [0.75, 0.75, 0.0], [0.75, 0.75, 0.0], [0.0, 0.75, 0.0]]
    events = events_of(label_all(rows, SOUND), SOUND, min_dwell_s=0.1)
    assert spans(events) == [("rain", 0, 3), ("music", 1, 4)]


def test_sigmoid_event_holds_though_its_label_is_not_among_the_top_five() -> None:
    head = HeadSpec("sound", tuple("abcdefg"), "sigmoid", 1.0, 0.5)
    rows = [[0, 0, 0, 0, 0, 0, 0.75], [0.625] * 6 + [0.5], [0.625] * 7]
    events = events_of(label_all(rows, head), head, min_dwell_s=0, enter=0.7)
    assert spans(events) == [("g", 0, 3)]


def test_new_session_ends_every_event_in_its_own_session() -> None:
    first = scene(0.75, 0.75)
    second = [replace(x, head=replace(x.head, session=1, offset_ns=5 * S)) for x in scene(0.75)]
    events = events_of([*first, *second], min_dwell_s=0)
    got = [(e.kind, e.session, e.start_ns // S, e.end_ns and e.end_ns // S) for e in events]
    assert got == [("new", 0, 0, None), ("end", 0, 0, 2), ("new", 1, 5, None), ("end", 1, 5, 6)]


def test_dropped_ticks_are_bridged_up_to_the_gap() -> None:
    def after(dropped: int) -> list[tuple[str, int, int]]:
        first, last = scene(0.75, 0.75)
        head = replace(last.head, index=dropped + 1, dropped=dropped)
        return spans(events_of([first, replace(last, head=head)], min_dwell_s=0))

    assert after(20) == [("street", 0, 22)]
    assert after(21) == [("street", 0, 1), ("street", 22, 23)]


def test_wall_clock_of_an_event_is_that_of_its_ends() -> None:
    labels = [replace(x, time=utc_iso((1_000 + i + 1) * S)) for i, x in enumerate(scene(*[0.75] * 3, 0, 0))]
    new, end = events_of(labels, min_dwell_s=0.2)
    assert new.time == utc_iso(1_000 * S)
    assert end.time == utc_iso(1_003 * S)


def test_label_that_was_read_from_a_line_has_events_too() -> None:
    labels = scene(0.75, 0.75, 0.25)
    read = [replace(x, heads={"scene": replace(x.scene, scores=None)}) for x in labels]
    assert events_of(read, min_dwell_s=0) == events_of(labels, min_dwell_s=0)


def test_push_after_flush_is_an_error_until_reset() -> None:
    tracker, labels = EventTracker([SCENE], plain()), scene(*[0.75] * 9)
    first = [e for x in labels for e in tracker.push(x)] + tracker.flush()
    with pytest.raises(StageError, match=r"no push\(\) after flush\(\)"):
        tracker.push(labels[0])
    tracker.reset()
    assert [e for x in labels for e in tracker.push(x)] + tracker.flush() == first


@st.composite
def runs_of_labels(draw: st.DrawFn) -> tuple[HeadSpec, list[Label], dict]:
    """Scores that wander, over two sessions, with drops; any thresholds."""
    kind = draw(st.sampled_from(["softmax", "sigmoid"]))
    head = HeadSpec("scene", ("a", "b", "c"), kind, 1.0, draw(st.sampled_from([0.0, 0.3, 0.5])))
    steps = st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(0, 16)), min_size=1, max_size=12
    )
    rows: list[list[float]] = []
    for winner, ticks, sixteenths in draw(steps):
        score, row = sixteenths / 16, [0.0] * 3
        row[winner], row[(winner + 1) % 3] = score, 1 - score
        rows += [row] * ticks
    labels, index, session = [], 0, 0
    cuts = draw(st.sets(st.integers(0, len(rows)), max_size=2))
    drops = draw(st.dictionaries(st.integers(0, len(rows)), st.integers(1, 25), max_size=2))
    offset = 0
    for i, label in enumerate(label_all(rows, head)):
        dropped = drops.get(i, 0)
        if i in cuts:
            offset, index, session, dropped = offset + index * HOP_NS, 0, session + 1, 0
        index += dropped
        tick = replace(label.head, index=index, session=session, offset_ns=offset, dropped=dropped)
        labels.append(replace(label, head=tick))
        index += 1
    leave = draw(st.integers(0, 16)) / 16
    enter = draw(st.integers(int(leave * 16), 16)) / 16
    return head, labels, {"enter": enter, "leave": leave, "min_dwell_s": draw(st.integers(0, 6)) / 10}


@settings(max_examples=200)
@given(runs_of_labels())
def test_events_alternate_always_end_dwell_and_tell_the_truth(made: tuple) -> None:
    head, labels, config = made
    open_: dict[str, Event] = {}
    ended: list[Event] = []
    for event in events_of(labels, head, **config):
        if event.kind == "new":
            assert event.label not in open_
            if head.kind == "softmax":
                assert not open_
            open_[event.label] = event
        else:
            new = open_.pop(event.label)
            assert (new.start_ns, new.session) == (event.start_ns, event.session)
            ended.append(event)
    assert not open_
    for event in ended:
        own = [x for x in labels if event.start_ns <= x.head.start_ns < event.end_ns]
        assert (own[0].head.start_ns, own[-1].head.end_ns) == (event.start_ns, event.end_ns)
        assert {x.head.session for x in own} == {event.session}
        scores = [x.scene.scores[event.label] for x in own]
        assert min(scores) >= config["leave"]
        assert math.isclose(event.mean, math.fsum(scores) / len(scores))
        assert event.peak == max(scores)
        dwell = [x for x in own if x.head.start_ns <= event.start_ns + config["min_dwell_s"] * NS - 1]
        assert all(x.scene.scores[event.label] >= config["enter"] for x in dwell)
        assert event.end_ns - event.start_ns >= round(config["min_dwell_s"] * NS)
    if head.kind == "softmax":
        for before, after in pairwise(ended):
            assert before.end_ns <= after.start_ns


def _stretches(labels: list[Label]) -> list[list[Label]]:
    """The labels between new sessions and long gaps."""
    out: list[list[Label]] = []
    for label in labels:
        anew = not out or out[-1][-1].head.session != label.head.session
        if anew or label.head.dropped > 20:
            out.append([])
        out[-1].append(label)
    return out


def _wanted(stretch: list[Label], name: str, config: dict) -> list[tuple[str, int, int]]:
    """The events of one label on its own, looking back and ahead over all ticks."""
    out, i = [], 0
    while i < len(stretch):
        j = i
        while j < len(stretch) and _enters(stretch[j], name, config["enter"]):
            j += 1
            if stretch[j - 1].head.end_ns - stretch[i].head.start_ns >= round(config["min_dwell_s"] * NS):
                while j < len(stretch) and stretch[j].scene.scores[name] >= config["leave"]:
                    j += 1
                out.append((name, stretch[i].head.start_ns, stretch[j - 1].head.end_ns))
                break
        i = max(j, i + 1)
    return out


def _enters(label: Label, name: str, enter: float) -> bool:
    said = label.scene.label == name or name in dict(label.scene.labels or ())
    return said and label.scene.scores[name] >= enter


@settings(max_examples=200)
@given(runs_of_labels())
def test_events_are_those_of_each_label_alone_where_none_cuts_another(made: tuple) -> None:
    head, labels, config = made
    assume(head.kind == "sigmoid" or config["enter"] + config["leave"] > 1)
    got = [(e.label, e.start_ns, e.end_ns) for e in events_of(labels, head, **config) if e.kind == "end"]
    wanted = [e for s in _stretches(labels) for name in head.labels for e in _wanted(s, name, config)]
    assert sorted(got) == sorted(wanted)


@given(runs_of_labels(), st.integers(0, 60))
def test_state_survives_json_exactly(made: tuple, cut: int) -> None:
    head, labels, config = made
    assume(cut <= len(labels))
    first, second = EventTracker([head], plain(**config)), EventTracker([head], plain(**config))
    events = [e for label in labels[:cut] for e in first.push(label)]
    text = json.dumps(dataclasses.asdict(first.state))
    second.state = msgspec.convert(json.loads(text), EventState)
    events += [e for label in labels[cut:] for e in second.push(label)] + second.flush()
    assert events == events_of(labels, head, **config)


def test_leave_above_enter_is_refused_also_where_one_is_the_default() -> None:
    with pytest.raises(ValidationError, match=r"leave \(0\.4\) must not be above enter \(0\.3\)"):
        plain(enter=0.3)
