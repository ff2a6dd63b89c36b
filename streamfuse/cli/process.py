"""`streamfuse process`: label recordings."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path

import click

from streamfuse.cli.debug import debugging
from streamfuse.cli.device import settled_device
from streamfuse.cli.fleet import Fleet
from streamfuse.cli.inputs import find_jobs
from streamfuse.cli.options import MediaTime, config_options, read_config
from streamfuse.cli.progress import RunProgress
from streamfuse.cli.recording import ModelFacts, Report, Span, write_summary
from streamfuse.cli.resume import leave_out_done, step_aside
from streamfuse.cli.stop import Stop, Stopped, stoppable
from streamfuse.config import AppConfig, ModelConfig
from streamfuse.errors import ConfigError, StreamfuseError
from streamfuse.model.inspect import inspect_model
from streamfuse.sinks.durable import prepare_folder


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the results go; made if it is not there.",
)
@click.option("--from", "start_ns", type=MediaTime(), default=0, help="Begin here (seconds, m:s or h:m:s).")
@click.option("--to", "end_ns", type=MediaTime(), help="End here.")
@click.option("--csv", is_flag=True, help="Also <stem>.csv: a table with one row per tick.")
@click.option(
    "--html", is_flag=True, help="Also <stem>.html: a timeline in one self-contained page (off by default)."
)
@click.option(
    "--overlay", is_flag=True, help="Also <stem>.overlay.mp4: the recording with the labels burnt in."
)
@click.option("--raw", is_flag=True, help="Add the unsmoothed probabilities to each label.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Recordings at once."
)
@click.option("--no-resume", is_flag=True, help="Begin anew, whatever an earlier run has begun or finished.")
@click.option("--inline", is_flag=True, help="Do everything in this process; the labels are the same.")
@config_options
def process(
    inputs: tuple[str, ...],
    output: Path,
    start_ns: int,
    end_ns: int | None,
    csv: bool,
    html: bool,
    overlay: bool,
    raw: bool,
    workers: int,
    no_resume: bool,
    inline: bool,
    config_file: Path | None,
    settings: tuple[str, ...],
    model: str | None,
    device: str | None,
    allow_codec: tuple[str, ...],
) -> int:
    """Label recordings: each INPUT is a file or a folder of files.

    For every recording this writes <stem>.labels.jsonl (one line per tick), <stem>.events.jsonl and
    <stem>.vtt, for all of them summary.json; where asked for, <stem>.html, <stem>.csv, <stem>.overlay.mp4.

    Interrupted, whether by Ctrl-C, a crash or a power cut, it goes on where it was when the same command is
    typed again, and the files are then the same as without the interruption. What is finished is left alone.
    """
    if end_ns is not None and end_ns <= start_ns:
        raise ConfigError("--to must be after --from", got=f"{end_ns / 1e9:g} s and {start_ns / 1e9:g} s")
    flags = {"outputs.csv": csv, "outputs.html": html, "outputs.overlay": overlay, "labels.raw": raw}
    settings = (*settings, *(f"{key}=true" for key, wanted in flags.items() if wanted))
    config = read_config(config_file, settings, model=model, device=device, allow_codec=allow_codec)
    span = (start_ns, end_ns) if start_ns or end_ns is not None else None
    return process_all(
        inputs, output, config, span=span, workers=None if inline else workers, resume=not no_resume
    )


def process_all(
    inputs: tuple[str, ...],
    output: Path,
    config: AppConfig,
    *,
    span: Span | None = None,
    workers: int | None = None,
    resume: bool = True,
) -> int:
    """Process every input into `output`, write summary.json, return the exit code.

    resume   go on where an earlier run was interrupted, and leave alone what it finished
    workers  recordings at once, over processes; None: everything in this process
    raises   StreamfuseError: nothing (more) can be done for any input; Stopped. Both after the summary of
             what was done has been written, unless it was the model that was refused
    """
    prepare_folder(output / "summary.json")
    reports = [Report(job) for job in find_jobs(inputs, output)]
    command = _Command(reports, output, config, span, resume=resume)
    try:
        with stoppable() as stop, RunProgress(of=len(reports)) as progress:
            for line in filter(None, [step_aside(report, output) for report in reports]):
                progress.say(line)
            if workers is None:
                command.here(stop, progress)
            else:
                command.over_processes(stop, progress, workers)
    except Stopped as stopped:
        command.summarise(stopped_by=stopped.name)
        raise
    except StreamfuseError as error:
        for report in reports:
            if report.status == "stopped":
                report.fail(error)
        command.summarise()
        raise
    command.summarise()
    return 1 if any(report.error for report in reports) else 0


@dataclass
class _Command:
    """The recordings of one command, and what becomes of them.

    facts  of the model, once it is known; without them nothing is summarised
    """

    reports: list[Report]
    output: Path
    config: AppConfig
    span: Span | None
    _: KW_ONLY
    resume: bool
    facts: ModelFacts | None = None

    def here(self, stop: Stop, progress: RunProgress) -> None:
        """One after the other in this process."""
        from streamfuse.cli import inline  # torch: 1 s that the parent of processes need not wait

        run = inline.load(self.config, self.output, stop, self.span, resume=self.resume)
        self.facts = ModelFacts(run.model.spec, run.model.sha256, str(run.model.device))
        for report in self.reports:
            _attempt(partial(inline.process_recording, run), report, progress)

    def over_processes(self, stop: Stop, progress: RunProgress, workers: int) -> None:
        """So many at once."""
        facts = self.facts = _inspect(self.config.model)
        todo = leave_out_done(
            self.reports, self.output, self.config, facts.sha256, facts.device,
            span=self.span, resume=self.resume,
        )  # fmt: skip
        for report in self.reports:
            if report not in todo:
                progress.say(report.line() if report.error is None else f"streamfuse: {report.error}")
        Fleet(
            todo, self.output, self.config, progress,
            stop=stop, span=self.span, device=facts.device, workers=workers,
        ).run()  # fmt: skip

    def summarise(self, stopped_by: str | None = None) -> None:
        if self.facts is not None:
            write_summary(self.output, self.facts, self.reports, stopped_by=stopped_by)


def _inspect(config: ModelConfig) -> ModelFacts:
    """The same facts without running the model's program: the analyze process does that."""
    file = inspect_model(config.path, sha256=config.sha256)
    return ModelFacts(file.spec, file.sha256, settled_device(config.device))


def _attempt(do: Callable[[Report, RunProgress], None], report: Report, progress: RunProgress) -> None:
    """One job; whatever is wrong with it is told in one line, and the next one's turn comes."""
    try:
        do(report, progress)
        progress.say(report.line())
    except Exception as error:  # noqa: BLE001, a slip of ours in one file must not cost the night's others
        if debugging():
            traceback.print_exc()
        report.fail(error)
        progress.say(f"streamfuse: {report.error}")
