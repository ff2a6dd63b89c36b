"""What is noted while a run is measured: every answer, every process's reports, everything that happened."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from streamfuse.trace import last_arrival_ns, latency
from streamfuse.types import Label, TickHead
from streamfuse.wire.headers import Progress

MarkKind = Literal["drop", "session", "reconnect", "loop", "restart", "trouble"]
_IDLE_STATES = ("standby",)
_OPENINGS: dict[str, tuple[MarkKind, str]] = {
    "reconnects": ("reconnect", "the source was opened again"),
    "loops": ("loop", "the file begins again"),
}
"""Counters of a decode process, and what it is called when they grow."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One label as it was published."""

    head: TickHead
    latency: dict[str, int]
    publish_ns: int
    warm: bool
    scores: dict[str, str | None]
    """Head name -> what was said."""

    @property
    def arrival_ns(self) -> int:
        return last_arrival_ns(self.head.trace)

    @property
    def edge_age_ns(self) -> int:
        return self.latency["edge_age"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One report of a process."""

    at_ns: int
    cpu_ns: int
    rss_bytes: int
    gauges: dict[str, int]
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened. `source` is empty where it concerns the whole run."""

    at_ns: int
    kind: MarkKind
    source: str
    text: str


@dataclass(slots=True)
class Process:
    """A process of the run and its reports."""

    service: str
    name: str
    pid: int
    spare: bool
    is_starting: bool = True
    running_from_ns: int | None = None
    """When it was first heard to do its work; a spare has not."""
    samples: list[Sampled] = field(default_factory=list)

    @property
    def title(self) -> str:
        name = "" if self.service == self.name else f" {self.name}"
        return f"{self.service}{name}" + (" (spare)" if self.spare else "")

    def within(self, begin_ns: int, end_ns: int) -> list[Sampled]:
        return [sample for sample in self.samples if begin_ns <= sample.at_ns <= end_ns]


@dataclass
class Recording:
    """Everything that was heard of a run; `begin_ns`..`end_ns` is the part that is measured."""

    begin_ns: int = 0
    end_ns: int = 1 << 62
    answers: dict[str, list[Answered]] = field(default_factory=lambda: defaultdict(list))
    processes: dict[int, Process] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    missed: int = 0
    """Labels that were published and did not reach us; they are no drops of the program."""

    def on_label(self, label: Label) -> None:
        head = label.head
        told = label.latency or latency(head)
        if not told:
            return
        at_ns = head.trace.stamps[-1].end_ns
        before = self.answers[head.source]
        if before and before[-1].head.session != head.session:
            self._mark(at_ns, "session", head.source, f"session {head.session} begins")
        if head.dropped:
            self._mark(at_ns, "drop", head.source, f"{head.dropped} dropped before tick {head.index}")
        said = {name: part.label for name, part in label.heads.items()}
        before.append(Answered(head, told, at_ns, label.warm, said))

    def on_progress(self, report: Progress, at_ns: int) -> None:
        process = self.processes.get(report.pid)
        if process is None:
            spare = report.state in _IDLE_STATES
            process = Process(report.service, report.source, report.pid, spare)
            self.processes[report.pid] = process
        process.spare = report.state in _IDLE_STATES or (process.spare and report.state != "running")
        process.is_starting = report.state == "starting"
        if process.running_from_ns is None and report.state not in ("starting", *_IDLE_STATES):
            process.running_from_ns = at_ns
        gauges = dict(report.gauges)
        sample = Sampled(
            at_ns, gauges.pop("cpu_ns", 0), gauges.pop("rss_bytes", 0), gauges, dict(report.counters)
        )
        self._note_reconnects(process, sample)
        process.samples.append(sample)

    def on_trouble(self, at_ns: int, kind: MarkKind, source: str, text: str) -> None:
        self._mark(at_ns, kind, source, text)

    def measured(self, source: str) -> list[Answered]:
        """The answers of a source that were published within the measured part."""
        return [a for a in self.answers[source] if self.begin_ns <= a.publish_ns < self.end_ns]

    def _note_reconnects(self, process: Process, sample: Sampled) -> None:
        before = process.samples[-1].counters if process.samples else {}
        for counter, (kind, text) in _OPENINGS.items():
            if sample.counters.get(counter, 0) > before.get(counter, 0):
                self._mark(sample.at_ns, kind, process.name, text)

    def _mark(self, at_ns: int, kind: MarkKind, source: str, text: str) -> None:
        self.marks.append(Mark(at_ns, kind, source, text))
