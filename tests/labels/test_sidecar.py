from __future__ import annotations

import dataclasses
import html
import io
import json

import av
import msgspec
import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.config import HeadConfig
from streamfuse.labels.events import EventTracker
from streamfuse.labels.sidecar import VTT_HEADER, CueState, CueWriter
from streamfuse.labels.smooth import Labeller
from streamfuse.model.spec import HeadSpec
from streamfuse.types import MS, Event, Label
from tests.labels.made import HOP_NS, SCENE, SOUND, answer, plain, tick_head

HEADS = [SCENE, SOUND]


def event(kind: str, head: str, label: str, start_ms: int, end_ms: int | None = None) -> Event:
    end_ns = None if end_ms is None else end_ms * MS
    return Event(kind, "cam", 0, head, label, start_ms * MS, end_ns, 0.9, 0.8)


def pair(head: str, label: str, start_ms: int, end_ms: int) -> list[Event]:
    return [event("new", head, label, start_ms), event("end", head, label, start_ms, end_ms)]


def cues_of(events: list[Event], heads: list[HeadSpec] = HEADS) -> list[tuple[str, str, str]]:
    """What an outside parser reads from the file."""
    writer = CueWriter(heads, plain())
    text = VTT_HEADER + "".join([*writer.push(events, 0), *writer.flush()])
    return parsed(text)


def parsed(text: str) -> list[tuple[str, str, str]]:
    return [(c.start, c.end, html.unescape(c.text)) for c in webvtt.from_buffer(io.StringIO(text))]


def test_cues_change_where_something_begins_or_ends() -> None:
    events = [
        *pair("scene", "street", 0, 3000),
        *pair("sound", "rain", 1000, 2000),
        *pair("sound", "music", 1500, 3000),
    ]
    assert cues_of(events) == [
        ("00:00:00.000", "00:00:01.000", "scene: street"),
        ("00:00:01.000", "00:00:01.500", "scene: street\nsound: rain"),
        ("00:00:01.500", "00:00:02.000", "scene: street\nsound: rain, music"),
        ("00:00:02.000", "00:00:03.000", "scene: street\nsound: music"),
    ]


def test_ffmpeg_reads_the_same_cues() -> None:
    events = [*pair("scene", "R&B <loud>", 500, 3000), *pair("sound", "a --> b", 1000, 2000)]
    head = HeadSpec("scene", ("R&B <loud>", "other"), "softmax", 1.0, 0.5)
    writer = CueWriter([head, SOUND], plain())
    text = VTT_HEADER + "".join([*writer.push(events, 0), *writer.flush()])
    with av.open(io.BytesIO(text.encode()), format="webvtt") as file:
        packets = [p for p in file.demux(subtitles=0) if p.size]
    assert [(p.pts, p.duration) for p in packets] == [(500, 500), (1000, 1000), (2000, 1000)]
    assert html.unescape(bytes(packets[1]).decode()) == "scene: R&B <loud>\nsound: a --> b"


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert cues_of([*pair("scene", "street", 500, 1000), *pair("scene", "indoor", 9000, 9500)]) == [
        ("00:00:00.500", "00:00:01.000", "scene: street"),
        ("00:00:09.000", "00:00:09.500", "scene: indoor"),
    ]
    assert CueWriter(HEADS, plain()).flush() == []


def test_times_have_hours_and_are_cut_to_the_millisecond() -> None:
    events = pair("scene", "street", 100 * 3_600_000 + 59 * 60_000 + 59_999, 101 * 3_600_000)
    (block,) = CueWriter(HEADS, plain()).push(events, 0) or _flushed(events)
    assert block == "100:59:59.999 --> 101:00:00.000\nscene: street\n\n"
    odd = [
        dataclasses.replace(e, start_ns=1, end_ns=e.end_ns and 999_999) for e in pair("scene", "street", 0, 1)
    ]
    assert _flushed(odd) == []


def _flushed(events: list[Event]) -> list[str]:
    writer = CueWriter(HEADS, plain())
    return [*writer.push(events, 0), *writer.flush()]


@pytest.mark.parametrize(
    "label",
    [
        "a --> b",
        "R&B <b>loud</b>",
        "two\nlines\n\nNOTE no",
        "00:00.000 --> 00:01.000",
        "WEBVTT",
        "&lt;",
        "ü 日本",
    ],
)
def test_label_of_any_text_stays_in_its_cue(label: str) -> None:
    head = HeadSpec("scene", (label, "other"), "softmax", 1.0, 0.5)
    events = [*pair("scene", label, 0, 1000), *pair("scene", "other", 1000, 2000)]
    assert [text for *_, text in cues_of(events, [head])] == [
        f"scene: {' '.join(label.split())}",
        "scene: other",
    ]
    (first, _) = _flushed_for(head, events)
    payload = first.split("\n", 1)[1]
    assert "-->" not in payload
    assert "<" not in payload


def _flushed_for(head: HeadSpec, events: list[Event]) -> list[str]:
    writer = CueWriter([head], plain())
    return [*writer.push(events, 0), *writer.flush()]


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[Label], list[list[Event]], float]:
    """Labels of two heads with the events that each brings; the last list is that of flush()."""
    dwell_s = draw(st.sampled_from([0.0, 0.2, 0.25, 0.5]))
    config = plain(min_dwell_s=dwell_s, heads={"sound": HeadConfig(smoothing_s=0.1, min_dwell_s=dwell_s / 2)})
    labeller, tracker = Labeller(HEADS, config), EventTracker(HEADS, config)
    steps = st.tuples(st.integers(0, 3), st.integers(1, 8))
    labels, told, index, session, offset_ns = [], [], 0, 0, 0
    for choice, ticks in draw(st.lists(steps, min_size=1, max_size=12)):
        if choice == 3:
            offset_ns, index, session = offset_ns + index * HOP_NS + 12_345, 0, session + 1
        for _ in range(ticks):
            head = tick_head(index, session, offset_ns=offset_ns)
            scene = [0.9 if i == choice else 0.05 for i in range(3)]
            sound = [0.9 if i <= choice else 0.05 for i in range(3)]
            (label,) = labeller.push(answer(head, scene=scene, sound=sound))
            labels.append(label)
            told.append(tracker.push(label))
            index += 1
    return labels, [*told, tracker.flush()], dwell_s


def _blocks(writer: CueWriter, labels: list[Label], told: list[list[Event]]) -> list[str]:
    blocks = [
        b for label, events in zip(labels, told, strict=False) for b in writer.push(events, label.head.end_ns)
    ]
    return [*blocks, *writer.push(told[-1], labels[-1].head.end_ns), *writer.flush()]


def _writer(dwell_s: float) -> CueWriter:
    return CueWriter(HEADS, plain(min_dwell_s=dwell_s, heads={"sound": HeadConfig(min_dwell_s=dwell_s / 2)}))


@settings(max_examples=100)
@given(recordings())
def test_cues_written_on_the_way_say_what_the_events_say(made: tuple) -> None:
    labels, told, dwell_s = made
    cues = parsed(VTT_HEADER + "".join(_blocks(_writer(dwell_s), labels, told)))
    ended = [e for events in told for e in events if e.kind == "end"]
    last_ms = 0
    for start, end, _ in cues:
        assert last_ms <= _ms(start) < _ms(end)
        last_ms = _ms(end)
    for label in labels:
        middle_ns = (label.head.start_ns + label.head.end_ns) // 2
        running = [e for e in ended if e.start_ns <= middle_ns < e.end_ns]
        shown = [text for start, end, text in cues if _ms(start) * MS <= middle_ns < _ms(end) * MS]
        wanted = {(e.head, e.label) for e in running}
        assert len(shown) == bool(wanted)
        assert {pair for text in shown for pair in _pairs(text)} == wanted


def _ms(stamp: str) -> int:
    hours, minutes, seconds = stamp.split(":")
    return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1000)


def _pairs(text: str) -> list[tuple[str, str]]:
    lines = [line.split(": ") for line in text.split("\n")]
    return [(head, label) for head, labels in lines for label in labels.split(", ")]


@given(recordings(), st.integers(0, 30))
def test_state_survives_json_exactly(made: tuple, cut: int) -> None:
    labels, told, dwell_s = made
    whole = _blocks(_writer(dwell_s), labels, told)
    first, second = _writer(dwell_s), _writer(dwell_s)
    cut = min(cut, len(labels))
    blocks = [
        b for x, events in zip(labels[:cut], told, strict=False) for b in first.push(events, x.head.end_ns)
    ]
    second.state = msgspec.convert(json.loads(json.dumps(dataclasses.asdict(first.state))), CueState)
    blocks += [
        b
        for x, events in zip(labels[cut:], told[cut:], strict=False)
        for b in second.push(events, x.head.end_ns)
    ]
    blocks += [*second.push(told[-1], labels[-1].head.end_ns), *second.flush()]
    assert blocks == whole


def test_cues_come_as_soon_as_they_are_sure() -> None:
    writer = CueWriter([SCENE], plain(min_dwell_s=0.5))
    assert writer.push([event("new", "scene", "street", 0)], 5 * HOP_NS) == []
    assert writer.push([event("end", "scene", "street", 0, 600)], 7 * HOP_NS) == []
    later = [writer.push([], k * HOP_NS) for k in range(8, 13)]
    assert [len(blocks) for blocks in later] == [0, 0, 0, 0, 1]
