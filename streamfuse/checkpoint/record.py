"""The checkpoint of one recording on disk: `.<stem>.checkpoint` beside its outputs.

A line that says what it is, the sha256 of what follows, and that in msgpack with a strict schema. It is
replaced as a whole, so it is the old one or the new one; one that is damaged is refused, never guessed at.
"""

from __future__ import annotations

import errno
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from streamfuse.checkpoint.identity import Identity
from streamfuse.errors import OutputError
from streamfuse.labels.events import EventState
from streamfuse.labels.smooth import LabellerState
from streamfuse.sinks.durable import RESTART, part_path, replace_file, told
from streamfuse.sinks.mark import Mark
from streamfuse.sinks.summary import SharesState
from streamfuse.ticks.resume import ResumePoint

_MAGIC = b"streamfuse.checkpoint/1\n"
_DIGEST_BYTES = 32
_NONE_THERE = frozenset({errno.ENOENT, errno.ENAMETOOLONG})


class Array(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A float32 array, C order, little endian."""

    shape: tuple[int, ...]
    data: bytes


class Analysed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the analysis carries on after the tick `index` of `session`.

    start_ns  time of that tick in the recording
    digests   of the last ticks, oldest first (ticks.resume)
    stepped   ticks since the model's state was new
    model     its state; clips: its last pictures and sounds, where it is one that wants several
    faces     of the face view, where the model has one
    """

    session: int
    index: int
    start_ns: int
    digests: tuple[bytes, ...]
    stepped: int
    model: tuple[Array, ...]
    clips: tuple[tuple[Array, Array], ...]
    faces: bytes

    @property
    def point(self) -> ResumePoint:
        return ResumePoint(self.session, self.index, self.start_ns, self.digests)


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What labels, events and outputs carry on after the same tick.

    start_ns, end_ns  of the recording, what the labels so far span
    marks             output's file name -> where it goes on; those that are made anew have none
    """

    labeller: LabellerState
    events: EventState
    shares: SharesState
    start_ns: int
    end_ns: int
    marks: dict[str, Mark]


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a recording is.

    phase    running: analysed and told (Analysed and Told, encoded) say where to go on.
             closing: all is written, and the outputs named in `sizes` only have to get their names.
             done: they have them
    sizes    output's file name -> bytes
    result   closing and done: what became of it, as JSON, for summary.json
    """

    identity: Identity
    phase: Literal["running", "closing", "done"]
    analysed: bytes = b""
    told: bytes = b""
    sizes: dict[str, int] = {}
    result: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Checkpoint)
_analysed = msgspec.msgpack.Decoder(Analysed)
_told = msgspec.msgpack.Decoder(Told)


class CheckpointFile:
    """The file of the recording whose outputs are `<base>.labels.jsonl` and so on."""

    def __init__(self, base: Path) -> None:
        self.path = base.with_name(f".{base.name}.checkpoint")

    def read(self) -> Checkpoint | None:
        """The checkpoint, or None where there is none. OutputError where it cannot be believed."""
        with told(self.path, "a checkpoint must be readable"):
            try:
                data = self.path.read_bytes()
            except OSError as error:
                if error.errno in _NONE_THERE:
                    return None
                raise
        head = len(_MAGIC) + _DIGEST_BYTES
        body = data[head:]
        whole = data.startswith(_MAGIC) and hashlib.sha256(body).digest() == data[len(_MAGIC) : head]
        if not whole:
            got = "damaged bytes" if data.startswith(_MAGIC[:-2]) else "something else"
            raise OutputError(
                "a checkpoint must be as it was written", got=got, where=self.path, hint=RESTART
            )
        try:
            return _decoder.decode(body)
        except ValueError as error:  # all of msgspec's errors are
            rule = "a checkpoint must be of this version of streamfuse"
            raise OutputError(rule, got=error, where=self.path, hint=RESTART) from error

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint, at once and to disk. Raises OSError; the old one is still there then."""
        body = _encoder.encode(checkpoint)
        replace_file(self.path, _MAGIC + hashlib.sha256(body).digest() + body)

    def remove(self) -> None:
        """Forget the recording: its next run begins anew."""
        with told(self.path, "a checkpoint must be removable"):
            for path in (self.path, part_path(self.path)):
                with suppress(FileNotFoundError):
                    path.unlink()


def encode(state: Analysed | Told) -> bytes:
    return _encoder.encode(state)


def decode_analysed(data: bytes) -> Analysed:
    """Raises OutputError for what is no such state."""
    try:
        return _analysed.decode(data)
    except ValueError as error:
        raise OutputError("a checkpoint holds the state of an analysis", got=error, hint=RESTART) from error


def decode_told(data: bytes) -> Told:
    """Raises OutputError for what is no such state."""
    try:
        return _told.decode(data)
    except ValueError as error:
        raise OutputError("a checkpoint holds the state of the labels", got=error, hint=RESTART) from error
