"""Where labels and events go: one file per sink, and the table of those that write a recording's files.

A sink is opened by its constructor, takes labels and events oldest first, and is closed once: complete,
and its file gets its name; not complete, and only `<name>.part` is left. OutputError means that a result
could not be kept; the file is still whole lines then, and the same write may be tried again.

Live sinks, which are no files of a recording: jsonl.StreamLines (standard output), jsonl.RotatingLines,
table.StatusBoard, metrics.Metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streamfuse.config import AppConfig
from streamfuse.media.source import FileSource, Source
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.sinks.csv import LabelTable
from streamfuse.sinks.durable import Patience
from streamfuse.sinks.jsonl import EventLines, LabelLines
from streamfuse.sinks.mark import Mark
from streamfuse.sinks.page import PageFacts, TimelinePage
from streamfuse.sinks.vtt import Subtitles
from streamfuse.types import Event, Label


class Sink(Protocol):
    """Takes labels and events."""

    def write_label(self, label: Label) -> None: ...
    def write_event(self, event: Event) -> None: ...
    def close(self, complete: bool) -> None: ...


class FileSink(Sink, Protocol):
    """A sink of one file of a recording.

    path     the file when it is complete
    replays  it cannot be appended to: a resumed run opens it anew and first gives it all labels and events
             from before the checkpoint. The others go on from their mark.
    """

    @property
    def path(self) -> Path: ...
    @property
    def replays(self) -> bool: ...

    def mark(self) -> Mark | None:
        """What a checkpoint remembers of it; None: it replays."""
        ...

    def settle(self) -> None:
        """Write what was held back: nothing more comes. close(complete=True) does it too."""
        ...

    def sync(self) -> int:
        """Put to disk what is written, and return its length in bytes. Another thread may call it."""
        ...


@dataclass(frozen=True, slots=True)
class Recording:
    """What the sinks know of a recording beside its labels.

    span      part of it that is analysed, (from, to) in nanoseconds of file time
    patience  what its files do on a full disk
    """

    source: Source
    model: str
    heads: tuple[HeadSpec, ...]
    config: AppConfig = field(default_factory=AppConfig)
    span: tuple[int, int | None] | None = None
    patience: Patience | None = None

    @property
    def media(self) -> Path | None:
        return self.source.path if isinstance(self.source, FileSource) else None

    @property
    def page_facts(self) -> PageFacts:
        name = self.media.name if self.media else self.source.display
        return PageFacts(name, self.model, self.media)


@dataclass(frozen=True, slots=True)
class SinkKind:
    """suffix: the file is `<stem><suffix>`; open: its path, the recording, its mark -> the sink."""

    suffix: str
    open: Callable[[Path, Recording, Mark | None], FileSink]


# By the names of OutputConfig, which says which of them are written.
FILE_SINKS: Mapping[str, SinkKind] = {
    "labels": SinkKind(
        ".labels.jsonl", lambda path, rec, mark: LabelLines(path, resume=mark, patience=rec.patience)
    ),
    "events": SinkKind(
        ".events.jsonl", lambda path, rec, mark: EventLines(path, resume=mark, patience=rec.patience)
    ),
    "vtt": SinkKind(
        ".vtt",
        lambda path, rec, mark: Subtitles(
            path, rec.heads, rec.config.labels, resume=mark, patience=rec.patience
        ),
    ),
    "csv": SinkKind(".csv", lambda path, rec, mark: LabelTable(path, resume=mark, patience=rec.patience)),
    "html": SinkKind(".html", lambda path, rec, _: TimelinePage(path, rec.page_facts, patience=rec.patience)),
    "overlay": SinkKind(".overlay.mp4", lambda path, rec, _: _overlay(path, rec)),
}


def _overlay(path: Path, recording: Recording) -> FileSink:
    # Draws with Pillow, and needs FFmpeg: not for those who want lines only.
    from streamfuse.sinks.overlay import OverlayVideo

    config = recording.config
    return OverlayVideo(path, recording.source, decode=config.decode, ticks=config.ticks, span=recording.span)


def open_file_sinks(
    config: AppConfig,
    base: Path,
    *,
    source: Source,
    model: ModelSpec,
    span: tuple[int, int | None] | None = None,
    resume: Mapping[str, Mark] | None = None,
    patience: Patience | None = None,
) -> list[FileSink]:
    """Open the files that config.outputs asks for: base.labels.jsonl, base.events.jsonl ...

    base      folder and stem; a stem may have dots
    resume    file name -> mark of the checkpoint; without it all begin anew
    patience  what is done on a full disk; None: OutputError
    raises    OutputError; nothing is left open then
    """
    name = " · ".join(filter(None, (model.name, model.weights_sha256[:8])))
    recording = Recording(source, name, tuple(model.heads), config, span, patience)
    sinks: list[FileSink] = []
    with ExitStack() as undo:
        for name, kind in FILE_SINKS.items():
            if not getattr(config.outputs, name):
                continue
            path = base.with_name(base.name + kind.suffix)
            mark = None if resume is None else resume.get(path.name)
            sink = kind.open(path, recording, mark)
            undo.callback(sink.close, complete=False)
            sinks.append(sink)
        undo.pop_all()
    return sinks
