"""Pictures and clips of events: their names, the thread that writes snapshots, the limit of the folder.

<folder>/<source>/2026-01-02T03-04-05.678Z-scene-street.jpg, .mp4
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config_notify import EventFiles
from streamfuse.errors import OutputError
from streamfuse.notify.discovery import identifier
from streamfuse.notify.rules import Place, chosen, place_of
from streamfuse.sinks.durable import part_path, prepare_folder, told, write_all
from streamfuse.types import NS, Event

log = logging.getLogger(__name__)

MAX_WAITING = 64
"""Snapshots that wait for the disk: 13 MB of pictures at the very most."""
MAX_WORD = 48
"""Of a source's, head's or label's name within a file name, which holds 255 bytes."""
_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z-[\w.-]+\.(jpg|mp4)(\.part)?")

NearestPicture = Callable[[str, int, int], bytes | None]
"""Source, session, time in the recording (ns) -> JPEG."""


def event_path(folder: str, event: Event, suffix: str) -> Path | None:
    """Where the picture or clip of an event lies; None where the event has no time of day.

    Words of the event are made safe: whatever a model or a source is called, it stays in the folder.
    """
    if event.time is None or not re.fullmatch(r"[0-9TZ:.-]{20,32}", event.time):
        return None
    name = f"{event.time.replace(':', '-')}-{_word(event.head)}-{_word(event.label)}{suffix}"
    return Path(folder) / _word(event.source) / name


@dataclass(frozen=True, slots=True)
class _Snapshot:
    due_ns: int
    path: Path | None
    event: Event | None


class EventArchive:
    """Names the files of each event, writes its snapshot, and keeps the folder within its size.

    Clips are cut where the packets are, by the decode processes, under the names given here.
    delay_ns  a snapshot is chosen so much later: pictures come a few times a second, and the one that shows
              the beginning may still be on its way
    raises  OutputError where the folder cannot be made or written to
    counts  snapshots; snapshots_missed: no picture, or a disk that is too slow or full; files_removed
    """

    def __init__(
        self,
        config: EventFiles,
        sources: Sequence[str],
        nearest: NearestPicture,
        *,
        delay_ns: int = 0,
        clock: Clock = SYSTEM,
    ) -> None:
        self._config, self._nearest = config, nearest
        self._delay_ns, self._clock = delay_ns, clock
        self._closing = threading.Event()
        self._named: dict[Place, tuple[str | None, str | None]] = {}
        self._waiting: queue.Queue[_Snapshot | None] = queue.Queue(MAX_WAITING)
        """An empty one: only the folder's size is to be seen to."""
        self.counts: Counter[str] = Counter(snapshots=0, snapshots_missed=0, files_removed=0)
        self._last_trouble = ""
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        if config.folder is not None:
            for source in sources:
                prepare_folder(Path(config.folder) / _word(source) / "file")
            self._thread.start()

    def attach(self, event: Event) -> Event:
        """The event with the paths of its files; its end has those of its beginning. Never waits."""
        place = place_of(event)
        if event.kind == "end":
            snapshot, clip = self._named.pop(place, (None, None))
            return replace(event, snapshot=snapshot, clip=clip)
        if self._config.folder is None or not chosen(self._config, event):
            return event
        clip_path = event_path(self._config.folder, event, ".mp4") if self._config.clips else None
        named = (self._snapshot(event), None if clip_path is None else str(clip_path))
        self._named[place] = named
        return replace(event, snapshot=named[0], clip=named[1])

    def tidy(self) -> None:
        """Let the thread see to the folder's size, where files come from elsewhere too. Never waits."""
        if self._config.cuts_clips and self._waiting.empty():
            self._waiting.put_nowait(_Snapshot(self._clock.monotonic_ns(), None, None))

    def close(self) -> None:
        """Write what waits."""
        self._closing.set()
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _snapshot(self, event: Event) -> str | None:
        folder = self._config.folder
        if folder is None or not self._config.snapshots:
            return None
        path = event_path(folder, event, ".jpg")
        if path is None or self._picture(event) is None:
            self.counts["snapshots_missed"] += 1
            return None
        try:
            self._waiting.put_nowait(_Snapshot(self._clock.monotonic_ns() + self._delay_ns, path, event))
        except queue.Full:
            self.counts["snapshots_missed"] += 1
            return None
        return str(path)

    def _picture(self, event: Event) -> bytes | None:
        return self._nearest(event.source, event.session, event.start_ns)

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            self._closing.wait(max(0, item.due_ns - self._clock.monotonic_ns()) / NS)
            try:
                self._write(item)
                self.counts["files_removed"] += trim(Path(self._config.folder or ""), self._config.max_bytes)
            except OutputError as error:
                self.counts["snapshots_missed"] += item.path is not None
                if str(error) != self._last_trouble:
                    self._last_trouble = str(error)
                    log.error("%s", error)

    def _write(self, item: _Snapshot) -> None:
        if item.path is None or item.event is None:
            return
        picture = self._picture(item.event)
        if picture is None:
            raise OutputError("a snapshot needs a picture of its session", got="none", where=item.path)
        write_file(item.path, picture)
        self.counts["snapshots"] += 1


def write_file(path: Path, data: bytes) -> None:
    """Write a picture or a clip: there whole or not at all. Raises OutputError."""
    part = part_path(path)
    with told(path, "a picture or clip of an event must be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            # The process that cuts clips keeps all else to itself; these are for who may look in the folder.
            os.fchmod(fd, path.parent.stat().st_mode & 0o666)
            write_all(fd, data)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        part.replace(path)


def trim(folder: Path, max_bytes: int) -> int:
    """Remove the oldest of our files until the rest fits; return how many. Other files are left alone.

    raises  OutputError
    """
    with told(folder, "the folder of the events' files must be one that can be written to"):
        files = [
            (entry.stat(follow_symlinks=False), entry.path)
            for source in (os.scandir(folder) if folder.is_dir() else ())
            if source.is_dir(follow_symlinks=False)
            for entry in os.scandir(source.path)
            if entry.is_file(follow_symlinks=False) and _OURS.fullmatch(entry.name)
        ]
        left, removed = sum(stat.st_size for stat, _ in files), 0
        for stat, path in sorted(files, key=lambda file: (file[0].st_mtime_ns, file[1])):
            if left <= max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            left, removed = left - stat.st_size, removed + 1
    return removed


def _word(text: str) -> str:
    """A name within a file name: letters, digits, _ and -; names that differ stay different."""
    word = identifier(text)
    return word if len(word) <= MAX_WORD else f"{word[:MAX_WORD]}_{identifier(text + '/')[-8:]}"
