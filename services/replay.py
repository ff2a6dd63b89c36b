"""A recorded run again: what the decode processes sent, through the same stages, to the same labels."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamfuse.analysis import TickAnalyzer
from streamfuse.batch import BatchAnalyzer, stages
from streamfuse.clock import utc_iso
from streamfuse.config import LabelConfig
from streamfuse.errors import WireError
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.model.runtime import Model
from streamfuse.types import Answer, Event, Label, SessionStart, Tick
from streamfuse.wire.headers import End
from streamfuse.wire.recording import Entry, read_index, read_segment, segments

Told = Label | Event


@dataclass
class Findings:
    """What was found in a source's recording. damage: in words; headless: its beginning is gone."""

    counts: Counter[str] = field(default_factory=Counter)
    sessions: list[int] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    headless: bool = False


class SourceReplay:
    """Stage[Entry, Label | Event] of one source: what analyze and publish made of its messages.

    A label has the time of day that the live one had, which came with its tick; its latency would be that of
    the replay, so it has none.

    together  on CUDA: the batch of all sources that are played (batch.recorded_batch)
    """

    def __init__(
        self,
        name: str,
        model: Model,
        labels: LabelConfig,
        *,
        max_gap_ms: int,
        together: BatchAnalyzer | None = None,
    ) -> None:
        self.name, self._model, self._labels, self._max_gap_ms = name, model, labels, max_gap_ms
        self._together = together
        self.found = Findings()
        self._begin_source()

    def push(self, entry: Entry) -> list[Told]:
        body = entry.message.body
        self.found.counts["lost"] += entry.lost
        if isinstance(body, SessionStart):
            self._analyzer = self._new_analyzer()
            self.found.sessions.append(body.session)
        elif isinstance(body, Tick):
            self.found.headless |= not self.found.sessions
            self.found.counts["ticks"] += 1
            return [told for answer in self._analyzer.push(body) for told in self._tell(answer)]
        elif isinstance(body, End):
            told = self.flush()
            self._begin_source()
            return told
        return []

    def flush(self) -> list[Told]:
        """End the open events."""
        return list(self._events.flush())

    def _begin_source(self) -> None:
        self._analyzer = self._new_analyzer()
        heads, gap = self._model.spec.heads, self._max_gap_ms
        self._labeller = Labeller(heads, self._labels, max_gap_ms=gap)
        self._events = EventTracker(heads, self._labels, max_gap_ms=gap)

    def _new_analyzer(self) -> TickAnalyzer:
        pair = stages(self._model, self.name, max_gap_ms=self._max_gap_ms, together=self._together)
        return TickAnalyzer(self._model, stages=pair)

    def _tell(self, answer: Answer) -> Iterator[Told]:
        for label in self._labeller.push(answer):
            wall_ns = label.head.wall_ns
            dated = replace(label, time=utc_iso(wall_ns) if wall_ns else None)
            yield dated
            yield from self._events.push(dated)


def entries(folder: Path, found: Findings, session: int | None = None) -> Iterator[Entry]:
    """A source's records in order, of one session where it is given; damage is noted, and passed over."""
    for segment in segments(folder):
        offset = None
        if session is not None:
            offset = next((e.offset for e in read_index(segment) if e.session >= session), None)
            if offset is None:
                continue
        for entry in read_segment(segment, offset):
            if isinstance(entry, WireError):
                found.damage.append(str(entry))
                continue
            at = _session_of(entry)
            if session is not None and at is not None and at > session:
                return
            if session is None or at is None or at == session:
                yield entry


def in_order(streams: Sequence[tuple[SourceReplay, Iterator[Entry]]]) -> Iterator[tuple[SourceReplay, Entry]]:
    """The records of all sources as they were sent."""
    tagged = [_tagged(number, stream) for number, (_, stream) in enumerate(streams)]
    for _, number, entry in heapq.merge(*tagged, key=lambda item: (item[0], item[1])):
        yield streams[number][0], entry


def _tagged(number: int, stream: Iterator[Entry]) -> Iterator[tuple[int, int, Entry]]:
    for entry in stream:
        yield entry.wall_ns, number, entry


def _session_of(entry: Entry) -> int | None:
    body = entry.message.body
    if isinstance(body, Tick):
        return body.head.session
    return body.session if isinstance(body, SessionStart) else None
