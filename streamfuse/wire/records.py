"""Ticks, answers, labels and events <-> header and payload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from streamfuse.errors import StreamfuseError, WireError
from streamfuse.labels.lines import event_from_line, event_line, label_from_line, label_line
from streamfuse.types import Answer, Event, Face, Label, Picture, Stamp, Still, Tick, TickHead, Trace
from streamfuse.wire.arrays import Buffer, check_planes, floats, pack, unpack
from streamfuse.wire.headers import (
    VERSION,
    AnswerHeader,
    EventHeader,
    LabelHeader,
    PictureHeader,
    StampRow,
    StillHeader,
    TickHeader,
    TickPart,
)

Record = TypeVar("Record", Label, Event)


def tick_parts(seq: int, tick: Tick) -> tuple[TickHeader, bytes]:
    picture = None if tick.picture is None else tick.picture.on_host()
    looks = None
    if picture is not None:
        looks = PictureHeader(picture.chroma, picture.matrix, picture.full_range, picture.pixel_aspect)
    blocks, payload = pack([tick.samples, *(() if picture is None else picture.planes)])
    return TickHeader(**_head_fields(seq, tick.head), blocks=blocks, picture=looks), payload


def tick_of(header: TickHeader, payload: Buffer) -> Tick:
    arrays = unpack(header.blocks, payload)
    if not arrays:
        raise WireError("a tick begins with its samples", got="no block")
    samples, *planes = arrays
    looks, picture = header.picture, None
    if looks is not None:
        check_planes(looks.chroma, header.blocks[1:])
        picture = Picture(tuple(planes), looks.chroma, looks.matrix, looks.full_range, looks.pixel_aspect)  # type: ignore[arg-type]
    elif planes:
        raise WireError("a tick without a picture has no planes", got=len(planes))
    if (picture is None) != (header.video == "missing"):
        raise WireError("a tick has a picture unless its video is missing", got=header.video)
    return Tick(_head(header), picture, floats(samples, "samples"))


def answer_parts(seq: int, answer: Answer) -> tuple[AnswerHeader, bytes]:
    blocks, payload = pack(answer.probabilities.values())
    header = AnswerHeader(
        **_head_fields(seq, answer.head),
        blocks=blocks,
        heads=tuple(answer.probabilities),
        views=answer.views,
        warm=answer.warm,
        face=None if answer.face is None else (*answer.face.box, answer.face.score),
    )
    return header, payload


def answer_of(header: AnswerHeader, payload: Buffer) -> Answer:
    arrays = unpack(header.blocks, payload)
    if len(arrays) != len(header.heads) or len(set(header.heads)) != len(header.heads):
        raise WireError(
            "an answer has one block per head", got=f"{len(arrays)} for {', '.join(header.heads)}"
        )
    scores = {name: floats(a, "probabilities") for name, a in zip(header.heads, arrays, strict=True)}
    if any(a.min() < 0 or a.max() > 1 for a in scores.values()):
        raise WireError("probabilities lie in 0..1")
    face = None if header.face is None else Face(header.face[:4], header.face[4])
    return Answer(_head(header), scores, dict(header.views), header.warm, face)


def label_parts(seq: int, label: Label) -> tuple[LabelHeader, bytes]:
    head, trace = label.head, label.head.trace
    header = LabelHeader(
        v=VERSION,
        source=head.source,
        seq=seq,
        session=head.session,
        pts_ns=head.start_ns,
        dur_ns=head.hop_ns,
        video_arrival_ns=trace.video_arrival_ns,
        audio_arrival_ns=trace.audio_arrival_ns,
        stamps=_rows(trace),
    )
    return header, label_line(label).encode()


def label_of(header: LabelHeader, payload: Buffer) -> Label:
    label = _from_line(label_from_line, payload)
    if (label.head.source, label.head.session) != (header.source, header.session):
        raise WireError("a label's line says what its header says", got=repr(label.head.source))
    return replace(label, head=replace(label.head, trace=_trace(header)))


def event_parts(seq: int, event: Event) -> tuple[EventHeader, bytes]:
    pts_ns = event.start_ns if event.end_ns is None else event.end_ns
    header = EventHeader(v=VERSION, source=event.source, seq=seq, session=event.session, pts_ns=pts_ns)
    return header, event_line(event).encode()


def event_of(header: EventHeader, payload: Buffer) -> Event:
    event = _from_line(event_from_line, payload)
    if (event.source, event.session) != (header.source, header.session):
        raise WireError("an event's line says what its header says", got=repr(event.source))
    return event


def still_parts(seq: int, still: Still) -> tuple[StillHeader, bytes]:
    header = StillHeader(
        v=VERSION,
        source=still.source,
        seq=seq,
        session=still.session,
        pts_ns=still.pts_ns,
        wall_ns=still.wall_ns,
        width=still.width,
        height=still.height,
    )
    return header, still.jpeg


def still_of(header: StillHeader, payload: Buffer) -> Still:
    jpeg = bytes(payload)
    # Browsers and files take it as it is, so at least nothing else goes by its name.
    if not (jpeg.startswith(b"\xff\xd8\xff") and jpeg.endswith(b"\xff\xd9")):
        raise WireError("a picture is a whole JPEG", got=f"{len(jpeg)} bytes", where=header.source)
    return Still(
        header.source, header.session, header.pts_ns, header.wall_ns, header.width, header.height, jpeg
    )


def _from_line(read: Callable[[str], Record], payload: Buffer) -> Record:
    try:
        return read(bytes(payload).decode())
    except (StreamfuseError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError("the payload must be a line of the schema", got=str(error)[:200]) from error


def _head_fields(seq: int, head: TickHead) -> dict[str, Any]:
    trace = head.trace
    return {
        "v": VERSION,
        "source": head.source,
        "seq": seq,
        "session": head.session,
        "index": head.index,
        "pts_ns": head.start_ns,
        "dur_ns": head.hop_ns,
        "video": head.video,
        "audio": head.audio,
        "partial": head.partial,
        "dropped": head.dropped,
        "skew_ns": head.skew_ns,
        "wall_ns": head.wall_ns,
        "video_arrival_ns": trace.video_arrival_ns,
        "audio_arrival_ns": trace.audio_arrival_ns,
        "stamps": _rows(trace),
    }


def _head(header: TickPart) -> TickHead:
    return TickHead(
        source=header.source,
        session=header.session,
        index=header.index,
        offset_ns=header.pts_ns - header.index * header.dur_ns,
        hop_ns=header.dur_ns,
        video=header.video,
        audio=header.audio,
        partial=header.partial,
        dropped=header.dropped,
        skew_ns=header.skew_ns,
        wall_ns=header.wall_ns,
        trace=_trace(header),
    )


def _rows(trace: Trace) -> tuple[StampRow, ...]:
    return tuple((s.stage, s.enqueue_ns, s.start_ns, s.end_ns) for s in trace.stamps)


def _trace(header: TickPart | LabelHeader) -> Trace:
    stamps = tuple(Stamp(*row) for row in header.stamps)
    return Trace(header.video_arrival_ns, header.audio_arrival_ns, stamps)
