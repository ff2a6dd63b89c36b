"""What the page is told, as short as JSON can be: a label is a row of values, not a record with names.

label row   [source, session, tick, time ms, age us | null, dropped, presence, heads, face | null]
    source    its place among the sources of `hello`
    time      wall clock of the tick's end; live labels always have it
    presence  {"video": "ok", ...}
    heads     one [said, top] per head of `hello`: said are the places of the labels that hold now (none:
              unknown), top is [place, score in 1/1000, place, score, ...], best first
    face      [x, y, w, h] in 1/1000 of the picture
event row   [source, session, head, label, "new" | "end", start ms, end ms | null, time ms, peak in 1/1000]
    head      its place; label: its place among the head's labels; start, end: time in the recording
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streamfuse.model.spec import HeadSpec
from streamfuse.types import MS, Event, Face, HeadLabel, Label

Row = list[Any]

AGE = 4
TIME = 3
"""Places in a label row."""


@dataclass(frozen=True, slots=True)
class HeadNames:
    """A head's labels and their places."""

    name: str
    kind: str
    labels: tuple[str, ...]
    places: dict[str, int]


class Rows:
    """Makes rows; the heads are in the order in which `hello` names them."""

    def __init__(self, heads: Sequence[HeadSpec]) -> None:
        self.heads = [
            HeadNames(head.name, head.kind, head.labels, {x: i for i, x in enumerate(head.labels)})
            for head in heads
        ]
        self._place = {head.name: place for place, head in enumerate(self.heads)}

    def tables(self) -> list[dict[str, Any]]:
        return [{"name": head.name, "kind": head.kind, "labels": head.labels} for head in self.heads]

    def label(self, source: int, label: Label) -> Row:
        head = label.head
        age_ns = (label.latency or {}).get("edge_age")
        return [
            source,
            head.session,
            head.index,
            wall_ms(label.time),
            None if age_ns is None else age_ns // 1000,
            head.dropped,
            label.modalities,
            [_head(names, label.heads.get(names.name)) for names in self.heads],
            face_row(label.face),
        ]

    def event(self, source: int, event: Event) -> Row | None:
        """None: of a head or label that this model does not have."""
        place = self._place.get(event.head)
        if place is None or event.label not in self.heads[place].places:
            return None
        return [
            source,
            event.session,
            place,
            self.heads[place].places[event.label],
            event.kind,
            event.start_ns // MS,
            None if event.end_ns is None else event.end_ns // MS,
            wall_ms(event.time),
            round(event.peak * 1000),
        ]


def face_row(face: Face | None) -> Row | None:
    return None if face is None else [round(share * 1000) for share in face.box]


def _head(names: HeadNames, part: HeadLabel | None) -> Row:
    if part is None:
        return [[], []]
    places = names.places
    top: list[int] = []
    for label, score in part.top:
        if label in places:
            top += (places[label], round(score * 1000))
    if part.labels is not None:
        return [[places[label] for label, _ in part.labels if label in places], top]
    return [[places[part.label]] if part.label in places else [], top]


def wall_ms(time: str | None) -> int | None:
    """Milliseconds since 1970 of a label's or event's time."""
    return None if time is None else round(datetime.fromisoformat(time).timestamp() * 1000)
