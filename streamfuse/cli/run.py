"""`streamfuse run`: watch live sources until stopped."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO, cast

import click
from rich.console import Console
from rich.live import Live

from streamfuse.cli.board import Board
from streamfuse.cli.launch import check_names, roles, run_config, run_directory, write_status
from streamfuse.cli.lines import PatientStream
from streamfuse.cli.options import config_options, read_config
from streamfuse.cli.recorder import describe_recording
from streamfuse.clock import SYSTEM
from streamfuse.config import AppConfig, RunConfig, SourceConfig
from streamfuse.errors import ConfigError
from streamfuse.media.source import parse_source
from streamfuse.model.inspect import inspect_model
from streamfuse.pipeline.names import source_name
from streamfuse.sinks.durable import prepare_folder
from streamfuse.sinks.jsonl import StreamLines
from streamfuse.sinks.table import BoardStatus, StatusBoard
from streamfuse.supervise.supervisor import Notice, Supervisor
from streamfuse.supervise.systemd import Pulse, Systemd
from streamfuse.types import NS, Event, Label
from streamfuse.view.address import USUAL, looks_like_address, parse_address, settle
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.headers import Progress
from streamfuse.wire.keys import Keys
from streamfuse.wire.transport import Wire, wait

_NAMED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9_. -]{0,63})=(.+)$", re.DOTALL)
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h)?$")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}

REDRAW_NS = NS // 4
STDOUT_S = 1.0
"""At the end, for whoever reads our stdout."""


class Duration(click.ParamType[int]):
    """A length of time, as nanoseconds: 60s, 1.5m, 2h, 500ms."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.match(str(value))
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is not a length of time such as 60s, 5m or 2h", param, ctx)
        return round(float(match[1]) * _UNITS_S[match[2]] * NS)


@click.command()
@click.argument("inputs", nargs=-1, metavar="[NAME=]SOURCE...")
@click.option("--for", "duration_ns", type=Duration(), metavar="TIME", help="Stop after 60s, 5m or 2h.")
@click.option("-o", "--output", metavar="DIR", help="Also write <source>.jsonl files there.")
@click.option("--json", "as_json", is_flag=True, help="Labels as JSON lines on stdout; so in a pipe anyway.")
@click.option("--events", "events_only", is_flag=True, help="With --json: events in place of labels.")
@click.option("--loop", is_flag=True, help="Begin a file again when it ends.")
@click.option("--allow-hls", is_flag=True, help="Accept HLS playlists, which name further addresses to open.")
@click.option(
    "--view",
    is_flag=False,
    flag_value=USUAL,
    metavar="[HOST:PORT]",
    help=f"A page that shows it all in a browser; by default at {USUAL}, or a free port.",
)
@click.option("--record", metavar="DIR", help="Keep what was decoded there, for `streamfuse replay`.")
@click.option("--metrics-port", type=click.IntRange(0, 65_535), help="Prometheus metrics, /healthz, /readyz.")
@click.option(
    "--run-dir", metavar="DIR", help="Sockets and session numbers; by default one for these sources."
)
@config_options
def run(
    inputs: tuple[str, ...],
    duration_ns: int | None,
    output: str | None,
    as_json: bool,
    events_only: bool,
    loop: bool,
    allow_hls: bool,
    view: str | None,
    record: str | None,
    metrics_port: int | None,
    run_dir: str | None,
    config_file: Path | None,
    settings: tuple[str, ...],
    model: str | None,
    device: str | None,
    allow_codec: tuple[str, ...],
) -> int:
    """Watch live sources, and say ten times a second what is seen and heard.

    A SOURCE is rtsp://, rtmp://, http(s)://, udp://, a device such as /dev/video0, lavfi:GRAPH, or a file,
    which is played at its own pace. NAME stands in the labels. Sources may come from a file with -c instead.
    """
    config = read_config(config_file, settings, model=model, device=device, allow_codec=allow_codec)
    if view is not None and not looks_like_address(view):  # `--view door=rtsp://...`: it had no value
        inputs, view = (view, *inputs), USUAL
    sources = {**config.sources, **named_sources(inputs, loop=loop, allow_hls=allow_hls)}
    check_names(sources)
    if run_dir is not None:
        config = config.model_copy(update={"run_dir": run_dir})
    live = {"folder": output and str(Path(output).absolute()), "metrics_port": metrics_port}
    changed = {key: value for key, value in live.items() if value is not None}
    config = config.model_copy(update={"live": config.live.model_copy(update=changed)})
    if record is not None:
        config = config.model_copy(update={"record": config.record.model_copy(update={"folder": record})})
    if view is not None:
        config = config.model_copy(update={"view": config.view.model_copy(update={"address": view})})
    show_json = as_json or events_only or not sys.stdout.isatty()
    return watch(config, sources, duration_ns, show_json=show_json, events_only=events_only)


def named_sources(inputs: Iterable[str], *, loop: bool, allow_hls: bool) -> dict[str, SourceConfig]:
    """`door=rtsp://...` or a bare source, which gets a name of its own.

    raises  ConfigError where a name is used twice
    """
    named: dict[str, SourceConfig] = {}
    for text in inputs:
        match = None if Path(text).exists() else _NAMED.match(text)
        address = match[2] if match else text
        source = SourceConfig(input=address, loop=loop, allow_hls=allow_hls)
        name = match[1] if match else source_name(parse_source(address, allow_hls=allow_hls))
        if name in named:
            raise ConfigError(
                "each source has a name of its own", got=f"{name} twice", hint="write NAME=SOURCE"
            )
        named[name] = source
    return named


def watch(
    config: AppConfig,
    sources: dict[str, SourceConfig],
    duration_ns: int | None,
    *,
    show_json: bool,
    events_only: bool = False,
) -> int:
    """Run the processes until a signal, the end of all sources, or `duration_ns`; return the exit code."""
    if config.view.address is not None:
        config = config.model_copy(update={"view": settle(config.view)})
    settled = run_config(config, sources, "live")
    if settled.live.folder is not None:
        prepare_folder(Path(settled.live.folder) / "any.jsonl")
    describe_recording(settled)
    with run_directory(settled) as file, _signals() as signals:
        screen = Screen(settled, show_json=show_json, events_only=events_only)
        if settled.view.address is not None:
            screen.say(f"watch it at {parse_address(settled.view.address).url}")
        wire = Wire(None if settled.wire.keys is None else Keys(Path(settled.wire.keys)))
        inbox = Inbox(wire, settled, screen)
        supervisor = Supervisor(
            roles(settled, file), Path(settled.run_dir) / "logs", inbox.read_progress, screen.on_notice
        )
        end_ns = None if duration_ns is None else SYSTEM.monotonic_ns() + duration_ns

        def should_stop() -> bool:
            late = end_ns is not None and SYSTEM.monotonic_ns() >= end_ns
            return late or bool(signals) or screen.reader_left

        pulse = Pulse(Systemd.from_environment())

        def on_turn() -> None:
            screen.draw()
            feel(pulse, supervisor)

        try:
            with screen.shown():
                supervisor.run(should_stop, on_turn)
                inbox.drain()
        finally:
            screen.finish()
            wire.close()
            write_status(Path(settled.run_dir) / "status.json", supervisor)
    if supervisor.failure is not None:
        raise supervisor.failure
    return 1 if screen.refused == len(sources) else 0


def feel(pulse: Pulse, supervisor: Supervisor) -> None:
    """Tell systemd how the run gets on: by the labels that are published, while any source delivers."""
    now_ns = SYSTEM.monotonic_ns()
    if supervisor.stopping:
        pulse.stopping(now_ns)
        return
    reports = [(slot.role.service, slot.report) for slot in supervisor.slots if slot.has_begun]
    told = [r.counters.get("labels", 0) for service, r in reports if service == "publish" and r is not None]
    up = any(r.gauges.get("source_up") for service, r in reports if service == "decode" and r is not None)
    settled = all(slot.has_begun or slot.over for slot in supervisor.slots if not slot.role.spare)
    pulse.beat(now_ns, sum(told) if sum(told) or (settled and not up) else None, expected=up)


class Inbox:
    """Labels and events from the publish process, progress from all, in one wait."""

    def __init__(self, wire: Wire, config: RunConfig, screen: Screen) -> None:
        self._progress = Subscriber(wire, topics=["progress"], bind=config.endpoint("progress"))
        self._labels = Subscriber(wire, topics=["label", "event"], connect=[config.endpoint("labels")])
        self._screen = screen

    def read_progress(self, timeout_ns: int) -> Iterator[Progress]:
        wait([self._progress.socket, self._labels.socket], timeout_ns)
        self.drain()
        while (message := self._progress.receive()) is not None:
            if isinstance(message.body, Progress):
                self._screen.on_progress(message.body)
                yield message.body

    def drain(self) -> None:
        while (message := self._labels.receive()) is not None:
            if isinstance(message.body, Label):
                self._screen.on_label(message.body)
            elif isinstance(message.body, Event):
                self._screen.on_event(message.body)


class Screen:
    """The run as its user sees it: JSON lines on stdout, or the live table; notices on stderr."""

    def __init__(self, config: RunConfig, *, show_json: bool, events_only: bool) -> None:
        self._model = inspect_model(config.model.path, sha256=config.model.sha256).spec.name
        self.board = Board(list(config.sources))
        self.refused = 0
        self._told_of_loss = False
        self._stdout = PatientStream(sys.stdout.fileno()) if show_json else None
        self._lines: StreamLines | None = None
        if self._stdout is not None:
            self._lines = StreamLines(cast(TextIO, self._stdout), labels=not events_only, events=events_only)
        self._console = Console(stderr=True)
        self._began_ns = self._drawn_ns = SYSTEM.monotonic_ns()
        self._device = config.model.device
        self._live = None if show_json else Live(console=Console(), auto_refresh=False)

    @property
    def reader_left(self) -> bool:
        """Whoever read our stdout has gone (`| head`)."""
        return self._lines is not None and not self._lines.wanted

    @contextmanager
    def shown(self) -> Iterator[None]:
        if self._live is None:
            yield
            return
        with self._live:
            yield
            self.draw(now=True)

    def finish(self) -> None:
        """Let the reader of our stdout take what is left; say how much it has not taken."""
        if self._stdout is None:
            return
        self._stdout.finish(STDOUT_S)
        if self._stdout.lost and not self.reader_left:
            self.say(f"stdout was not read fast enough: {self._stdout.lost} lines were thrown away")

    def on_progress(self, report: Progress) -> None:
        self.board.on_progress(report)
        lost = report.counters.get("lines_lost", 0)
        if lost and report.service == "publish" and not self._told_of_loss:
            self._told_of_loss = True
            self.say("publish: labels cannot be written to their files, and are lost; its log says why")

    def on_label(self, label: Label) -> None:
        self.board.on_label(label, SYSTEM.monotonic_ns())
        if self._lines is not None:
            self._lines.write_label(label)

    def on_event(self, event: Event) -> None:
        if self._lines is not None:
            self._lines.write_event(event)

    def on_notice(self, notice: Notice) -> None:
        role, source = notice.role, notice.role.service == "decode"
        if source and notice.kind in ("refused", "lost"):
            self.board.on_trouble(role.name, notice.text, over=notice.kind == "refused")
        if notice.kind == "refused" and source:
            self.refused += 1
        ends_the_run = notice.kind in ("refused", "given up") and not source  # which is told as the error
        if notice.kind not in ("started", "done") and not ends_the_run:
            self.say(f"{role.title}: {notice.text}")

    def say(self, text: str) -> None:
        console = self._live.console if self._live is not None else self._console
        console.print(f"streamfuse: {text}", markup=False, highlight=False, soft_wrap=True)

    def draw(self, *, now: bool = False) -> None:
        now_ns = SYSTEM.monotonic_ns()
        if self._live is None or (now_ns - self._drawn_ns < REDRAW_NS and not now):
            return
        self._drawn_ns = now_ns
        about = BoardStatus(now_ns - self._began_ns, self._device, self._model)
        self._live.update(StatusBoard(self.board.statuses(now_ns), about), refresh=True)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM is kept here and the run drains; the second ends the process at once."""
    asked: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if asked:
            os._exit(128 + number)  # our children die with us
        asked.append(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
