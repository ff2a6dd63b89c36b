"""Records <-> messages of three parts: topic, header (msgpack, strict), payload (raw bytes).

What decode() gives is whole and within bounds; anything else is a WireError. Nothing is ever unpickled,
no size is taken from a payload, and arrays are views of the received buffer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from streamfuse.errors import WireError
from streamfuse.types import Answer, Carried, Event, Label, SessionStart, Still, Tick
from streamfuse.wire.arrays import Buffer
from streamfuse.wire.headers import (
    MAX_HEADER,
    MAX_PAYLOAD,
    VERSION,
    AnswerHeader,
    Base,
    CarriedHeader,
    Credit,
    End,
    EventHeader,
    Header,
    Hello,
    LabelHeader,
    Order,
    Progress,
    Reply,
    Shutdown,
    StartHeader,
    StillHeader,
    TickHeader,
)
from streamfuse.wire.records import (
    answer_of,
    answer_parts,
    event_of,
    event_parts,
    label_of,
    label_parts,
    still_of,
    still_parts,
    tick_of,
    tick_parts,
)

PARTS = 3
Control = End | Shutdown | Progress | Hello | Credit | Order | Reply
Body = Tick | Answer | Carried | Label | Event | Still | SessionStart | Control

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Header] = msgspec.msgpack.Decoder(Header)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Message:
    """A record, the source it is about, and its place in the sender's sequence."""

    source: str
    seq: int
    body: Body


def encode(message: Message) -> list[bytes]:
    """The three parts of a message. Raises WireError for a record that could not be read back."""
    header, payload = _split(message)
    head = _encoder.encode(header)
    _check_sizes(head, payload)
    return [topic_of(header), head, payload]


def decode(parts: Sequence[Buffer]) -> Message:
    """The message in these parts, which came from outside. Raises WireError, and nothing else."""
    if len(parts) != PARTS:
        raise WireError(f"a message has {PARTS} parts", got=len(parts))
    topic, head, payload = parts
    _check_sizes(head, payload)
    try:
        header = _decoder.decode(head)
    except (ValueError, RecursionError) as error:  # all of msgspec's errors are ValueErrors
        raise WireError("a header must fit its schema", got=printable(str(error))) from error
    if header.v != VERSION or header.seq < 0:
        got = f"version {header.v}, seq {header.seq}"
        raise WireError(f"a message has version {VERSION} and its place in the sequence", got=got)
    if bytes(topic) != topic_of(header):
        raise WireError("the topic must be the header's", got=repr(bytes(topic[:80])), where=topic_of(header))
    return Message(header.source, header.seq, _join(header, payload))


def topic_of(header: Base) -> bytes:
    """kind/source: a subscriber takes a kind, or a kind of one source, by its prefix."""
    return f"{header.__struct_config__.tag}/{header.source}".encode()


def printable(text: str) -> str:
    """Text that came from outside (a container's or a library's), as a header may carry it."""
    return _CONTROL_CHARACTERS.sub(" ", text)[:500]


def _check_sizes(head: Buffer, payload: Buffer) -> None:
    if len(head) > MAX_HEADER:
        raise WireError(f"a header has at most {MAX_HEADER} bytes", got=len(head))
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"a payload has at most {MAX_PAYLOAD} bytes", got=len(payload))


def _split(message: Message) -> tuple[Base, bytes]:
    source, seq, body = message.source, message.seq, message.body
    match body:
        case Tick():
            return tick_parts(seq, body)
        case Answer():
            return answer_parts(seq, body)
        case Label():
            return label_parts(seq, body)
        case Event():
            return event_parts(seq, body)
        case Carried():
            header = CarriedHeader(v=VERSION, source=source, seq=seq, session=body.session, index=body.index)
            return header, body.data
        case Still():
            return still_parts(seq, body)
        case SessionStart():
            return _start_header(source, seq, body), b""
    return msgspec.structs.replace(body, v=VERSION, source=source, seq=seq), b""


def _join(header: Header, payload: Buffer) -> Body:
    match header:
        case TickHeader():
            return tick_of(header, payload)
        case AnswerHeader():
            return answer_of(header, payload)
        case LabelHeader():
            return label_of(header, payload)
        case EventHeader():
            return event_of(header, payload)
        case CarriedHeader():
            return Carried(header.session, header.index, bytes(payload))
        case StillHeader():
            return still_of(header, payload)
    if len(payload):
        raise WireError("a control message has no payload", got=f"{len(payload)} bytes")
    if isinstance(header, StartHeader):
        return SessionStart(
            header.session, header.zero_ns, header.offset_ns, frozenset(header.tracks), header.reason
        )
    return header


def _start_header(source: str, seq: int, start: SessionStart) -> StartHeader:
    return StartHeader(
        v=VERSION,
        source=source,
        seq=seq,
        session=start.session,
        zero_ns=start.zero_ns,
        offset_ns=start.offset_ns,
        tracks=tuple(sorted(start.tracks)),
        reason=printable(start.reason),
    )
