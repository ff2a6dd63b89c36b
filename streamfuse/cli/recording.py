"""What became of each recording of a command: its line on the screen, its entry in summary.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from streamfuse.cli.inputs import Job
from streamfuse.cli.progress import clock_text
from streamfuse.errors import StreamfuseError
from streamfuse.model.spec import ModelSpec
from streamfuse.sinks.durable import RESTART, write_whole
from streamfuse.types import NS

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
    resumed_ns: int | None = None
    """Media time at which this run went on for an earlier one."""
    was_done: bool = False
    truncated: bool = False
    counters: dict[str, int] = field(default_factory=dict)
    """Of this run alone, where it went on for an earlier one."""

    @property
    def speed(self) -> float:
        """Media time per wall time."""
        begun_ns = self.start_ns if self.resumed_ns is None else self.resumed_ns
        return 0.0 if self.was_done else (self.end_ns - begun_ns) / max(1, self.wall_ns)

    def fail(self, error: Exception) -> None:
        self.status = "failed"
        told = isinstance(error, StreamfuseError)
        self.error = str(error) if told else f"{type(error).__name__}: {error} [{self.job.given}]"

    def take(self, result: dict[str, Any], outputs: Iterable[str]) -> None:
        """It is done; result: as checkpoint.outputs.RecordedOutputs tells it; outputs: names of its files."""
        for key, value in result.items():
            setattr(self, key, value)
        folder = PurePosixPath(self.job.stem).parent
        self.outputs = [(folder / name).as_posix() for name in outputs]
        self.status = "done"

    def begin_line(self) -> str | None:
        """What a person wants to know when a recording is gone on with."""
        if self.resumed_ns is None:
            return None
        return f"{self.job.given}: goes on at {clock_text(self.resumed_ns)}, where an earlier run was"

    def line(self) -> str:
        """What a person wants to know when a recording is done."""
        if self.was_done:
            return f"{self.job.given}: done before, nothing to do; {RESTART}"
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
            **({} if self.resumed_ns is None else {"resumed_at_s": self.resumed_ns / NS}),
            **({"done_before": True} if self.was_done else {}),
            "wall_s": round(self.wall_ns / NS, 3),
            "realtime_factor": round(self.speed, 2),
            "truncated": self.truncated,
            "label_shares": self.label_shares,
            "counters": self.counters,
        }


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
