"""A recording from its source to finished files, all in this process: `process --inline`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from streamfuse.batch import BatchAnalyzer, recorded_batch
from streamfuse.checkpoint.carried import analysed, take_up
from streamfuse.checkpoint.identity import Identity
from streamfuse.checkpoint.keeper import Keeper
from streamfuse.checkpoint.outputs import RecordedOutputs
from streamfuse.checkpoint.plan import closing, finished
from streamfuse.checkpoint.record import (
    Checkpoint,
    CheckpointFile,
    Told,
    decode_analysed,
    decode_told,
    encode,
)
from streamfuse.cli.patience import WaitForRoom
from streamfuse.cli.progress import RunProgress
from streamfuse.cli.recording import Report, Span, goal
from streamfuse.cli.resume import look_for
from streamfuse.cli.stop import Stop
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import AppConfig
from streamfuse.model.runtime import Model, load_model
from streamfuse.pipeline.on_gpu import stays_on
from streamfuse.pipeline.recorded import Processing, process_source
from streamfuse.types import Label

PROGRESS_TICKS = 10


@dataclass(frozen=True)
class Run:
    """What the recordings of one command share, where all is done in this process.

    resume  False: what earlier runs left is forgotten
    """

    model: Model
    config: AppConfig
    output: Path
    stop: Stop
    span: Span | None = None
    resume: bool = True
    clock: Clock = SYSTEM
    together: BatchAnalyzer | None = None
    """On CUDA: what steps them, made once for all."""


def load(
    config: AppConfig, output: Path, stop: Stop, span: Span | None = None, *, resume: bool = True
) -> Run:
    """Load the model that the configuration names. ModelError where it is refused; ConfigError where it is to
    run on one GPU and the decoder on another.
    """
    wanted = config.model
    model = load_model(wanted.path, device=wanted.device, sha256=wanted.sha256, threads=wanted.threads)
    stays_on(config.decode, model.device)
    together = recorded_batch(model, wanted)
    return Run(model, config, output, stop, span, resume, together=together)


def process_recording(run: Run, report: Report, progress: RunProgress) -> None:
    """Do one job, filling in its report; its files are finished, or `.part`s and a checkpoint are left.

    raises  StreamfuseError, Stopped; what was learnt until then is in the report
    """
    job, begun_ns = report.job, run.clock.monotonic_ns()
    try:
        if job.error is not None:
            raise job.error
        assert job.source is not None
        facts = run.model.sha256, str(run.model.device)
        kept = stays_on(run.config.of(job.name).decode, run.model.device) is not None
        who, found = look_for(
            report, run.output, run.config, *facts, span=run.span, resume=run.resume, kept=kept
        )
        if report.status != "done":
            with run.stop.orderly():
                _process(run, report, progress, who, found)
    finally:
        progress.end(job.given)
        report.wall_ns = run.clock.monotonic_ns() - begun_ns


def _process(
    run: Run, report: Report, progress: RunProgress, who: Identity, found: Checkpoint | None
) -> None:
    """Begin the recording, or go on after its checkpoint; to its end, or until the run is to stop."""
    job = report.job
    assert job.source is not None
    config = run.config.of(job.name)
    carried = None if found is None else decode_analysed(found.analysed)
    told = None if found is None else decode_told(found.told)
    source = process_source(
        job.source,
        run.model,
        config,
        name=job.name,
        span=run.span,
        resume=None if carried is None else carried.point,
        should_stop=lambda: run.stop.asked,
        together=run.together,
    )
    with source as processing:
        report.duration_ns = processing.info.duration_ns
        if carried is not None and told is not None:
            take_up(processing.interpreter.stepper, carried)
            processing.take_up_faces(carried.faces)
            processing.interpreter.labeller.state = told.labeller
            processing.interpreter.events.state = told.events
        _announce(run, report, progress, told)
        outputs = RecordedOutputs(
            config,
            run.output / job.stem,
            source=job.source,
            model=run.model.spec,
            span=run.span,
            resume=told,
            patience=WaitForRoom(progress, job.given, run.clock, lambda: run.stop.asked),
        )
        try:
            _write_all(run, processing, outputs, report, progress, who)
            if not processing.stopped:
                _finish(run, processing, outputs, report, who)
        finally:
            outputs.close(complete=False)


def _announce(run: Run, report: Report, progress: RunProgress, told: Told | None) -> None:
    """Begin its line; say where it goes on."""
    if (line := report.begin_line()) is not None:
        progress.say(line)
    begin_ns = run.span[0] if run.span else 0
    goal_ns = goal(report.duration_ns, run.span)
    progress.begin(report.job.given, goal_ns, begin_ns if told is None else told.end_ns)


def _write_all(
    run: Run,
    processing: Processing,
    outputs: RecordedOutputs,
    report: Report,
    progress: RunProgress,
    who: Identity,
) -> None:
    """Write what each tick brings, and checkpoints between ticks; the last one where the run is to stop."""
    keeper = Keeper(
        CheckpointFile(run.output / report.job.stem), who, run.config.outputs.checkpoint_s, run.clock
    )
    try:
        for told in processing.by_tick():
            for item in told:
                outputs.write(item)
                if isinstance(item, Label):
                    report.ticks, report.end_ns = outputs.shares.ticks, item.head.end_ns
                    if item.head.index % PROGRESS_TICKS == 0:
                        progress.advance(report.job.given, item.head.end_ns)
            if keeper.due and processing.ticks:
                _keep(keeper, processing, outputs)
        if processing.stopped and processing.ticks:
            _keep(keeper, processing, outputs)
    finally:
        keeper.close()
        report.start_ns = outputs.start_ns
        report.label_shares = outputs.shares.as_dict()


def _keep(keeper: Keeper, processing: Processing, outputs: RecordedOutputs) -> None:
    if outputs.resumable:
        faces = processing.carried_faces()
        carried = analysed(processing.interpreter.stepper, processing.point(), faces)
        told = outputs.told(processing.interpreter.labeller.state, processing.interpreter.events.state)
        keeper.keep(outputs.sync, encode(carried), encode(told))


def _finish(
    run: Run, processing: Processing, outputs: RecordedOutputs, report: Report, who: Identity
) -> None:
    """All is written: close, in steps of which each may be the last before a crash."""
    sizes = outputs.settle()
    result = outputs.result(
        duration_ns=report.duration_ns, truncated=processing.truncated, counters=processing.counters
    )
    file = CheckpointFile(run.output / report.job.stem)
    closed = closing(file, who, sizes, result, outputs.patience)
    outputs.close(complete=True)
    finished(file, closed, outputs.patience)
    report.take(json.loads(result), sizes)
