"""Files that are whole or not there: written as `<name>.part`, renamed when complete.

Whole lines only: after any failure, a full disk included, the file ends with a whole line, and the same
write may be tried again. A finished file of the same name stays until its successor is complete.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from streamfuse.errors import OutputError, StageError

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = ".part"


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

    resume_at  the length a checkpoint remembers: `.part` is cut to it, and what is cut is kept as
               `<name>.torn-<n>`. None begins anew.
    raises     OutputError: not writable, written by another run, shorter than its checkpoint
    """

    def __init__(self, path: Path, *, resume_at: int | None = None) -> None:
        self.path = path
        prepare_folder(path)
        part = part_path(path)
        if resume_at is not None and not part.exists() and _size(path) == resume_at:
            # The run ended between the renames of two outputs: this one was complete already.
            path.rename(part)
        with told(path):
            self._fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self._open = True
        try:
            self._lock()
            self._cut(resume_at or 0)
        except BaseException:
            self._release()
            raise

    @property
    def length(self) -> int:
        """Bytes of whole lines written so far."""
        return self._length

    def write_line(self, line: str) -> None:
        """Append `line` and a newline, or nothing."""
        self.write(line + "\n")

    def write(self, text: str) -> None:
        """Append `text`, which ends with a newline, or nothing."""
        if not self._open:
            raise StageError("nothing may be written to a closed output", where=self.path)
        data = text.encode("utf-8", "backslashreplace")
        with told(self.path):
            try:
                write_all(self._fd, data)
            except OSError:
                # The torn tail goes, so that a reader, a resume and a second try all see whole lines.
                with suppress(OSError):
                    os.ftruncate(self._fd, self._length)
                    os.lseek(self._fd, self._length, os.SEEK_SET)
                raise
        self._length += len(data)

    def sync(self) -> int:
        """Put everything written to disk; return the length, for a checkpoint."""
        with told(self.path):
            os.fsync(self._fd)
        return self._length

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

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                "an output must be written by one run only",
                got="a file that another run is writing",
                where=part_path(self.path),
                hint="wait for that run, or choose another output folder",
            ) from error

    def _cut(self, length: int) -> None:
        with told(self.path):
            size = os.fstat(self._fd).st_size
            if size < length:
                raise OutputError(
                    f"an unfinished output must hold the {length} bytes of its checkpoint",
                    got=f"{size} bytes",
                    where=part_path(self.path),
                    hint="remove the checkpoint to start over",
                )
            if length and size > length:
                self._keep_torn(length, size)
            os.ftruncate(self._fd, length)
            os.lseek(self._fd, length, os.SEEK_SET)
        self._length = length

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


def write_whole(path: Path, text: str) -> None:
    """Write a small file in one go: there whole, or the old one still."""
    file = PartFile(path)
    try:
        file.write(text)
    except BaseException:
        file.close(complete=False)
        raise
    file.close(complete=True)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _sync_path(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
