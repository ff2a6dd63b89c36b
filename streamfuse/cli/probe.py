"""`streamfuse probe`: what is in a source."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from streamfuse.cli.options import config_options, read_config
from streamfuse.media.probe import probe as probe_source
from streamfuse.media.source import parse_source


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@config_options
def probe(source: str, as_json: bool, **common: Any) -> None:
    """Say what is in a file, a URL or a device: container, length, tracks, codecs, sizes and rates."""
    config = read_config(**common)
    parsed = parse_source(source)
    facts = probe_source(parsed, config.decode).as_dict()
    if as_json:
        click.echo(json.dumps({"source": parsed.display, **facts}, indent=2, ensure_ascii=False))
        return
    tracks = facts.pop("tracks", [])
    console = Console(soft_wrap=True, highlight=False)
    console.print(parsed.display, markup=False)
    for name, value in facts.items():
        if value is not None:
            console.print(f"  {name}: {value}", markup=False)
    for number, track in enumerate(tracks):
        console.print(_track_table(number, track))


def _track_table(number: int, track: dict[str, Any]) -> Table:
    table = Table(title=f"track {number}", title_justify="left", show_header=False, box=None)
    for name, value in track.items():
        if value not in (None, "", [], {}):
            table.add_row(f"  {name}", str(value))
    return table
