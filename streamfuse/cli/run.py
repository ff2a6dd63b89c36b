"""`streamfuse run`: watch live sources until stopped."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import click

from streamfuse.cli.control import Control
from streamfuse.cli.launch import check_names, reserve_of, roles, run_config, run_directory, write_status
from streamfuse.cli.options import config_options, read_config
from streamfuse.cli.recorder import describe_recording
from streamfuse.cli.roster import ReadAgain, Roster
from streamfuse.cli.screen import Inbox, Screen
from streamfuse.clock import SYSTEM
from streamfuse.config import AppConfig, SourceConfig
from streamfuse.errors import ConfigError
from streamfuse.media.source import parse_source
from streamfuse.pipeline.names import source_name
from streamfuse.sinks.durable import prepare_folder
from streamfuse.supervise.supervisor import Supervisor
from streamfuse.supervise.systemd import Pulse, Systemd
from streamfuse.types import NS
from streamfuse.view.address import USUAL, looks_like_address, parse_address, settle
from streamfuse.wire.keys import Keys
from streamfuse.wire.transport import Wire

_NAMED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9_. -]{0,63})=(.+)$", re.DOTALL)
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h)?$")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


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
@click.option(
    "--realtime",
    is_flag=True,
    expose_value=False,
    help="Play a file at its own pace. So `run` does anyway; as fast as possible is `streamfuse process`.",
)
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
    if view is not None and not looks_like_address(view):  # `--view door=rtsp://...`: it had no value
        inputs, view = (view, *inputs), USUAL
    named = named_sources(inputs, loop=loop, allow_hls=allow_hls)
    folder = None if output is None else str(Path(output).absolute())
    said: dict[str, dict[str, object]] = {
        "live": {"folder": folder, "metrics_port": metrics_port},
        "record": {"folder": record},
        "view": {"address": view},
    }

    def read() -> tuple[AppConfig, dict[str, SourceConfig]]:
        config = read_config(config_file, settings, model=model, device=device, allow_codec=allow_codec)
        if run_dir is not None:
            config = config.model_copy(update={"run_dir": run_dir})
        return with_options(config, said), {**config.sources, **named}

    show_json = as_json or events_only or not sys.stdout.isatty()
    return watch(read, duration_ns, show_json=show_json, events_only=events_only)


def with_options(config: AppConfig, said: Mapping[str, Mapping[str, object]]) -> AppConfig:
    """The configuration with what the command line says of its sections; None says nothing."""
    sections = {
        name: getattr(config, name).model_copy(update={k: v for k, v in given.items() if v is not None})
        for name, given in said.items()
    }
    return config.model_copy(update=sections)


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


def watch(read: ReadAgain, duration_ns: int | None, *, show_json: bool, events_only: bool = False) -> int:
    """Run the processes until a signal, the end of all sources, or `duration_ns`; return the exit code.

    read  gives the configuration and its sources, now and whenever a reload is asked for
    """
    config, sources = began = read()
    check_names(sources)
    if config.view.address is not None:
        config = config.model_copy(update={"view": settle(config.view)})
    settled = run_config(config, sources, "live")
    if settled.live.folder is not None:
        prepare_folder(Path(settled.live.folder) / "any.jsonl")
    describe_recording(settled)
    with run_directory(settled) as file, _signals() as asked:
        screen = Screen(settled, show_json=show_json, events_only=events_only)
        if settled.view.address is not None:
            screen.say(f"watch it at {parse_address(settled.view.address).url}")
        wire = Wire(None if settled.wire.keys is None else Keys(Path(settled.wire.keys)))
        inbox = Inbox(wire, settled, screen)
        supervisor = Supervisor(
            roles(settled, file),
            Path(settled.run_dir) / "logs",
            inbox.read_progress,
            screen.on_notice,
            reserve=reserve_of(settled),
        )
        roster = Roster(settled, file, supervisor, screen, began, read)
        control = Control(wire, roster)
        inbox.ports.append(control.socket)
        end_ns = None if duration_ns is None else SYSTEM.monotonic_ns() + duration_ns

        def should_stop() -> bool:
            late = end_ns is not None and SYSTEM.monotonic_ns() >= end_ns
            return late or bool(asked.stops) or screen.reader_left

        pulse = Pulse(Systemd.from_environment())

        def on_turn() -> None:
            if asked.take_reload():
                control.reload()
            control.turn()
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
    return 1 if screen.refused == set(roster.config.sources) else 0


def feel(pulse: Pulse, supervisor: Supervisor) -> None:
    """Tell systemd how the run gets on: by the labels that are published, while any source delivers."""
    now_ns = SYSTEM.monotonic_ns()
    if supervisor.stopping:
        pulse.stopping(now_ns)
        return
    reports = [(slot.role.service, slot.report) for slot in supervisor.slots if slot.has_begun]
    told = [r.counters.get("labels", 0) for service, r in reports if service == "publish" and r is not None]
    up = any(r.gauges.get("source_up") for service, r in reports if service == "decode" and r is not None)
    settled = all(
        slot.has_begun or slot.over or slot.paused for slot in supervisor.slots if not slot.role.spare
    )
    pulse.beat(now_ns, sum(told) if sum(told) or (settled and not up) else None, expected=up)


@dataclass
class Asked:
    """What signals have asked for."""

    stops: list[int] = field(default_factory=list)
    reload: bool = False

    def take_reload(self) -> bool:
        reload, self.reload = self.reload, False
        return reload


@contextmanager
def _signals() -> Iterator[Asked]:
    """The first SIGINT or SIGTERM is kept here and the run drains; the second ends the process at once.

    SIGHUP asks a service for its configuration to be read again; in a terminal it says that this is gone.
    """
    asked = Asked()
    reloads = not (sys.stdin.isatty() or sys.stdout.isatty())

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and reloads:
            asked.reload = True
            return
        if asked.stops:
            os._exit(128 + number)  # our children die with us
        asked.stops.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if reloads or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
