"""A disk that fails on purpose: the n-th write, fsync, rename, truncation or opening of chosen files.

In this process:

    with broken_disk("write:ENOSPC:3-5", path=".jsonl") as disk:   # the 3rd to 5th write of *.jsonl fail
        ...
    disk.calls["write"]            how many there were: loop the fault over every one of them

In a child (every Python child, services too) by its environment:

    env = child_environment("fsync:EIO:2", "write:TORN:7", path="labels", journal=folder / "journal")
    ...                            kill the child, then, as a machine that lost its power would have it:
    discard_unsynced(output, folder / "journal")

or let it be full while the test wants it to be, with the file `switch` and no longer:

    env = child_environment(path="labels", full=folder / "switch")

A fault is `operation:error:first[-last]`, counted from 1 over the files whose path holds `path`. Operations:
write, fsync, rename (os.replace, os.rename), truncate, open (for writing). Errors: any errno's name, and
SHORT (half of the data is taken, as POSIX allows), KILL (the process dies before it), TORN (dies half-way),
SLOW (an fsync that takes SLOW_S, a write that takes SLOW_WRITE_S, and succeeds), TERM (the process is asked
to stop, and the call succeeds).

Only what goes through `os` is touched, as all of our durable writing does. It needs nothing but the
standard library, so that a child's sitecustomize.py can load it before everything else.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INJECT = Path(__file__).with_name("inject")
"""Holds the sitecustomize.py that children read."""
FAULTS, PATH, JOURNAL = "DISK_FAULTS", "DISK_FAULTS_PATH", "DISK_JOURNAL"
FULL = "DISK_FULL"


@dataclass(frozen=True)
class Fault:
    operation: str
    error: str
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Fault:
        operation, error, numbers = text.split(":")
        first, _, last = numbers.partition("-")
        if operation not in _OPERATIONS or (error not in _SPECIAL and not hasattr(errno, error)):
            raise ValueError(f"a fault is operation:error:first[-last], got {text!r}")
        return cls(operation, error, int(first), int(last or first))


_OPERATIONS = frozenset({"write", "fsync", "rename", "truncate", "open"})
_SPECIAL = frozenset({"SHORT", "KILL", "TORN", "SLOW", "TERM"})
SLOW_S, SLOW_WRITE_S = 5.0, 0.03


@dataclass
class Disk:
    """The patched calls of one process.

    full  while this file is there, there is no room; as a real disk, it takes a part of some writes
    """

    faults: tuple[Fault, ...]
    path: str = ""
    journal: Path | None = None
    full: Path | None = None
    calls: Counter[str] = field(default_factory=Counter)
    real: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def install(self) -> None:
        for name in ("write", "fsync", "fdatasync", "replace", "rename", "ftruncate", "open"):
            self.real[name] = getattr(os, name)
        os.write = self._write  # type: ignore[assignment]
        os.fsync = self._fsync  # type: ignore[assignment]
        os.fdatasync = self._fsync  # type: ignore[assignment]
        os.replace = lambda a, b, **k: self._rename("replace", a, b, **k)  # type: ignore[assignment]
        os.rename = lambda a, b, **k: self._rename("rename", a, b, **k)  # type: ignore[assignment]
        os.ftruncate = self._truncate  # type: ignore[assignment]
        os.open = self._open  # type: ignore[assignment]

    def remove(self) -> None:
        for name, call in self.real.items():
            setattr(os, name, call)

    def _hit(self, operation: str, path: str) -> str | None:
        """The error for this call, if it is one that fails."""
        if self.path not in path or not path.startswith("/"):
            return None
        self.calls[operation] += 1
        number = self.calls[operation]
        for fault in self.faults:
            if fault.operation == operation and fault.first <= number <= fault.last:
                if fault.error != "TERM":
                    return fault.error
                os.kill(os.getpid(), signal.SIGTERM)
        if operation == "write" and self.full is not None and self.full.exists():
            return "SHORT" if number % 2 else "ENOSPC"
        return None

    def _fail(self, error: str, path: str) -> None:
        if error in ("KILL", "TORN"):
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)), path)

    def _write(self, fd: int, data: Any) -> int:
        path = _path_of(fd)
        error = self._hit("write", path)
        if error == "SLOW":
            time.sleep(SLOW_WRITE_S)
            error = None
        if error in ("SHORT", "TORN"):
            taken = int(self.real["write"](fd, bytes(data)[: max(1, len(data) // 2)]))
            if error == "SHORT":
                return taken
        if error is not None:
            self._fail(error, path)
        return int(self.real["write"](fd, data))

    def _fsync(self, fd: int) -> None:
        path = _path_of(fd)
        error = self._hit("fsync", path)
        if error == "SLOW":
            time.sleep(SLOW_S)
        elif error is not None:
            self._fail(error, path)
        self.real["fsync"](fd)
        if self.journal is not None and self.path in path:
            info = os.fstat(fd)
            line = f"{info.st_dev} {info.st_ino} {info.st_size}\n".encode()
            out = self.real["open"](self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self.real["write"](out, line)
            os.close(out)

    def _rename(self, name: str, source: Any, target: Any, **more: Any) -> None:
        error = self._hit("rename", os.fspath(target))
        if error is not None:
            self._fail(error, os.fspath(target))
        self.real[name](source, target, **more)

    def _truncate(self, fd: int, length: int) -> None:
        path = _path_of(fd)
        error = self._hit("truncate", path)
        if error is not None:
            self._fail(error, path)
        self.real["ftruncate"](fd, length)

    def _open(self, path: Any, flags: int, *more: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and not isinstance(path, int):
            error = self._hit("open", str(Path(os.fsdecode(path)).absolute()))
            if error is not None:
                self._fail(error, os.fsdecode(path))
        return int(self.real["open"](path, flags, *more, **options))


@contextmanager
def broken_disk(*faults: str, path: str = "", journal: Path | None = None) -> Iterator[Disk]:
    """The faults in this process, for the length of a `with`."""
    disk = Disk(tuple(map(Fault.parse, faults)), path, journal)
    disk.install()
    try:
        yield disk
    finally:
        disk.remove()


def child_environment(
    *faults: str, path: str = "", journal: Path | None = None, full: Path | None = None
) -> dict[str, str]:
    """What to add to a child's environment; its own children inherit it, and count for themselves."""
    for fault in faults:
        Fault.parse(fault)
    places = filter(None, (str(INJECT), os.environ.get("PYTHONPATH", "")))
    told = {FAULTS: " ".join(faults), PATH: path, "PYTHONPATH": os.pathsep.join(places)}
    files = {JOURNAL: journal, FULL: full}
    return told | {name: str(file) for name, file in files.items() if file is not None}


def install_from_environment() -> None:
    """For a child's sitecustomize.py."""
    faults = tuple(map(Fault.parse, os.environ.get(FAULTS, "").split()))
    journal, full = (Path(file) if (file := os.environ.get(name)) else None for name in (JOURNAL, FULL))
    if faults or journal or full:
        Disk(faults, os.environ.get(PATH, ""), journal, full).install()


def discard_unsynced(folder: Path, journal: Path) -> dict[Path, int]:
    """Cut every file below `folder` to the length it had at its last fsync; return what each one lost.

    The worst that a power cut may do to appended data. A file that was never synced loses everything.
    """
    synced: dict[tuple[int, int], int] = {}
    if journal.exists():
        for line in journal.read_text().splitlines():
            device, inode, size = map(int, line.split())
            synced[device, inode] = size
    lost: dict[Path, int] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != journal):
        info = path.stat()
        kept = min(info.st_size, synced.get((info.st_dev, info.st_ino), 0))
        if kept < info.st_size:
            os.truncate(path, kept)
            lost[path] = info.st_size - kept
    return lost


def _path_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115  a Path shares our patched os
    except OSError:
        return ""


if __name__ == "disk_faults":  # loaded by sitecustomize.py
    install_from_environment()
    sys.modules.pop("disk_faults", None)
