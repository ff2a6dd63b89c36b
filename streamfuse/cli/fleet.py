"""The recordings of one command through the processes of a run: decode, analyze and publish overlap."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streamfuse.cli.inputs import Job
from streamfuse.cli.launch import roles, run_config, run_directory
from streamfuse.cli.progress import RunProgress
from streamfuse.cli.recording import Report, Span, goal
from streamfuse.cli.stop import Stop
from streamfuse.clock import SYSTEM
from streamfuse.config import OWN, AppConfig, RunConfig, SourceConfig
from streamfuse.errors import SourceRefused, StreamfuseError
from streamfuse.supervise.supervisor import Notice, Supervisor
from streamfuse.types import NS
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.endpoints import EndpointLock
from streamfuse.wire.headers import Progress
from streamfuse.wire.transport import Wire, wait

FOLDER = "streamfuse-run-"
SETTLED_NS = 60 * NS
"""A folder whose lock is younger may be in the making."""


class Fleet:
    """Fills in a report for each job while the processes do the work.

    device   where the model runs, by its full name
    workers  recordings under way at once
    """

    def __init__(
        self,
        reports: Sequence[Report],
        output: Path,
        config: AppConfig,
        progress: RunProgress,
        *,
        stop: Stop,
        span: Span | None,
        device: str,
        workers: int,
    ) -> None:
        self._output, self._progress, self._stop, self._span = output, progress, stop, span
        self._config, self._waits = config, ""
        self._open: dict[str, Report] = {}
        self._sources: dict[str, SourceConfig] = {}
        self._turns: dict[str, str] = {}
        self._begun_ns: dict[str, int] = {}
        for report in reports:
            problem = report.job.error or _untellable(report.job, output)
            if problem is not None:
                self._tell_failure(report, problem)
                continue
            worker = str(len(self._open) % workers)
            self._open[report.job.name] = report
            self._turns[report.job.name] = worker
            self._sources[report.job.name] = self._source(report.job, analyzer_of(device, worker))

    def run(self) -> None:
        """Do every job that is not done. Asked to stop, let the processes see off what they have.

        raises  Stopped; the error that ends all of them: a model that is refused, a crash loop
        """
        if not self._open:
            return
        with self._stop.orderly(), _short_lived_folder() as folder:
            config = run_config(
                self._config.model_copy(update={"run_dir": str(folder)}), self._sources, "recorded"
            )
            with run_directory(config) as file:
                self._supervise(config, file)

    def _supervise(self, config: RunConfig, file: Path) -> None:
        wire = Wire()
        try:
            reports = Subscriber(wire, topics=["progress"], bind=config.endpoint("progress"))

            def read(timeout_ns: int) -> Iterator[Progress]:
                wait([reports.socket], timeout_ns)
                while (message := reports.receive()) is not None:
                    if isinstance(message.body, Progress):
                        self._on_progress(message.body)
                        yield message.body

            logs = Path(config.run_dir) / "logs"
            supervisor = Supervisor(roles(config, file, self._turns), logs, read, self._on_notice)
            results = Path(config.run_dir) / "results"
            supervisor.run(lambda: self._stop.asked, lambda: self._collect(results))
        finally:
            wire.close()
        self._collect(results)
        if self._stop.asked:
            return
        if supervisor.failure is not None:
            raise supervisor.failure
        for report in list(self._open.values()):
            self._end(report)
            self._tell_failure(
                report, StreamfuseError("a recording is read to its end", where=report.job.given)
            )

    def _source(self, job: Job, analyzer: str) -> SourceConfig:
        output = str((self._output / job.stem).absolute())
        known = self._config.sources.get(job.name)
        own = {} if known is None else {section: getattr(known, section) for section in OWN}
        return SourceConfig(input=job.text, output=output, span_ns=self._span, analyzer=analyzer, **own)

    def _on_progress(self, progress: Progress) -> None:
        if progress.service == "publish":
            self._tell_waiting(progress.error if progress.state == "waiting" else "")
        report = self._open.get(progress.source) if progress.service == "decode" else None
        if report is None or progress.state == "starting":
            return
        if progress.source not in self._begun_ns:
            self._begun_ns[progress.source] = SYSTEM.monotonic_ns()
            goal_ns = goal(progress.gauges.get("duration_ns") or None, self._span)
            if (line := report.begin_line()) is not None:
                self._progress.say(line)
            begin_ns = report.resumed_ns or (self._span[0] if self._span else 0)
            self._progress.begin(report.job.given, goal_ns, begin_ns)
        self._progress.advance(report.job.given, progress.gauges.get("position_ns", 0))

    def _tell_waiting(self, why: str) -> None:
        """A full disk: told when it begins, and when it is over."""
        if why and not self._waits:
            self._progress.say(f"streamfuse: {why}")
        elif self._waits and not why:
            self._progress.say("there is room again; it goes on")
        self._waits = why

    def _on_notice(self, notice: Notice) -> None:
        report = self._open.get(notice.role.name) if notice.role.service == "decode" else None
        if notice.kind == "lost":
            self._progress.say(f"streamfuse: {notice.role.title}: {notice.text}; it goes on")
        elif report is not None and notice.kind in ("refused", "given up"):
            self._end(report)
            self._tell_failure(report, StreamfuseError(notice.text))

    def _collect(self, results: Path) -> None:
        """Take in what publish has written of the recordings that are finished."""
        for name, report in list(self._open.items()):
            file = results / f"{quote(name, safe='')}.json"
            if file.exists():
                result = json.loads(file.read_text())
                if result["status"] == "done":
                    self._end(report)
                    self._take(report, result)
                    self._progress.say(report.line())
                elif result["status"] == "unwritten":
                    self._end(report)
                    self._tell_failure(report, StreamfuseError(result["error"]))

    def _take(self, report: Report, result: dict[str, Any]) -> None:
        report.take(result["result"], result["outputs"])

    def _end(self, report: Report) -> None:
        """The job is over, one way or the other."""
        name = report.job.name
        del self._open[name]
        report.wall_ns = SYSTEM.monotonic_ns() - self._begun_ns.get(name, SYSTEM.monotonic_ns())
        self._progress.end(report.job.given)

    def _tell_failure(self, report: Report, error: StreamfuseError) -> None:
        report.fail(error)
        self._progress.say(f"streamfuse: {report.error}")


def analyzer_of(device: str, worker: str) -> str:
    """A GPU has one analyze process, which steps its recordings together; else each worker has its own."""
    return "0" if device.startswith("cuda") else worker


def _untellable(job: Job, output: Path) -> StreamfuseError | None:
    """What the processes are told is UTF-8; a name on this machine may be any bytes."""
    try:
        f"{job.text}{output}".encode()
    except UnicodeEncodeError:
        return SourceRefused("a name must be UTF-8", where=job.given, hint="--inline takes any name")
    return None


@contextmanager
def _short_lived_folder() -> Iterator[Path]:
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))  # 0700, and short enough for a socket's path
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove what commands left that were killed: our own folders, whose lock nobody holds any more."""
    before_ns = SYSTEM.wall_ns() - SETTLED_NS
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with suppress(OSError):
            info = folder.lstat()
            ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
            if not ours or (folder / "run.lock").stat().st_mtime_ns > before_ns:
                continue
            lock = EndpointLock(f"ipc://{folder}/run")
            if lock.try_acquire():
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()
