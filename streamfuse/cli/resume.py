"""What earlier runs of the same command have left of a recording."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from streamfuse.checkpoint.identity import Identity, identity, is_of, is_read_once
from streamfuse.checkpoint.plan import look
from streamfuse.checkpoint.record import Checkpoint, CheckpointFile, decode_told
from streamfuse.cli.inputs import beside
from streamfuse.cli.recording import Report, Span
from streamfuse.config import AppConfig
from streamfuse.errors import OutputError


def step_aside(report: Report, output: Path) -> str | None:
    """Where another recording's results have the name already, take one beside it; a line that says so."""
    job = report.job
    if job.source is None:
        return None
    with suppress(OSError, OutputError):  # whoever reads it says why
        found = CheckpointFile((output / job.stem).absolute()).read()
        if found is not None and not is_of(found.identity, job.source):
            report.job = beside(job, job.source)
            return f"{job.given}: {job.stem}.* are of another recording; its own are {report.job.stem}.*"
    return None


def look_for(
    report: Report,
    output: Path,
    config: AppConfig,
    model_sha256: str,
    device: str,
    *,
    span: Span | None,
    resume: bool,
    kept: bool = False,
) -> tuple[Identity, Checkpoint | None]:
    """What this run has to say of itself, and the checkpoint that it goes on from, if there is one.

    Where the recording is done already, its report says so.

    resume  False: what there is, is forgotten
    kept    pictures stay on the GPU that decodes them
    raises  OutputError where it may not be gone on with; SourceRefused
    """
    job = report.job
    assert job.source is not None
    base = (output / job.stem).absolute()
    try:
        if is_read_once(job.source) or not resume:
            CheckpointFile(base).remove()
        own = config.of(job.name)
        who = identity(
            job.source, job.name, own, model_sha256=model_sha256, device=device, span=span, kept=kept
        )
    except OSError:  # it cannot be read, and whoever reads it says why
        return {}, None
    found = look(base, who)
    if found is not None and found.phase == "done":
        report.take(json.loads(found.result), found.sizes)
        report.was_done = True
        return who, None
    if found is not None:
        report.resumed_ns = decode_told(found.told).end_ns
    return who, found


def leave_out_done(
    reports: list[Report],
    output: Path,
    config: AppConfig,
    model_sha256: str,
    device: str,
    *,
    span: Span | None,
    resume: bool,
) -> list[Report]:
    """The reports of what is still to do; the others say that they are done, or why they cannot be."""
    todo: list[Report] = []
    for report in reports:
        if report.job.error is None:
            try:
                look_for(report, output, config, model_sha256, device, span=span, resume=resume)
            except OutputError as error:
                report.fail(error)
        if report.status == "stopped":
            todo.append(report)
    return todo
