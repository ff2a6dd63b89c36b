"""`streamfuse validate`: is the configuration right, and what does it mean for the age of an answer?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamfuse.config import AppConfig
from streamfuse.errors import ConfigError
from streamfuse.settings import json_schema, load_config

if TYPE_CHECKING:
    from streamfuse.profiling.floor import HeadFloor


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="FILE")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one setting.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors.")
def validate(file: Path | None, settings: tuple[str, ...], schema: bool) -> None:
    """Check a configuration file; say what its settings cost in latency."""
    if schema:
        click.echo(json_schema())
        return
    if file is None:
        raise ConfigError("validate needs a FILE, or --schema", got="neither")
    config = load_config(file, settings)
    click.echo(f"{file}: right")
    for line in _latency_lines(config):
        click.echo(line)


def _latency_lines(config: AppConfig) -> list[str]:
    """What the configuration and the model add to an answer's age before any computing."""
    from streamfuse.model.inspect import inspect_model  # only for those who want this
    from streamfuse.profiling.floor import floor_of

    spec = inspect_model(config.model.path).spec
    floor = floor_of(config, spec)
    wait = (
        "40 ms, 1.5 packets, or its usual lag"
        if floor.late_track_ms is None
        else f"{floor.late_track_ms:g} ms"
    )
    lines = [
        f"latency before any computing (model {spec.name}):",
        f"  hop: {floor.hop_ms:g} ms; what happens waits {floor.mean_wait_ms:g} ms on average for its end",
        f"  window: {floor.window_ms:g} ms of picture, {floor.mfcc_window_ms:g} ms of sound, never ahead",
        f"  live, a late track is waited for: {wait}",
    ]
    lines += [f"  {_head_line(head)}" for head in floor.heads]
    for name in config.sources:
        own = floor_of(config.of(name), spec).heads
        lines += [f"  {name}, {_head_line(h)}" for h in own if h not in floor.heads]
    most = min((head.half_ms for head in floor.heads), default=floor.hop_ms)
    lines.append(
        f"  so a label shows a change {most - floor.hop_ms:g} to {most:g} ms after it, on any machine"
    )
    return lines


def _head_line(head: HeadFloor) -> str:
    event = "no event at this `enter`" if head.event_ms is None else f"an event after {head.event_ms:g} ms"
    return (
        f"{head.head}: smoothing {head.smoothing_ms / 1000:g} s; a sudden and certain change is half "
        f"seen after {head.half_ms:g} ms, {event}"
    )
