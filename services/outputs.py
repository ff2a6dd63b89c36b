"""One source's answers become labels and events, written where the run wants them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from streamfuse.clock import Clock, utc_iso
from streamfuse.config import LiveOutputConfig, RunConfig
from streamfuse.errors import OutputError
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.media.source import parse_source
from streamfuse.model.spec import ModelSpec
from streamfuse.sinks import FileSink, Sink, open_file_sinks
from streamfuse.sinks.durable import write_whole
from streamfuse.sinks.jsonl import RotatingLines
from streamfuse.sinks.summary import LabelShares
from streamfuse.trace import last_arrival_ns, latency, stamped
from streamfuse.types import NS, Answer, Event, Label
from streamfuse.wire.headers import End

Told = Label | Event

log = logging.getLogger(__name__)


class SourceOutput:
    """Stage of one source: answers -> labels and events, each written to its sinks before it is returned.

    session  of the last start or answer
    attach   live: gives an event the paths of its picture and clip
    """

    def __init__(
        self,
        name: str,
        config: RunConfig,
        spec: ModelSpec,
        sinks: Sequence[Sink],
        clock: Clock,
        attach: Callable[[Event], Event] | None = None,
    ) -> None:
        chosen = config.sources.get(name)
        gap_ms = ((chosen.ticks if chosen else None) or config.ticks).max_gap_ms
        self._labeller = Labeller(spec.heads, config.labels, max_gap_ms=gap_ms)
        self._events = EventTracker(spec.heads, config.labels, max_gap_ms=gap_ms)
        self._live = config.mode == "live"
        self._trace = config.trace
        self._name, self._sinks, self._clock = name, sinks, clock
        self._attach = attach
        self._files = [] if self._live else cast(Sequence[FileSink], sinks)
        self.session = -1
        self._rotating = [sink for sink in sinks if isinstance(sink, RotatingLines)]
        self._lost_before = 0
        self.shares = LabelShares()
        self.span_ns: tuple[int, int] | None = None

    @property
    def lost(self) -> int:
        """Live: lines that could not be written."""
        return sum(sink.lost for sink in self._rotating)

    def push(self, answer: Answer, received_ns: int) -> Iterator[Told]:
        self.session = answer.head.session
        began_ns = self._clock.monotonic_ns()
        for label in self._labeller.push(answer):
            yield from self._tell(label, received_ns, began_ns)

    def flush(self) -> Iterator[Told]:
        """The tail; open events end here."""
        now_ns = self._clock.monotonic_ns()
        for label in self._labeller.flush():
            yield from self._tell(label, now_ns, now_ns)
        for event in self._events.flush():
            yield self._write_event(event, None)

    def close(self, complete: bool) -> list[Path]:
        """Close every sink; return the files that got their names.

        raises  OutputError of the first that failed: the sinks after it are closed, not complete
        """
        problem: OutputError | None = None
        for sink in self._sinks:
            try:
                sink.close(complete and problem is None)
            except OutputError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return [sink.path for sink in self._files] if complete else []

    def _tell(self, label: Label, received_ns: int, began_ns: int) -> Iterator[Told]:
        label = self._dated(label, received_ns, began_ns)
        for sink in self._sinks:
            sink.write_label(label)
        self.shares.push(label)
        self.span_ns = ((self.span_ns or (label.head.start_ns, 0))[0], label.head.end_ns)
        if self._rotating:
            self._mind_losses()
        yield label
        for event in self._events.push(label):
            yield self._write_event(event, label.time)

    def _mind_losses(self) -> None:
        """Say once that lines are lost, and once that they are written again."""
        trouble = next((sink.trouble for sink in self._rotating if sink.trouble), None)
        if trouble is not None and self._lost_before == 0:
            self._lost_before = self.lost
            log.error("%s: labels cannot be written, and are lost: %s", self._name, trouble)
        elif trouble is None and self._lost_before:
            lost, self._lost_before = self.lost - self._lost_before + 1, 0
            log.warning("%s: labels are written again; %d lines were lost", self._name, lost)

    def _dated(self, label: Label, received_ns: int, began_ns: int) -> Label:
        """With our stamp; a live one with the wall clock of its tick's end, and where its time went."""
        now_ns = self._clock.monotonic_ns()
        head = label.head
        if self._trace:
            head = stamped(head, "publish", received_ns, began_ns, now_ns)
        if not self._live:
            return replace(label, head=head)
        age_ns = now_ns - (last_arrival_ns(head.trace) or now_ns)
        time = utc_iso(self._clock.wall_ns() - age_ns)
        return replace(label, head=head, time=time, latency=latency(head) if self._trace else None)

    def _write_event(self, event: Event, time: str | None) -> Event:
        if self._live and event.time is None:
            event = replace(event, time=time or utc_iso(self._clock.wall_ns()))
        if self._attach is not None:
            event = self._attach(event)
        for sink in self._sinks:
            sink.write_event(event)
        return event


def live_sinks(config: LiveOutputConfig, name: str) -> list[Sink]:
    """The sinks of a live source. Raises OutputError."""
    if config.folder is None:
        return []
    path = Path(config.folder) / f"{quote(name, safe=' ')}.jsonl"
    return [RotatingLines(path, max_bytes=config.max_bytes, daily=config.daily, keep=config.keep)]


def recorded_sinks(config: RunConfig, name: str, spec: ModelSpec) -> list[FileSink]:
    """The sinks of a recording, which begin anew. Raises OutputError."""
    chosen = config.sources[name]
    if chosen.output is None:
        return []
    source = parse_source(chosen.input, allow_hls=chosen.allow_hls)
    return open_file_sinks(config, Path(chosen.output), source=source, model=spec, span=chosen.span_ns)


class Results:
    """What became of each recording, for whoever runs the job: RUN/results/<source>.json.

    status  done; failed: not read to its end, and it may begin anew; unwritten: its outputs cannot be kept
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "results"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def known(self, name: str) -> bool:
        return self._path(name).exists()

    def write(self, name: str, end: End, output: SourceOutput | None, paths: Sequence[Path]) -> None:
        """Replace the result of a source, whole or not at all. Raises OutputError."""
        self._write(name, "done" if end.complete else "failed", end, output, paths)

    def unwritten(self, name: str, error: OutputError, output: SourceOutput | None) -> None:
        """The result of a source whose outputs cannot be kept, whatever becomes of the reading."""
        end = End(source=name, complete=False, reason=str(error))
        self._write(name, "unwritten", end, output, ())

    def _write(
        self, name: str, status: str, end: End, output: SourceOutput | None, paths: Sequence[Path]
    ) -> None:
        start_ns, end_ns = (output.span_ns if output else None) or (0, 0)
        record: dict[str, Any] = {
            "source": name,
            "status": status,
            "error": end.reason or None,
            "outputs": [str(path) for path in paths],
            "ticks": output.shares.ticks if output else 0,
            "start_s": start_ns / NS,
            "end_s": end_ns / NS,
            "duration_s": end.container_ns / NS if end.container_ns else None,
            "truncated": end.truncated,
            "label_shares": output.shares.as_dict() if output else {},
            "counters": end.counters,
        }
        write_whole(self._path(name), json.dumps(record, allow_nan=False) + "\n")

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.json"
