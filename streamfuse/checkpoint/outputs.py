"""The files of a recording: opened anew or where a checkpoint left them, written, finished in steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from streamfuse.checkpoint.record import Told
from streamfuse.config import AppConfig
from streamfuse.errors import OutputError, StreamfuseError
from streamfuse.labels.events import EventState
from streamfuse.labels.lines import event_from_line, event_line, label_from_line, label_line
from streamfuse.labels.smooth import LabellerState
from streamfuse.media.source import Source
from streamfuse.model.spec import ModelSpec
from streamfuse.sinks import FILE_SINKS, FileSink, open_file_sinks
from streamfuse.sinks.durable import RESTART, Patience, finish, part_path
from streamfuse.sinks.summary import LabelShares, SharesState
from streamfuse.types import Event, Label


class RecordedOutputs:
    """Takes a recording's labels and events, oldest first; settle(), then close(complete=True).

    base       folder and stem; None: nothing is written
    resumable  what a checkpoint remembers is enough to go on: sinks that are made anew need the lines of
               labels and events for it
    gets_on    called with each of those lines
    raises     OutputError
    """

    def __init__(
        self,
        config: AppConfig,
        base: Path | None,
        *,
        source: Source,
        model: ModelSpec,
        span: tuple[int, int | None] | None = None,
        resume: Told | None = None,
        patience: Patience | None = None,
        gets_on: Callable[[], None] = lambda: None,
    ) -> None:
        self.shares, self.patience = LabelShares(), patience
        self.start_ns = self.end_ns = 0
        self._closed = False
        marks = None if resume is None else resume.marks
        self.sinks: Sequence[FileSink] = []
        if base is not None:
            self.sinks = open_file_sinks(
                config, base, source=source, model=model, span=span, resume=marks, patience=patience
            )
        replaying = [sink for sink in self.sinks if sink.replays]
        self.resumable = not replaying or (config.outputs.labels and config.outputs.events)
        try:
            if resume is not None and base is not None:
                self._go_on(resume, base, replaying, gets_on)
        except BaseException:
            self.close(complete=False)
            raise

    def write(self, told: Label | Event) -> None:
        if isinstance(told, Label):
            if self.shares.ticks == 0:
                self.start_ns = told.head.start_ns
            self.end_ns = told.head.end_ns
            self.shares.push(told)
        for sink in self.sinks:
            # One that is made anew after a resume gets lines then, so it gets no more digits before.
            _give(sink, _as_in_line(told) if sink.replays else told)

    def told(self, labeller: LabellerState, events: EventState) -> Told:
        """What a checkpoint remembers of the labels and the outputs, once sync() has been called."""
        marks = {sink.path.name: mark for sink in self.sinks if (mark := sink.mark()) is not None}
        shares = SharesState(self.shares.state.ticks, self.shares.state.counts)
        return Told(labeller, events, shares, self.start_ns, self.end_ns, marks)

    def sync(self) -> None:
        """Put to disk what was written before this call. Any thread may call it, until close()."""
        for sink in self.sinks:
            if not sink.replays:
                sink.sync()

    def settle(self) -> dict[str, int]:
        """Write what was held back and put all to disk; return each file's name and bytes."""
        for sink in self.sinks:
            sink.settle()
        return {sink.path.name: sink.sync() for sink in self.sinks}

    def close(self, complete: bool) -> list[Path]:
        """Close every output, as complete only if all went well; return the files that got their names.

        Where nothing was told, nothing is left: there is nothing to go on with.

        raises  the first StreamfuseError, where complete
        """
        problem: StreamfuseError | None = None
        for sink in [] if self._closed else self.sinks:
            try:
                sink.close(complete and problem is None)
            except StreamfuseError as error:
                problem = problem or error
            if not complete and self.shares.ticks == 0:
                part_path(sink.path).unlink(missing_ok=True)
        self._closed = True
        if problem is not None and complete:
            raise problem
        return [sink.path for sink in self.sinks] if complete else []

    def result(self, *, duration_ns: int | None, truncated: bool, counters: dict[str, int]) -> bytes:
        """What a summary says of the recording, as JSON: kept in its checkpoint when it is finished."""
        said = {
            "ticks": self.shares.ticks,
            "label_shares": self.shares.as_dict(),
            "duration_ns": duration_ns,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "truncated": truncated,
            "counters": counters,
        }
        return json.dumps(said, allow_nan=False).encode()

    def _go_on(
        self, resume: Told, base: Path, replaying: Sequence[FileSink], gets_on: Callable[[], None]
    ) -> None:
        self.shares.state, self.start_ns, self.end_ns = resume.shares, resume.start_ns, resume.end_ns
        if replaying:
            for told in _lines_of(base):
                gets_on()
                for sink in replaying:
                    _give(sink, told)


def finish_closing(folder: Path, sizes: dict[str, int]) -> None:
    """Give outputs their names that another run has written whole. OutputError where some are not whole."""
    for name, size in sizes.items():
        path = folder / name
        if _size(part_path(path)) == size:
            finish(path)
        elif _size(path) != size:
            got = f"{_size(part_path(path))} in {part_path(path).name}, {_size(path)} in {name}"
            rule = f"a complete output must have its {size} bytes"
            raise OutputError(rule, got=got, where=path, hint=RESTART)


def are_there(folder: Path, sizes: dict[str, int]) -> bool:
    """Every output of a finished recording is still there, at its length."""
    return all(_size(folder / name) == size for name, size in sizes.items())


def _size(path: Path) -> int | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        return path.stat().st_size
    return None


def _give(sink: FileSink, told: Label | Event) -> None:
    if isinstance(told, Label):
        sink.write_label(told)
    else:
        sink.write_event(told)


def _as_in_line(told: Label | Event) -> Label | Event:
    if isinstance(told, Label):
        return label_from_line(label_line(told))
    return event_from_line(event_line(told))


def _lines_of(base: Path) -> Iterator[Label | Event]:
    """What the outputs hold so far: the labels, then the events."""
    for kind, read in (("labels", label_from_line), ("events", event_from_line)):
        part = part_path(base.with_name(base.name + FILE_SINKS[kind].suffix))
        with part.open("rb") as file:
            for line in file:
                yield read(line)
