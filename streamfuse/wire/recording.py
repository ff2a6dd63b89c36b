"""What decode processes send, kept in files; the format is described in docs/replay.md.

    DIR/recording.json            the model and the settings with which it was made
    DIR/<source>/000001.ticks     records, one after the other
    DIR/<source>/000001.index     24 bytes for each: where it is, when, which session, what

A record is its length and its CRC-32, little-endian, then msgpack: monotonic ns, wall ns, how many were lost
directly before it, and the message's three parts as they were sent.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from streamfuse.clock import Clock
from streamfuse.errors import WireError
from streamfuse.types import NS, SessionStart, Tick
from streamfuse.wire.codec import Body, Message, decode
from streamfuse.wire.headers import MAX_HEADER, MAX_PAYLOAD, End

log = logging.getLogger(__name__)

MAGIC = b"streamfuse ticks 1\n"
MAX_RECORD = MAX_HEADER + MAX_PAYLOAD + 1024
WAITING = 64
"""Records that wait for the disk: 6 s of a source, 20 MB of the usual pictures."""
PARTS_OF_BOUND = 16
"""A segment is this share of the bound, so that about so much goes when the oldest is removed."""

MAX_SESSION = 2**32 - 1
"""As the index has room for it."""

_PREFIX = struct.Struct("<II")
_ENTRY = struct.Struct("<QqII")
_KINDS: dict[type, int] = {Tick: 0, SessionStart: 1, End: 2}

_Row = tuple[int, int, int, bytes, bytes, bytes]
_encode = msgspec.msgpack.Encoder().encode
_rows: msgspec.msgpack.Decoder[_Row] = msgspec.msgpack.Decoder(_Row)


@dataclass(frozen=True, slots=True)
class Entry:
    """One record. lost: how many directly before it could not be written."""

    monotonic_ns: int
    wall_ns: int
    lost: int
    message: Message


@dataclass(frozen=True, slots=True)
class IndexEntry:
    offset: int
    wall_ns: int
    session: int
    kind: int

    @property
    def begins_session(self) -> bool:
        return self.kind == _KINDS[SessionStart]


@dataclass(frozen=True, slots=True)
class _Waiting:
    monotonic_ns: int
    wall_ns: int
    session: int
    kind: int
    parts: Sequence[bytes]


class Recorder:
    """Writes one source's messages in a thread of its own; whoever sends never waits for the disk.

    max_bytes, max_s  what is older goes, a segment at a time
    counts            recorded, record_lost (a disk that is too slow or full)
    """

    def __init__(
        self, folder: Path, source: str, *, max_bytes: int, max_s: float | None, clock: Clock
    ) -> None:
        self._folder, self._clock = folder / _folder_name(source), clock
        self._max_bytes, self._max_ns = max_bytes, None if max_s is None else round(max_s * NS)
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(WAITING)
        self._last: tuple[int, int] = (-1, -1)
        self._missed = self._failed = self._told = 0
        """Counted by the sender; by the thread; of both, those that a record has told."""
        self._trouble = ""
        self.counts: Counter[str] = Counter(recorded=0, record_lost=0)
        self._segment: _Segment | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def take(self, body: Body, parts: Sequence[bytes]) -> None:
        """Keep a message that was sent; one that is sent a second time is not kept again. Never waits."""
        if not isinstance(body, Tick | SessionStart | End):
            return
        if isinstance(body, Tick | SessionStart):
            place = (body.head.session, body.head.index) if isinstance(body, Tick) else (body.session, -1)
            if place <= self._last:
                return
            self._last = place
        times = self._clock.monotonic_ns(), self._clock.wall_ns()
        try:
            session = min(max(0, self._last[0]), MAX_SESSION)
            self._waiting.put_nowait(_Waiting(*times, session, _KINDS[type(body)], parts))
        except queue.Full:
            self._missed += 1
            self.counts["record_lost"] += 1

    def close(self) -> None:
        """Write what waits."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            gone = self._missed + self._failed
            try:
                self._write(item, gone - self._told)
            except OSError as error:
                self._failed += 1
                self.counts["record_lost"] += 1
                if self._trouble != str(error):
                    self._trouble = str(error)
                    log.error("recording: %s", error)
            else:
                self._told = gone
                self.counts["recorded"] += 1
        if self._segment is not None:
            self._segment.close()

    def _write(self, item: _Waiting, lost: int) -> None:
        data = _encode((item.monotonic_ns, item.wall_ns, lost, *item.parts))
        if self._segment is None or self._segment.length + len(data) > self._max_bytes // PARTS_OF_BOUND:
            self._begin_segment(item.wall_ns)
        segment = self._segment
        if segment is not None:
            segment.append(data, _ENTRY.pack(segment.length, item.wall_ns, item.session, item.kind))

    def _begin_segment(self, wall_ns: int) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        self._folder.mkdir(parents=True, exist_ok=True)
        old = segments(self._folder)
        number = int(old[-1].stem) + 1 if old else 1
        self._segment = _Segment(self._folder / f"{number:06}.ticks")
        self._remove_old(old, wall_ns)

    def _remove_old(self, old: list[Path], wall_ns: int) -> None:
        room = self._max_bytes - self._max_bytes // PARTS_OF_BOUND
        total = sum(path.stat().st_size for path in old)
        for path in old:
            info = path.stat()
            aged = self._max_ns is not None and info.st_mtime_ns < wall_ns - self._max_ns
            if total <= room and not aged:
                break
            path.with_suffix(".index").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            total -= info.st_size


class _Segment:
    """One pair of files. After a failed write it ends with a whole record still."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._data = os.open(path, flags, 0o600)
        self._index = os.open(path.with_suffix(".index"), flags, 0o600)
        self.length = 0
        self._entries = 0
        self._put(self._data, MAGIC, 0)
        self.length = len(MAGIC)

    def append(self, data: bytes, entry: bytes) -> None:
        record = _PREFIX.pack(len(data), zlib.crc32(data)) + data
        self._put(self._data, record, self.length)
        self.length += len(record)
        # The records stand without their index, so its loss is none of theirs.
        self._put(self._index, entry, self._entries * _ENTRY.size)
        self._entries += 1

    def close(self) -> None:
        os.close(self._data)
        os.close(self._index)

    def _put(self, fd: int, data: bytes, at: int) -> None:
        view, offset = memoryview(data), at
        try:
            while view:
                written = os.pwrite(fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError:
            os.ftruncate(fd, at)
            raise


def sources_in(folder: Path) -> dict[str, Path]:
    """The recorded sources and their folders, by name."""
    return {unquote(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}


def _folder_name(source: str) -> str:
    """A source's name as a folder's: one that sources_in() reads back, and never `..`."""
    name = quote(source, safe=" ")
    return name if name.strip(".") else name.replace(".", "%2E")


def segments(folder: Path) -> list[Path]:
    """A source's segments, oldest first."""
    return sorted(path for path in folder.glob("*.ticks") if path.stem.isdecimal())


def read_index(segment: Path) -> list[IndexEntry]:
    """The index of a segment; of an index that is not whole, what is there."""
    path = segment.with_suffix(".index")
    data = path.read_bytes() if path.is_file() else b""
    whole = len(data) - len(data) % _ENTRY.size
    return [IndexEntry(*row) for row in _ENTRY.iter_unpack(data[:whole])]


def read_segment(segment: Path, offset: int | None = None) -> Iterator[Entry | WireError]:
    """The records of a segment from `offset` on, in order; an error for what is not whole.

    offset  of a record, from the index
    """
    with segment.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            yield WireError("a segment begins with its magic", got="other bytes", where=segment)
            return
        at = file.seek(offset or len(MAGIC))
        size = os.fstat(file.fileno()).st_size
        while at < size:
            prefix = file.read(_PREFIX.size)
            length, crc = _PREFIX.unpack(prefix) if len(prefix) == _PREFIX.size else (size, 0)
            data = file.read(length) if length <= min(MAX_RECORD, size - at) else b""
            if len(data) != length or zlib.crc32(data) != crc:
                rest = f"{size - at} bytes that are not"
                yield WireError("a segment is whole records", got=rest, where=f"{segment} at {at}")
                return
            at += _PREFIX.size + length
            yield _entry(data, f"{segment} at {at}")


def _entry(data: bytes, where: str) -> Entry | WireError:
    try:
        monotonic_ns, wall_ns, lost, *parts = _rows.decode(data)
        return Entry(monotonic_ns, wall_ns, lost, decode(parts))
    except (msgspec.DecodeError, WireError) as error:
        return WireError("a record is a message of this version", got=error, where=where)
