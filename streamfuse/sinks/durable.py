"""Files that are whole or not there: written as `<name>.part`, renamed when complete.

Whole lines only: after any failure, a full disk included, the file ends with a whole line, and the same
write may be tried again. A finished file of the same name stays until its successor is complete.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from streamfuse.clock import SYSTEM
from streamfuse.errors import OutputError, StageError
from streamfuse.sinks.seal import Seal, Sealer, changed_line, read_seal
from streamfuse.types import MS, NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PART = ".part"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that go away when somebody makes room."""
LOCK_NS = 2 * NS
"""How long the file of a run that was just killed is waited for, until its processes are gone."""
RESTART = "--no-resume begins anew"


class Patience(Protocol):
    """What a recording's files do on a full disk: wait for room."""

    def wait(self, path: Path, error: OSError) -> None:
        """Come back when it is worth trying again, or raise."""
        ...

    def over(self, path: Path) -> None:
        """There was room again."""
        ...


def part_path(path: Path) -> Path:
    """Where `path` is written until it is complete."""
    return path.with_name(path.name + PART)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; os.write may take less (measured: 73 of 123 bytes before ENOSPC)."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def prepare_folder(path: Path) -> None:
    """Make the folder of `path` and see that a file can be made in it.

    raises  OutputError before any work is done whose result could not be kept
    """
    with told(path, "the output folder must be one that can be written to"):
        if path.parent.is_file():
            got = "a file of that name"
            raise OutputError("the output folder must be a folder", got=got, where=path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OutputError("an output must be a file", got="a folder of that name", where=path)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))


def finish(path: Path) -> None:
    """Make the written `<name>.part` the file itself: to disk, renamed, and the name to disk."""
    with told(path):
        part = part_path(path)
        _sync_path(part)
        part.replace(path)
        _sync_path(path.parent)


class PartFile:
    """One output while it is written; lock, lines, sync, close.

    resume    what a checkpoint remembers of it: `.part` is cut to that length, and what is cut is kept as
              `<name>.torn-<n>`. None begins anew.
    patience  asked on a full disk, until the write is done; None: OutputError at once
    raises    OutputError: not writable, written by another run, not what its checkpoint remembers
    """

    def __init__(self, path: Path, *, resume: Seal | None = None, patience: Patience | None = None) -> None:
        self.path = path
        self._patience = patience
        prepare_folder(path)
        with told(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(part_path(path), flags, 0o666)
        self._open = True
        self._seal = Sealer()
        try:
            self._lock()
            self._cut(resume)
        except BaseException:
            self._release()
            raise

    @property
    def length(self) -> int:
        """Bytes of whole lines written so far."""
        return self._seal.length

    def seal(self) -> Seal:
        """What is written so far, for a checkpoint."""
        return self._seal.seal()

    def write_line(self, line: str) -> None:
        """Append `line` and a newline, or nothing."""
        self.write(line + "\n")

    def write(self, text: str) -> None:
        """Append `text`, which ends with a newline, or nothing."""
        if not self._open:
            raise StageError("nothing may be written to a closed output", where=self.path)
        data = text.encode("utf-8", "backslashreplace")
        with told(self.path):
            persist(self.path, lambda: self._append(data), self._patience)
        self._seal.push(data)

    def sync(self) -> int:
        """Put everything written to disk; return the file's length. Any thread may call it, until close()."""
        with told(self.path):
            os.fsync(self._fd)
            return os.fstat(self._fd).st_size  # of an overlay FFmpeg writes the bytes, by the file's path

    def close(self, complete: bool) -> None:
        """End the output: complete, it gets its name; else only `.part` is left. Once closed, it stays so."""
        if not self._open:
            return
        try:
            self.sync()
            if complete:
                finish(self.path)
        finally:
            self._release()

    def _append(self, data: bytes) -> None:
        """Write all of `data`, or nothing. Raises OSError."""
        try:
            write_all(self._fd, data)
        except OSError:
            # The torn tail goes, so that a reader, a resume and a second try all see whole lines.
            os.ftruncate(self._fd, self.length)
            os.lseek(self._fd, self.length, os.SEEK_SET)
            raise

    def _lock(self) -> None:
        until_ns = SYSTEM.monotonic_ns() + LOCK_NS
        while not self._try_lock():
            if SYSTEM.monotonic_ns() >= until_ns:
                raise OutputError(
                    "an output must be written by one run only",
                    got="a file that another run is writing",
                    where=part_path(self.path),
                    hint="wait for that run, or choose another output folder",
                )
            SYSTEM.sleep_ns(50 * MS)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _cut(self, resume: Seal | None) -> None:
        length = 0 if resume is None else resume.length
        with told(self.path):
            size = os.fstat(self._fd).st_size
            if resume is not None:
                self._check(resume, size)
            if length and size > length:
                self._keep_torn(length, size)
            os.ftruncate(self._fd, length)
            os.lseek(self._fd, length, os.SEEK_SET)

    def _check(self, resume: Seal, size: int) -> None:
        """Read what the checkpoint speaks of once more; OutputError where it is something else."""
        part = part_path(self.path)
        if size < resume.length:
            rule = f"an unfinished output must hold the {resume.length} bytes of its checkpoint"
            raise OutputError(rule, got=f"{size} bytes", where=part, hint=RESTART)
        self._seal = read_seal(part, resume.length)
        now = self._seal.seal()
        if now != resume:
            number = changed_line(resume, now) or _line_that_is_no_json(part, resume.lines)
            where = f"line {number}" if number else f"some of its {resume.lines} lines"
            rule = "an unfinished output must be as its checkpoint remembers it"
            raise OutputError(rule, got=f"other bytes in {where}", where=part, hint=RESTART)

    def _keep_torn(self, length: int, size: int) -> None:
        tail = os.pread(self._fd, size - length, length)
        for number in range(1, 10_000):
            torn = self.path.with_name(f"{self.path.name}.torn-{number}")
            with suppress(FileExistsError):
                fd = os.open(torn, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    write_all(fd, tail)
                finally:
                    os.close(fd)
                return

    def _release(self) -> None:
        self._open = False
        os.close(self._fd)


@contextmanager
def told(path: Path, rule: str = "an output must be written whole") -> Iterator[None]:
    """Turn an OSError into an OutputError that names the path and the error."""
    try:
        yield
    except OSError as error:
        name = os.strerror(error.errno) if error.errno else str(error)
        raise OutputError(rule, got=f"errno {error.errno} ({name})", where=path) from error


def persist(path: Path, write: Callable[[], None], patience: Patience | None) -> None:
    """Write; on a full disk again and again, for as long as `patience` has it so. Raises OSError.

    write  all or nothing; raises OSError
    """
    waited = False
    while True:
        try:
            write()
            break
        except OSError as error:
            if patience is None or error.errno not in FULL:
                raise
            waited = True
            patience.wait(path, error)
    if waited and patience is not None:
        patience.over(path)


def write_whole(path: Path, text: str) -> None:
    """Write a small file in one go: there whole, or the old one still."""
    file = PartFile(path)
    try:
        file.write(text)
    except BaseException:
        file.close(complete=False)
        raise
    file.close(complete=True)


def replace_file(path: Path, data: bytes) -> None:
    """Put a small file of our own in the place of the old one, at once and to disk. Raises OSError."""
    new = part_path(path)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    new.replace(path)
    _sync_path(path.parent)


def _line_that_is_no_json(part: Path, lines: int) -> int | None:
    """The first line that could not be one of ours, in a file of JSON lines."""
    if ".jsonl" not in part.suffixes:
        return None
    with part.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line)
            except ValueError:
                return number
            if number == lines:
                break
    return None


def _sync_path(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
