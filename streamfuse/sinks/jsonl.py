"""Labels and events as JSON lines: files of a recording, rotating files of a camera, standard output."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, ClassVar, TextIO

from streamfuse.errors import OutputError
from streamfuse.labels.lines import event_line, label_line
from streamfuse.sinks.durable import PartFile, Patience, prepare_folder, told, write_all
from streamfuse.sinks.mark import Mark

if TYPE_CHECKING:
    from pathlib import Path

    from streamfuse.types import Event, Label


log = logging.getLogger(__name__)

SYNCING = 8
"""Files of one camera on their way to a slow disk; with so many, the current one grows past its limit."""


class LabelLines:
    """`<stem>.labels.jsonl` of a recording: one line per tick."""

    replays: ClassVar[bool] = False

    def __init__(self, path: Path, *, resume: Mark | None = None, patience: Patience | None = None) -> None:
        self.path = path
        self._file = PartFile(path, resume=None if resume is None else resume.seal, patience=patience)

    def write_label(self, label: Label) -> None:
        self._file.write_line(label_line(label))

    def write_event(self, event: Event) -> None:
        """Events have their own file."""

    def mark(self) -> Mark:
        return Mark(self._file.seal())

    def settle(self) -> None:
        """Nothing is held back."""

    def sync(self) -> int:
        return self._file.sync()

    def close(self, complete: bool) -> None:
        self._file.close(complete)


class EventLines:
    """`<stem>.events.jsonl` of a recording: one line when a label begins and one when it ends."""

    replays: ClassVar[bool] = False

    def __init__(self, path: Path, *, resume: Mark | None = None, patience: Patience | None = None) -> None:
        self.path = path
        self._file = PartFile(path, resume=None if resume is None else resume.seal, patience=patience)

    def write_label(self, label: Label) -> None:
        """Labels have their own file."""

    def write_event(self, event: Event) -> None:
        self._file.write_line(event_line(event))

    def mark(self) -> Mark:
        return Mark(self._file.seal())

    def settle(self) -> None:
        """Nothing is held back."""

    def sync(self) -> int:
        return self._file.sync()

    def close(self, complete: bool) -> None:
        self._file.close(complete)


class StreamLines:
    """Labels and events on a text stream (standard output), each line flushed.

    A reader that goes away (`| head`) is no error: `wanted` turns False, and nothing more is written.
    """

    def __init__(self, stream: TextIO | None = None, *, labels: bool = True, events: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._labels, self._events = labels, events
        self.wanted = True

    def write_label(self, label: Label) -> None:
        if self._labels:
            self._write(label_line(label))

    def write_event(self, event: Event) -> None:
        if self._events:
            self._write(event_line(event))

    def close(self, complete: bool) -> None:
        """Nothing to do: every line is out already, and the stream is not ours."""

    def _write(self, line: str) -> None:
        if not self.wanted:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self.wanted = False
            self._discard_buffer()
        except OSError as error:
            raise OutputError("labels must go to standard output", got=error) from error

    def _discard_buffer(self) -> None:
        # What is still buffered would raise again at interpreter exit, after the last handler.
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device, not a path of ours
            os.dup2(nowhere.fileno(), self._stream.fileno())


class RotatingLines:
    """Labels and events of a camera, appended to `<path>` and set aside by size or by day.

    path       the current file, e.g. `door.jsonl`; the older ones are `door.0001.jsonl`, `door.0002.jsonl`..
    max_bytes  a line that would make the file longer begins a new one; None: no limit
    daily      a line of another day (of its own `time`, UTC) begins a new one
    keep       how many older files stay; None: all

    Every line is one write to the file, so whoever follows it sees whole lines. A disk that is full does
    not stop a camera: the line is lost, counted in `lost`, and `trouble` says why until a write succeeds.
    Nor does a slow one: a file that is left is synced in a thread. What could not be synced is logged.
    A file that was moved away or deleted (by logrotate, say), with its folder or alone, is begun again.
    What a crash tore off is cut at the next start.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | None = 100_000_000,
        daily: bool = False,
        keep: int | None = None,
        labels: bool = True,
        events: bool = True,
    ) -> None:
        self.path = path
        self._max_bytes, self._daily, self._keep = max_bytes, daily, keep
        self._labels, self._events = labels, events
        self._fd, self._length = -1, 0
        self._syncing: list[threading.Thread] = []
        self.lost = 0
        self.trouble: str | None = None
        prepare_folder(path)
        with told(path):
            self._open()
            self._cut_torn_line()
            self._day = self._last_day() if daily else None

    def write_label(self, label: Label) -> None:
        if self._labels:
            self._write(label_line(label), label.time)

    def write_event(self, event: Event) -> None:
        if self._events:
            self._write(event_line(event), event.time)

    def close(self, complete: bool) -> None:
        if self._fd < 0:
            return
        if complete:
            self._leave()
        else:
            with told(self.path):
                os.close(self._fd)
        self._fd = -1

    def _write(self, line: str, time: str | None) -> None:
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        day = time[:10] if time is not None and self._daily else self._day
        try:
            if self._fd >= 0 and not self._is_at_its_path():
                os.close(self._fd)
                self._fd, self._length = -1, 0
            if self._must_rotate(len(data), day):
                self._rotate()
            self._day = day
            self._append(data)
        except OSError as error:
            self.lost += 1
            self.trouble = f"errno {error.errno} ({error.strerror})"
        else:
            self.trouble = None

    def _append(self, data: bytes) -> None:
        if self._fd < 0:  # moved or deleted, or the last rotation could not open its new file
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        try:
            write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._length)
            raise
        self._length += len(data)

    def _is_at_its_path(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _must_rotate(self, more: int, day: str | None) -> bool:
        self._syncing = [thread for thread in self._syncing if thread.is_alive()]
        if not self._length or len(self._syncing) >= SYNCING:
            return False
        too_long = self._max_bytes is not None and self._length + more > self._max_bytes
        return too_long or (self._day is not None and day != self._day)

    def _rotate(self) -> None:
        older = self._older()
        number = _number(older[-1]) + 1 if older else 1
        self.path.rename(self.path.with_name(f"{self.path.stem}.{number:04d}{self.path.suffix}"))
        self._leave()
        self._fd, self._length = -1, 0
        self._open()
        if self._keep is not None:
            older = self._older()
            for path in older[: max(0, len(older) - self._keep)]:
                path.unlink()

    def _leave(self) -> None:
        """Sync and close the file in a thread; a process does not end before it has."""
        thread = threading.Thread(target=self._sync, args=(self._fd,), name=f"sync {self.path.name}")
        thread.start()
        self._syncing.append(thread)

    def _sync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            log.error("a file that is set aside may not outlive a power cut: %s [%s]", error, self.path)
        finally:
            os.close(fd)

    def _older(self) -> list[Path]:
        """The files set aside, oldest first."""
        start, suffix = self.path.stem + ".", self.path.suffix
        found = [
            path
            for path in self.path.parent.iterdir()
            if path.name.startswith(start)
            and path.suffix == suffix
            and path.name[len(start) :].count(".") == 1
        ]
        return sorted((path for path in found if _number(path) > 0), key=_number)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o666)
        self._length = os.fstat(self._fd).st_size

    def _cut_torn_line(self) -> None:
        tail = self._tail()
        if tail and not tail.endswith(b"\n"):
            self._length -= len(tail) - (tail.rfind(b"\n") + 1)
            os.ftruncate(self._fd, self._length)

    def _last_day(self) -> str | None:
        """The day of the last line that is there, so that a restart at midnight still rotates."""
        _, found, rest = self._tail().rpartition(b'"time":"')
        return rest[:10].decode("ascii", "replace") if found else None

    def _tail(self) -> bytes:
        # A line is a few kB; one longer than this is none of ours.
        start = max(0, self._length - 1_000_000)
        return os.pread(self._fd, self._length - start, start)


def _number(path: Path) -> int:
    """The number in `door.0007.jsonl`, or 0."""
    digits = path.stem.rpartition(".")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
