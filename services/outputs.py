"""A live source's answers become labels and events, written where the run wants them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from streamfuse.clock import Clock, utc_iso
from streamfuse.config import RunConfig
from streamfuse.config_live import LiveOutputConfig
from streamfuse.errors import OutputError
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.model.spec import ModelSpec
from streamfuse.services.unfinished import Unfinished
from streamfuse.sinks import Sink
from streamfuse.sinks.jsonl import RotatingLines
from streamfuse.trace import latency, stamped
from streamfuse.types import Answer, Event, Label

Told = Label | Event

log = logging.getLogger(__name__)


class SourceOutput:
    """Stage of one source: answers -> labels and events, each written to its sinks before it is returned.

    attach      gives an event the paths of its picture and clip
    unfinished  where its open events are kept; those that a process before us left open end here
    """

    def __init__(
        self,
        name: str,
        config: RunConfig,
        spec: ModelSpec,
        sinks: Sequence[Sink],
        clock: Clock,
        attach: Callable[[Event], Event] | None = None,
        unfinished: Unfinished | None = None,
    ) -> None:
        self.labels, gap_ms = config.of(name).labels, config.of(name).ticks.max_gap_ms
        self._labeller = Labeller(spec.heads, self.labels, max_gap_ms=gap_ms)
        self._events = EventTracker(spec.heads, self.labels, max_gap_ms=gap_ms)
        self._trace = config.trace
        self._name, self._sinks, self._clock = name, sinks, clock
        self._attach = attach
        self._unfinished = unfinished
        left = None if unfinished is None else unfinished.left()
        if left is not None:  # they end with their session, which is over
            left.heads = {**self._events.state.heads, **left.heads}
            self._events.state = left
        self._rotating = [sink for sink in sinks if isinstance(sink, RotatingLines)]
        self._losing, self._lost_told = False, 0

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return sum(sink.lost for sink in self._rotating)

    def push(self, answer: Answer, received_ns: int) -> Iterator[Told]:
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
        self._keep_open(now_ns)

    def close(self, complete: bool) -> None:
        """Close every sink. Raises OutputError of the first that failed; the ones after it are closed."""
        problem: OutputError | None = None
        for sink in self._sinks:
            try:
                sink.close(complete and problem is None)
            except OutputError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def _tell(self, label: Label, received_ns: int, began_ns: int) -> Iterator[Told]:
        label = self._dated(label, received_ns, began_ns)
        for sink in self._sinks:
            sink.write_label(label)
        if self._rotating:
            self._mind_losses()
        yield label
        for event in self._events.push(label):
            yield self._write_event(event, label.time)
        self._keep_open(began_ns)

    def _keep_open(self, now_ns: int) -> None:
        if self._unfinished is not None:
            self._unfinished.keep(self._events.state, now_ns)

    def _mind_losses(self) -> None:
        """Say once that lines are lost, and once that they are written again."""
        trouble = next((sink.trouble for sink in self._rotating if sink.trouble), None)
        if trouble is not None and not self._losing:
            self._losing = True
            log.error("%s: labels cannot be written, and are lost: %s", self._name, trouble)
        elif trouble is None and self.lost > self._lost_told:
            log.warning(
                "%s: labels are written again; %d lines were lost", self._name, self.lost - self._lost_told
            )
            self._losing, self._lost_told = False, self.lost

    def _dated(self, label: Label, received_ns: int, began_ns: int) -> Label:
        """With our stamp, the wall clock of its tick's end, and where its time went."""
        now_ns = self._clock.monotonic_ns()
        head = label.head
        if self._trace:
            head = stamped(head, "publish", received_ns, began_ns, now_ns)
        told = latency(head) if self._trace else None
        return replace(label, head=head, time=utc_iso(head.wall_ns), latency=told)

    def _write_event(self, event: Event, time: str | None) -> Event:
        if event.time is None:
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
