from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.config import LabelConfig
from streamfuse.errors import WireError
from streamfuse.labels.lines import event_from_line, event_line, label_from_line, label_line
from streamfuse.types import NS, Event, Face, HeadLabel, Label, TickHead
from tests.labels.made import SOUND, events_of, label_all, tick_head

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


LABEL_SCHEMA, EVENT_SCHEMA = validator("label-1.schema.json"), validator("event-1.schema.json")

NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name.encode(errors="ignore").decode() == name)
SCORES = st.integers(0, 10_000).map(lambda i: i / 10_000)
PAIRS = st.lists(st.tuples(NAMES, SCORES), max_size=5).map(tuple)
RAW = st.none() | st.dictionaries(NAMES, SCORES, max_size=3)
SOFTMAX = st.builds(HeadLabel, NAMES, SCORES, st.none(), PAIRS, RAW)
SIGMOID = st.builds(HeadLabel, st.none(), st.none(), PAIRS, PAIRS, RAW)
TIMES = st.none() | st.just("2026-01-02T03:04:05.678Z")
PRESENCE = st.sampled_from(["ok", "held", "missing"])


@st.composite
def labels(draw: st.DrawFn) -> Label:
    hop_ns = draw(st.integers(1, 160_000)) * 62_500
    modalities = {"video": draw(PRESENCE), "face": draw(PRESENCE), "audio": draw(PRESENCE)}
    head = TickHead(
        source=draw(NAMES),
        session=draw(st.integers(0, 2**40)),
        index=draw(st.integers(0, 10**7)),
        offset_ns=draw(st.integers(0, 10**12)),
        hop_ns=hop_ns,
        video=modalities["video"],
        audio=modalities["audio"],
        partial=draw(st.booleans()),
        dropped=draw(st.integers(0, 10**6)),
    )
    if head.end_ns > 8 * 10**15:
        head = replace(head, index=3)
    heads = draw(st.dictionaries(st.sampled_from(["scene", "emotion", "sound"]), SOFTMAX | SIGMOID))
    latency = draw(st.none() | st.dictionaries(st.just("edge_age"), st.integers(-(2**40), 2**60)))
    face = draw(st.none() | st.builds(Face, st.tuples(SCORES, SCORES, SCORES, SCORES), SCORES))
    return Label(head, heads, modalities, draw(st.booleans()), draw(TIMES), latency, face)


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind, start_ns = draw(st.sampled_from(["new", "end"])), draw(st.integers(0, 8 * 10**15))
    end_ns = None if kind == "new" else start_ns + draw(st.integers(1, 10**12))
    names = [draw(NAMES.filter(lambda name: name != "unknown")) for _ in range(3)]
    session, peak, mean = draw(st.integers(0, 9)), draw(SCORES), draw(SCORES)
    return Event(kind, names[0], session, names[1], names[2], start_ns, end_ns, peak, mean, draw(TIMES))


@given(labels())
def test_label_line_and_back_is_the_same_label(label: Label) -> None:
    line = label_line(label)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert label_from_line(line) == label
    assert label_from_line(line.encode()) == label
    LABEL_SCHEMA.validate(json.loads(line))


@given(events())
def test_event_line_and_back_is_the_same_event(event: Event) -> None:
    line = event_line(event)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert event_from_line(line) == event
    EVENT_SCHEMA.validate(json.loads(line))


@given(st.integers(0, 8 * 10**15))
def test_seconds_are_the_integers_decimals_and_no_more(start_ns: int) -> None:
    line = event_line(Event("new", "s", 0, "scene", "street", start_ns, None, 0.5, 0.5))
    said = json.loads(line, parse_float=Decimal)["start_s"]
    assert said == Decimal(start_ns) / NS
    assert -Decimal(said).as_tuple().exponent <= 9


def test_label_line_is_the_documented_one() -> None:
    heads = {
        "scene": HeadLabel("street", 0.81234, None, (("street", 0.81234), ("indoor", 0.07))),
        "sound": HeadLabel(None, None, (("rain", 0.91),), (("rain", 0.91), ("music", 1 / 3))),
    }
    head = TickHead("door", 3, 41, 0, 100_000_000, "ok", "ok")
    modalities = {"video": "ok", "face": "missing", "audio": "ok"}
    label = Label(head, heads, modalities, True, "2026-01-02T03:04:05.678Z", {"edge_age": 41_000_000})
    assert label_line(label) == (
        '{"schema":"streamfuse.label/1","source":"door","session":3,"tick":41,'
        '"time":"2026-01-02T03:04:05.678Z","start_s":4.1,"end_s":4.2,'
        '"scene":{"label":"street","score":0.8123,"top":[["street",0.8123],["indoor",0.07]]},'
        '"sound":{"labels":[["rain",0.91]],"top":[["rain",0.91],["music",0.3333]]},'
        '"modalities":{"video":"ok","face":"missing","audio":"ok"},"partial":false,"warm":true,"dropped":0,'
        '"latency":{"edge_age":41000000}}'
    )


def test_tick_three_ends_at_three_tenths() -> None:
    head = replace(tick_head(2), source="s")
    line = label_line(Label(head, {}, {}, True))
    assert '"start_s":0.2,"end_s":0.3,' in line


def test_real_labels_and_events_fit_the_schema() -> None:
    made = label_all([[0.75, 0.2, 0.05]] * 9, config=LabelConfig(raw=True))
    for line in map(label_line, [*made, *label_all([[0.9, 0.6, 0.1]], SOUND)]):
        LABEL_SCHEMA.validate(json.loads(line))
    told = events_of(made)
    assert len(told) == 2
    for line in map(event_line, told):
        EVENT_SCHEMA.validate(json.loads(line))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_score_that_is_not_finite_is_never_written(bad: float) -> None:
    (label,) = label_all([[0.75, 0.2, 0.05]])
    part = replace(label.scene, score=bad)
    with pytest.raises(WireError, match=r"finite numbers only, got .* \[cam\]"):
        label_line(replace(label, heads={"scene": part}))
    (new, _) = events_of(label_all([[0.75, 0.2, 0.05]] * 9))
    with pytest.raises(WireError, match=r"finite numbers only, got .* \[cam\]"):
        event_line(replace(new, peak=bad))


def _changed(**fields: Any) -> str:
    (label,) = label_all([[0.75, 0.2, 0.05]])
    record = json.loads(label_line(label)) | fields
    return json.dumps({name: value for name, value in record.items() if value is not None})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`"),
        (b"\xff{}", "invalid"),
        (_changed()[:-9], "truncated"),
        (_changed(schema="streamfuse.label/2"), "Invalid enum value"),
        (_changed(tick=None), "missing required field `tick`"),
        (_changed(tick="3"), "Expected `int`"),
        (_changed(dropped=True), "Expected `int`"),
        (_changed(start_s="0"), "Expected `float`"),
        (_changed(modalities={"video": "gone"}), "Invalid enum value"),
        (_changed(scene={"label": "street", "score": 0.5}), "missing required field `top`"),
        (_changed(scene={"top": [], "scores": []}), "unknown field `scores`"),
        (_changed(surprise=3), "Expected `object`"),
        (_changed().replace('"dropped": 0', '"dropped": NaN'), "invalid"),
    ],
)
def test_line_of_another_kind_is_refused(line: str | bytes, says: str) -> None:
    with pytest.raises(WireError, match=r"a line of streamfuse\.label/1, got .*" + says):
        label_from_line(line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{}", "missing required field `schema`"),
        (_changed(), "streamfuse.label/1"),
        ("null", "Expected `object`"),
    ],
)
def test_event_line_of_another_kind_is_refused(line: str, says: str) -> None:
    with pytest.raises(WireError, match=r"a line of streamfuse\.event/1, got .*" + says):
        event_from_line(line)


def test_surrogate_in_a_name_does_not_break_the_line() -> None:
    (label,) = label_all([[0.75, 0.2, 0.05]])
    line = label_line(replace(label, head=replace(label.head, source="caf\udce9")))
    assert json.loads(line)["source"] == "caf\udce9"
