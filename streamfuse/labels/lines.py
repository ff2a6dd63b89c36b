"""Labels and events as lines of JSON: streamfuse.label/1 and streamfuse.event/1, described in docs/schema.

The lines are ASCII, so no reader's idea of a line end or of an encoding can break them.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Literal

import msgspec

from streamfuse.errors import WireError
from streamfuse.labels.smooth import RESERVED
from streamfuse.types import NS, Event, Face, HeadLabel, Label, TickHead

LABEL_SCHEMA = "streamfuse.label/1"
EVENT_SCHEMA = "streamfuse.event/1"
DECIMALS = 4
"""Of scores."""

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def label_line(label: Label) -> str:
    """One line without its newline. Raises WireError where a score is not finite."""
    head = label.head
    record: dict[str, Any] = {
        "schema": LABEL_SCHEMA,
        "source": head.source,
        "session": head.session,
        "tick": head.index,
    }
    if label.time is not None:
        record["time"] = label.time
    # True division of integers is correctly rounded, so the shortest text of the quotient is the exact
    # one: up to 97 days at a nanosecond.
    record["start_s"], record["end_s"] = head.start_ns / NS, head.end_ns / NS
    for name, part in label.heads.items():
        record[name] = _head_record(part)
    record["modalities"] = label.modalities
    if label.face is not None:
        box = [round(share, DECIMALS) for share in label.face.box]
        record["face"] = {"box": box, "score": round(label.face.score, DECIMALS)}
    record["partial"], record["warm"], record["dropped"] = head.partial, label.warm, head.dropped
    if label.latency is not None:
        record["latency"] = label.latency
    return _line(record, head.source)


def event_line(event: Event) -> str:
    """One line without its newline. Raises WireError where a score is not finite."""
    record: dict[str, Any] = {
        "schema": EVENT_SCHEMA,
        "kind": event.kind,
        "source": event.source,
        "session": event.session,
    }
    if event.time is not None:
        record["time"] = event.time
    record |= {"head": event.head, "label": event.label, "start_s": event.start_ns / NS}
    if event.end_ns is not None:
        record["end_s"] = event.end_ns / NS
    record |= {"peak": round(event.peak, DECIMALS), "mean": round(event.mean, DECIMALS)}
    if event.snapshot is not None:
        record["snapshot"] = event.snapshot
    if event.clip is not None:
        record["clip"] = event.clip
    return _line(record, event.source)


def _line(record: dict[str, Any], source: str) -> str:
    try:
        return _encode(record)
    except ValueError as error:
        raise WireError("a line holds finite numbers only", got=error, where=source) from error


def _head_record(part: HeadLabel) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if part.labels is not None:
        record["labels"] = _rounded(part.labels)
    else:
        score = part.score
        record["label"], record["score"] = part.label, None if score is None else round(score, DECIMALS)
    record["top"] = _rounded(part.top)
    if part.raw is not None:
        record["raw"] = {name: round(value, DECIMALS) for name, value in part.raw.items()}
    return record


def _rounded(pairs: tuple[tuple[str, float], ...]) -> list[tuple[str, float]]:
    return [(name, round(score, DECIMALS)) for name, score in pairs]


Presences = dict[str, Literal["ok", "held", "missing"]]
Scores = tuple[tuple[str, float], ...]


class _FaceRecord(msgspec.Struct, forbid_unknown_fields=True):
    box: tuple[float, float, float, float]
    score: float


class _LabelRecord(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a label line that are not heads."""

    schema: Literal["streamfuse.label/1"]
    source: str
    session: int
    tick: int
    start_s: float
    end_s: float
    modalities: Presences
    partial: bool
    warm: bool
    dropped: int
    time: str | None = None
    latency: dict[str, int] | None = None
    face: _FaceRecord | None = None


class _HeadRecord(msgspec.Struct, forbid_unknown_fields=True):
    top: Scores
    label: str | None = None
    score: float | None = None
    labels: Scores | None = None
    raw: dict[str, float] | None = None


class _EventRecord(msgspec.Struct, forbid_unknown_fields=True):
    schema: Literal["streamfuse.event/1"]
    kind: Literal["new", "end"]
    source: str
    session: int
    head: str
    label: str
    start_s: float
    peak: float
    mean: float
    end_s: float | None = None
    time: str | None = None
    snapshot: str | None = None
    clip: str | None = None


def label_from_line(line: str | bytes) -> Label:
    """The inverse of label_line(), but for what a line does not hold: trace, skew and unrounded scores.

    raises  WireError for a line that is not of streamfuse.label/1
    """
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        parts = {name: fields.pop(name) for name in list(fields) if name not in RESERVED}
        record = msgspec.convert(fields, _LabelRecord)
        heads = {name: msgspec.convert(part, _HeadRecord) for name, part in parts.items()}
    except (msgspec.DecodeError, UnicodeError) as error:
        raise WireError(f"a line of {LABEL_SCHEMA}", got=error) from error
    start_ns, end_ns = _ns(record.start_s), _ns(record.end_s)
    hop_ns = end_ns - start_ns
    head = TickHead(
        source=record.source,
        session=record.session,
        index=record.tick,
        offset_ns=start_ns - record.tick * hop_ns,
        hop_ns=hop_ns,
        video=record.modalities.get("video", "missing"),
        audio=record.modalities.get("audio", "missing"),
        partial=record.partial,
        dropped=record.dropped,
    )
    labels = {n: HeadLabel(p.label, p.score, p.labels, p.top, p.raw) for n, p in heads.items()}
    face = None if record.face is None else Face(record.face.box, record.face.score)
    return Label(head, labels, dict(record.modalities), record.warm, record.time, record.latency, face)


def event_from_line(line: str | bytes) -> Event:
    """The inverse of event_line(). Raises WireError for a line that is not of streamfuse.event/1."""
    try:
        record = msgspec.json.decode(line, type=_EventRecord)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise WireError(f"a line of {EVENT_SCHEMA}", got=error) from error
    end_ns = None if record.end_s is None else _ns(record.end_s)
    return Event(
        kind=record.kind,
        source=record.source,
        session=record.session,
        head=record.head,
        label=record.label,
        start_ns=_ns(record.start_s),
        end_ns=end_ns,
        peak=record.peak,
        mean=record.mean,
        time=record.time,
        snapshot=record.snapshot,
        clip=record.clip,
    )


def _ns(seconds: float) -> int:
    """Back to the integer: over the decimal text, which is exact."""
    return round(Decimal(repr(seconds)) * NS)
