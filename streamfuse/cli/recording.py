"""One recording of a run: from its source to finished files, and what summary.json says about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from streamfuse.cli.inputs import Job
from streamfuse.cli.progress import RunProgress, clock_text
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import AppConfig
from streamfuse.errors import StreamfuseError
from streamfuse.model.runtime import Model
from streamfuse.model.spec import ModelSpec
from streamfuse.pipeline.recorded import Processing, process_source
from streamfuse.sinks import FileSink, open_file_sinks
from streamfuse.sinks.durable import write_whole
from streamfuse.sinks.summary import LabelShares
from streamfuse.types import NS, Label

PROGRESS_TICKS = 10
SCHEMA = "streamfuse.summary/1"
LOSSES = {
    "corrupt_packets": "packets marked as damaged",
    "decode_errors": "packets that do not decode",
    "reordered": "items out of order",
    "late_frames": "pictures far behind the sound",
    "late_audio_samples": "samples far behind the pictures",
}
"""Counters that mean that something of the recording did not reach a label."""


Span = tuple[int, int | None]
"""--from and --to, nanoseconds of file time; None is the end."""


@dataclass(frozen=True)
class Run:
    """What the recordings of one command share, where all is done in this process."""

    model: Model
    config: AppConfig
    output: Path
    span: Span | None = None
    clock: Clock = SYSTEM


@dataclass(frozen=True)
class ModelFacts:
    """What summary.json says of the model that answered."""

    spec: ModelSpec
    sha256: str
    device: str


@dataclass
class Report:
    """What became of one recording; an entry of summary.json."""

    job: Job
    status: Literal["done", "failed", "stopped"] = "stopped"
    error: str | None = None
    outputs: list[str] = field(default_factory=list)
    ticks: int = 0
    label_shares: dict[str, dict[str, float]] = field(default_factory=dict)
    duration_ns: int | None = None
    start_ns: int = 0
    end_ns: int = 0
    wall_ns: int = 0
    truncated: bool = False
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Media time per wall time."""
        return (self.end_ns - self.start_ns) / max(1, self.wall_ns)

    def fail(self, error: Exception) -> None:
        self.status = "failed"
        told = isinstance(error, StreamfuseError)
        self.error = str(error) if told else f"{type(error).__name__}: {error} [{self.job.given}]"

    def line(self) -> str:
        """What a person wants to know when a recording is done."""
        media = clock_text(self.end_ns - self.start_ns)
        cut = "; it is cut off: the file announces more than it holds" if self.truncated else ""
        lost = [f"{n} {what}" for name, what in LOSSES.items() if (n := self.counters.get(name, 0))]
        passed = f"; passed over: {', '.join(lost)}" if lost else ""
        ticks = "1 tick" if self.ticks == 1 else f"{self.ticks} ticks"
        return f"{self.job.given}: {ticks}, {media} at {self.speed:.1f} x real time{cut}{passed}"

    def as_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"input": self.job.given, "name": self.job.name, "status": self.status}
        if self.error is not None:
            entry["error"] = self.error
        return entry | {
            "outputs": self.outputs,
            "ticks": self.ticks,
            "dropped": 0,
            "duration_s": None if self.duration_ns is None else self.duration_ns / NS,
            "analysed_s": (self.end_ns - self.start_ns) / NS,
            "wall_s": round(self.wall_ns / NS, 3),
            "realtime_factor": round(self.speed, 2),
            "truncated": self.truncated,
            "label_shares": self.label_shares,
            "counters": self.counters,
        }


def process_recording(run: Run, job: Job, report: Report, progress: RunProgress) -> None:
    """Do one job, filling in its report; its files are finished, or only `.part` is left.

    raises  StreamfuseError; what was learnt until then is in the report
    """
    begun_ns = run.clock.monotonic_ns()
    try:
        if job.error is not None:
            raise job.error
        assert job.source is not None
        source = process_source(job.source, run.model, run.config, name=job.name, span=run.span)
        with source as processing:
            report.duration_ns = processing.info.duration_ns
            goal_ns = goal(processing.info.duration_ns, run.span)
            progress.begin(job.given, goal_ns, run.span[0] if run.span else 0)
            base = run.output / job.stem
            with _finished(
                open_file_sinks(run.config, base, source=job.source, model=run.model.spec, span=run.span)
            ) as sinks:
                _write_all(processing, sinks, report, progress)
            report.outputs = [sink.path.relative_to(run.output).as_posix() for sink in sinks]
            report.truncated = processing.truncated
            report.counters = processing.counters
        report.status = "done"
    finally:
        progress.end(job.given)
        report.wall_ns = run.clock.monotonic_ns() - begun_ns


def _write_all(
    processing: Processing, sinks: Sequence[FileSink], report: Report, progress: RunProgress
) -> None:
    shares = LabelShares()
    for item in processing:
        if isinstance(item, Label):
            if shares.ticks == 0:
                report.start_ns = item.head.start_ns
            shares.push(item)
            report.ticks, report.end_ns = shares.ticks, item.head.end_ns
            for sink in sinks:
                sink.write_label(item)
            if item.head.index % PROGRESS_TICKS == 0:
                progress.advance(report.job.given, item.head.end_ns)
        else:
            for sink in sinks:
                sink.write_event(item)
    report.label_shares = shares.as_dict()


@contextmanager
def _finished(sinks: Sequence[FileSink]) -> Iterator[Sequence[FileSink]]:
    """Close every sink, as complete only if all went well, also in closing the ones before it."""
    complete = False
    try:
        yield sinks
        complete = True
    finally:
        problem: StreamfuseError | None = None
        for sink in sinks:
            try:
                sink.close(complete and problem is None)
            except StreamfuseError as error:
                problem = problem or error
        if problem is not None and complete:
            raise problem


def goal(duration_ns: int | None, span: Span | None) -> int | None:
    """The media time at which a recording will be done, where that is known."""
    known = [end_ns for end_ns in (duration_ns, span[1] if span else None) if end_ns is not None]
    return min(known, default=None)


def write_summary(
    output: Path, model: ModelFacts, reports: Sequence[Report], stopped_by: str | None = None
) -> None:
    """summary.json: the model, and what became of every recording of the command."""
    spec = model.spec
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "streamfuse": version("streamfuse"),
        "model": {
            "name": spec.name,
            "sha256": model.sha256,
            "weights_sha256": spec.weights_sha256,
            "heads": {head.name: list(head.labels) for head in spec.heads},
        },
        "device": model.device,
        "done": sum(report.status == "done" for report in reports),
        "failed": sum(report.status == "failed" for report in reports),
    }
    if stopped_by is not None:
        summary["stopped_by"] = stopped_by
    summary["files"] = [report.as_dict() for report in reports]
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(output / "summary.json", text + "\n")
