"""A recording from its source to finished files, all in this process: `process --inline`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamfuse.cli.progress import RunProgress
from streamfuse.cli.recording import Report, Span, goal
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import AppConfig
from streamfuse.errors import StreamfuseError
from streamfuse.model.runtime import Model, load_model
from streamfuse.pipeline.recorded import Processing, process_source
from streamfuse.sinks import FileSink, open_file_sinks
from streamfuse.sinks.summary import LabelShares
from streamfuse.types import Label

PROGRESS_TICKS = 10


@dataclass(frozen=True)
class Run:
    """What the recordings of one command share, where all is done in this process."""

    model: Model
    config: AppConfig
    output: Path
    span: Span | None = None
    clock: Clock = SYSTEM


def load(config: AppConfig, output: Path, span: Span | None = None) -> Run:
    """Load the model that the configuration names. ModelError where it is refused."""
    wanted = config.model
    model = load_model(wanted.path, device=wanted.device, sha256=wanted.sha256, threads=wanted.threads)
    return Run(model, config, output, span)


def process_recording(run: Run, report: Report, progress: RunProgress) -> None:
    """Do one job, filling in its report; its files are finished, or only `.part` is left.

    raises  StreamfuseError; what was learnt until then is in the report
    """
    job, begun_ns = report.job, run.clock.monotonic_ns()
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
