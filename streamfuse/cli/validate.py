"""`streamfuse validate`: is the configuration right, and what does it mean for the age of an answer?"""

from __future__ import annotations

from pathlib import Path

import click

from streamfuse.config import AppConfig
from streamfuse.errors import ConfigError
from streamfuse.settings import json_schema, load_config


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
    from streamfuse.model.inspect import inspect_model  # numba, only for those who want this

    spec = inspect_model(config.model.path).spec
    audio_ms = spec.audio.n_fft * 1000 / spec.audio.sample_rate
    hop_ms, frames = spec.video.hop_ms, spec.video.frames
    fixed = config.ticks.max_wait_ms
    wait = "40 ms, 1.5 packets, or its usual lag" if fixed is None else f"{fixed} ms"
    lines = [
        f"latency before any computing (model {spec.name}):",
        f"  hop: {hop_ms} ms; an answer comes when its tick is complete, half a hop after its middle",
        f"  window: {frames * hop_ms} ms of picture, {audio_ms:g} ms for each MFCC frame, never ahead",
        f"  live, a late track is waited for: {wait}",
    ]
    for head in spec.heads:
        settings = config.labels.head(head.name)
        lines.append(
            f"  {head.name}: smoothing {settings.smoothing_s:g} s (63 % of a change after so long), "
            f"an event after {settings.min_dwell_s:g} s more at {settings.enter:g}"
        )
    return lines
