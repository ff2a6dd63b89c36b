"""One measurement: the same processes as `run` and `process` have, and everything they say, noted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from streamfuse.cli.launch import roles, run_config, run_directory
from streamfuse.cli.stop import Stopped
from streamfuse.clock import SYSTEM, utc_iso
from streamfuse.config import AppConfig, RunConfig, SourceConfig
from streamfuse.errors import StreamfuseError
from streamfuse.media.source import parse_source
from streamfuse.model.inspect import inspect_model
from streamfuse.pipeline.names import source_name
from streamfuse.profiling.environment import environment_of
from streamfuse.profiling.floor import floor_of
from streamfuse.profiling.recording import MarkKind, Recording
from streamfuse.profiling.report import build_report
from streamfuse.profiling.schema import Rate, Report
from streamfuse.supervise.supervisor import Notice, Supervisor
from streamfuse.types import NS, Label, Mode
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.headers import Progress
from streamfuse.wire.keys import Keys
from streamfuse.wire.transport import Wire, wait

TEST_PATTERN = "lavfi:testsrc2=size=640x360:rate=30;sine=frequency=440:sample_rate=48000"
TEST_WORD = "test"
"""As a SOURCE: the test pattern, where no file has that name."""
PATIENCE_NS = 60 * NS
"""For the first answer of every stream: processes start in seconds, a camera may take ten of its own."""

Status = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: so many streams of one source, for so long after the warm-up.

    paced      offered at the pace of real time, by a schedule that waits for no answer
    saturated  as fast as it goes, nothing dropped: throughput, and no ages

    Either way a file begins again until the time is over.
    """

    source: str
    duration_ns: int
    warm_up_ns: int
    rate: Rate = "paced"
    streams: int = 1
    allow_hls: bool = False

    @property
    def mode(self) -> Mode:
        return "live" if self.rate == "paced" else "recorded"


@dataclass(frozen=True, slots=True)
class Measured:
    recording: Recording
    report: Report


def measure(plan: Plan, config: AppConfig, status: Status = lambda _: None) -> Measured:
    """Run the processes, and note what they do.

    raises  StreamfuseError: the source is refused, a process is lost for good, no answers come
    """
    text = TEST_PATTERN if plan.source == TEST_WORD and not Path(TEST_WORD).exists() else plan.source
    source = parse_source(text, allow_hls=plan.allow_hls)
    model = inspect_model(config.model.path, sha256=config.model.sha256)
    chosen = SourceConfig(input=text, allow_hls=plan.allow_hls, loop=source.ends)
    name = TEST_WORD if text == TEST_PATTERN else source_name(source)
    names = [name] if plan.streams == 1 else [f"{name}-{i + 1}" for i in range(plan.streams)]
    with _scratch() as folder:
        config = config.model_copy(update={"run_dir": str(folder)})
        settled = run_config(config, dict.fromkeys(names, chosen), plan.mode)
        run = _Run(plan, settled, Recording(), status)
        run.run()
    report = build_report(
        run.recording,
        source=TEST_PATTERN if text == TEST_PATTERN else source.display,
        rate=plan.rate,
        created=utc_iso(SYSTEM.wall_ns()),
        warm_up_s=run.warmed_up_ns / NS,
        hop_ns=model.spec.video.hop_ns,
        floor=floor_of(settled, model.spec),
        environment=environment_of(settled, model),
    )
    return Measured(run.recording, report)


class _Run:
    """The processes of one measurement under their supervisor."""

    def __init__(self, plan: Plan, config: RunConfig, recording: Recording, status: Status) -> None:
        self._plan, self._config, self.recording, self._status = plan, config, recording, status
        self._wire = Wire(None if config.wire.keys is None else Keys(Path(config.wire.keys)))
        self._progress = Subscriber(self._wire, topics=["progress"], bind=config.endpoint("progress"))
        self._labels = Subscriber(self._wire, topics=["label"], connect=[config.endpoint("labels")])
        self._began_ns = self._first_ns = self._expected = 0
        self._refused: StreamfuseError | None = None
        self.warmed_up_ns = 0

    def run(self) -> None:
        with run_directory(self._config) as file:
            table = roles(self._config, file)
            # Recordings of a job take turns; streams that are measured together do not.
            table = [replace(role, turn=None) for role in table]
            self._expected = len(table)
            supervisor = Supervisor(table, Path(self._config.run_dir) / "logs", self._read, self._on_notice)
            self._began_ns = SYSTEM.monotonic_ns()
            self.recording.begin_ns = 1 << 62
            try:
                with suppress(Stopped):  # what was measured until then is told
                    supervisor.run(self._is_over)
            finally:
                self._drain()
                self._wire.close()
            if supervisor.failure is not None:
                raise supervisor.failure
        if self._refused is not None:
            raise self._refused
        self.recording.end_ns = min(self.recording.end_ns, SYSTEM.monotonic_ns())
        self.recording.missed = self._labels.counters["missed"]

    def _read(self, timeout_ns: int) -> Iterator[Progress]:
        wait([self._progress.socket, self._labels.socket], timeout_ns)
        self._drain()
        while (message := self._progress.receive()) is not None:
            if isinstance(message.body, Progress):
                self.recording.on_progress(message.body, SYSTEM.monotonic_ns())
                yield message.body

    def _drain(self) -> None:
        while (message := self._labels.receive()) is not None:
            if isinstance(message.body, Label):
                self.recording.on_label(message.body)

    def _is_over(self) -> bool:
        now_ns, recording = SYSTEM.monotonic_ns(), self.recording
        if self._refused is not None:
            return True
        if now_ns < recording.begin_ns:
            self._warm_up(now_ns)
            return False
        left_ns = recording.end_ns - now_ns
        self._status(f"measuring, {max(0, left_ns) / NS:.0f} s to go")
        return left_ns <= 0

    def _warm_up(self, now_ns: int) -> None:
        """The measured part begins when everything has started and every stream has gone on for a while."""
        self._status("starting and warming up")
        names = list(self._config.sources)
        if not all(self.recording.answers.get(name) for name in names):
            if now_ns - self._began_ns > PATIENCE_NS:
                got = f"none within {PATIENCE_NS // NS} s of {self._plan.source}"
                self._refused = StreamfuseError("every stream must give answers", got=got)
            return
        # A spare that still loads the model takes the processors from what is measured.
        if sum(not process.is_starting for process in self.recording.processes.values()) < self._expected:
            return
        self._first_ns = self._first_ns or now_ns
        warm = all(any(a.warm for a in self.recording.answers[name]) for name in names)
        if warm and now_ns - self._first_ns >= self._plan.warm_up_ns:
            self.recording.begin_ns, self.recording.end_ns = now_ns, now_ns + self._plan.duration_ns
            self.warmed_up_ns = now_ns - self._began_ns

    def _on_notice(self, notice: Notice) -> None:
        role, now_ns = notice.role, SYSTEM.monotonic_ns()
        source = role.name if role.service == "decode" else ""
        if notice.kind == "refused" and source:
            self._refused = StreamfuseError(notice.text)
        if notice.kind in ("restarted", "lost", "given up"):
            kind: MarkKind = "restart" if notice.kind == "restarted" else "trouble"
            self.recording.on_trouble(now_ns, kind, source, f"{role.title} {notice.text}")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A run directory of our own with a short path, as sockets want it."""
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
