"""From a configuration to the processes of a run: its directory, its lock, its table of roles."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

from streamfuse.cli.device import settled_device
from streamfuse.config import AppConfig, Channel, RunConfig, SourceConfig
from streamfuse.errors import ConfigError, StreamfuseError
from streamfuse.private import private_folder
from streamfuse.services.process import command, environment, reserve_command
from streamfuse.sinks.durable import write_whole
from streamfuse.supervise.child import Role
from streamfuse.supervise.reserve import Reserve
from streamfuse.supervise.supervisor import Supervisor
from streamfuse.supervise.watch import WatchLimits
from streamfuse.types import NS, Mode
from streamfuse.wire.endpoints import AddressTaken, EndpointLock, check_endpoint

RECORDED_SILENCE_NS = 20 * NS
"""A machine with more to do than it can is no reason to begin a recording's work again."""


def run_config(config: AppConfig, sources: dict[str, SourceConfig], mode: Mode) -> RunConfig:
    """What the processes are told: devices by their full names, and paths in it absolute.

    raises  BackendError where the device is not there
    """
    run_dir = Path(config.run_dir) if config.run_dir is not None else _default_run_dir(sources)
    placed = {
        name: source.model_copy(update={"input": absolute_input(source.input)})
        for name, source in sources.items()
    }
    data = {**config.model_dump(), "sources": placed, "mode": mode, "run_dir": str(run_dir.absolute())}
    data["model"]["device"] = settled_device(config.model.device)
    data["analyzers"] = _settled_analyzers(config) if mode == "live" else {}
    for section in (data["notify"]["files"], data["record"]):
        if section["folder"] is not None:
            section["folder"] = str(Path(section["folder"]).absolute())
    return RunConfig.model_validate(data)


def _settled_analyzers(config: AppConfig) -> dict[str, dict[str, str]]:
    named = {name: one.device for name, one in config.analyzers.items() if one.device is not None}
    return {name: {"device": settled_device(device)} for name, device in named.items()}


@contextmanager
def run_directory(config: RunConfig) -> Iterator[Path]:
    """Hold the run directory for this run alone; give the file that the processes read.

    raises  ConfigError where it is not its owner's alone; StreamfuseError where another run holds it
    """
    folder = private_folder(Path(config.run_dir))
    lock = EndpointLock(f"ipc://{folder}/run")
    try:
        lock.acquire()
    except AddressTaken:
        hint = "stop that one, or choose another directory with --run-dir"
        raise StreamfuseError(
            "one run at a time may use a run directory", got="another run", where=folder, hint=hint
        ) from None
    try:
        private_folder(folder / "logs")
        _check_addresses(config)
        file = folder / "run.json"
        write_run(config, file)
        yield file
    finally:
        lock.release()


def _check_addresses(config: RunConfig) -> None:
    """Raise ConfigError, before anything is started, where an address is not safe."""
    analyzers = {source.analyzer for source in config.sources.values()}
    for channel in get_args(Channel):
        for analyzer in sorted(analyzers):
            check_endpoint(config.endpoint(channel, analyzer), keys=config.wire.keys is not None)


def write_run(config: RunConfig, file: Path) -> None:
    """What the processes read when they start, replaced as a whole. Raises ConfigError."""
    new = file.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        # It may hold the cameras' passwords, so it is its owner's alone from the first byte on.
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(config.model_dump_json())
        os.replace(new, file)  # noqa: PTH105  atomic, and says so
    except OSError as error:
        raise ConfigError("the run directory must be writable", got=error.strerror, where=file) from error


def roles(config: RunConfig, file: Path, turns: Mapping[str, str] | None = None) -> list[Role]:
    """Every process of the run. A decode process may die of its camera, so it is tried for ever.

    turns  recorded: of sources with the same one, one is read at a time; unset: one for each analyzer
    """
    env = environment()
    keep = WatchLimits() if config.mode == "live" else WatchLimits(silence_ns=RECORDED_SILENCE_NS)
    outside = replace(keep, outside=config.mode == "live")
    analyzers = sorted({source.analyzer for source in config.sources.values()})
    reserved = _has_reserve(config)
    table = [Role("publish", "publish", tuple(command("publish", file)), env, keep, reserved=reserved)]
    for name in analyzers:
        argv = tuple(command("analyze", file, name, standby=True))
        table.append(Role("analyze", name, argv, env, keep))
        if config.mode == "live" and config.live.spare:
            table.append(Role("analyze", name, argv, env, keep, spare=True))
    return table + [
        Role(
            "decode",
            name,
            tuple(command("decode", file, name)),
            env,
            outside,
            # Recordings wait for each other: an analyzer with one is busy.
            turn=(turns or {}).get(name, source.analyzer) if config.mode == "recorded" else None,
            reserved=reserved,
        )
        for name, source in config.sources.items()
    ]


def reserve_of(config: RunConfig) -> Reserve | None:
    """What takes the place of a decode or publish process that dies, as the spare does of analyze."""
    if not _has_reserve(config):
        return None
    folder = Path(config.run_dir)
    return Reserve(reserve_command(folder), environment(), folder / "logs")


def _has_reserve(config: RunConfig) -> bool:
    return config.mode == "live" and config.live.spare


def write_status(path: Path, supervisor: Supervisor) -> None:
    """Each process's last report and how often it was started again, for whoever asks what happened.

    raises  OutputError
    """
    processes = [
        {
            "service": slot.role.service,
            "name": slot.role.name,
            "spare": slot.role.spare,
            "restarts": slot.watch.restarts,
            "last_trouble": slot.watch.reason,
            "state": slot.report.state if slot.report else None,
            "counters": slot.report.counters if slot.report else {},
            "gauges": slot.report.gauges if slot.report else {},
        }
        for slot in supervisor.slots
    ]
    write_whole(path, json.dumps({"processes": processes}, indent=1) + "\n")


def _default_run_dir(sources: dict[str, SourceConfig]) -> Path:
    """The same for the same sources, so that their sessions' numbers go on and a second run is noticed."""
    said = json.dumps(sorted((name, source.input) for name, source in sources.items()))
    return state_folder() / hashlib.sha256(said.encode()).hexdigest()[:8]


def state_folder() -> Path:
    """Where run directories lie that were not named."""
    state = os.environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path.home() / ".local" / "state"
    return base / "streamfuse"


def absolute_input(text: str) -> str:
    """A path of a file that is there, made absolute; a URL or a device is left as it is."""
    path = Path(text)
    try:
        return str(path.absolute()) if path.exists() else text
    except OSError:  # a URL too long to be a file's name
        return text


def check_names(sources: dict[str, SourceConfig]) -> None:
    """Raise ConfigError where there is nothing to run."""
    if not sources:
        hint = "name some (streamfuse run door=rtsp://...), or a file with -c"
        raise ConfigError("a run needs at least one source", got="none", hint=hint)
