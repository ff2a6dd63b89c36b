"""`streamfuse probe`: what is in a source."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from streamfuse.cli.options import config_options, read_config
from streamfuse.media.probe import SourceInfo, TrackInfo
from streamfuse.media.probe import probe as probe_source
from streamfuse.media.source import parse_source
from streamfuse.types import NS

_ABOUT_THE_FILE = frozenset({"major_brand", "minor_version", "compatible_brands"})
"""Metadata that says nothing beyond the container's own name."""


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, with everything that is known.")
@config_options
def probe(source: str, as_json: bool, **common: Any) -> None:
    """Say what is in a file, a URL or a device: container, length, tracks, codecs, sizes and rates."""
    config = read_config(**common)
    parsed = parse_source(source)
    info = probe_source(parsed, config.decode)
    if as_json:
        click.echo(json.dumps({"source": parsed.display, **info.as_dict()}, indent=2, ensure_ascii=False))
    else:
        _show(_console(), parsed.display, info)


def _console() -> Console:
    """In a pipe there is no right margin to keep within."""
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=200)


def _show(console: Console, name: str, info: SourceInfo) -> None:
    length = "length not known" if info.duration_ns is None else _length(info.duration_ns)
    console.print(name, style="bold", markup=False)
    console.print(f"{info.container}, {length}", markup=False)
    starts = {track.start_ns for track in info.tracks}
    rows = [_row(track, tell_start=len(starts) > 1) for track in info.tracks]
    table = Table(box=SIMPLE_HEAD)
    # What no track says anything about has no column.
    for column in (column for column in rows[0] if any(row[column] for row in rows)):
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(row[column.header] or "-" for column in table.columns))  # type: ignore[index]
    console.print(table)
    if info.others:
        console.print(f"not used: {', '.join(info.others)}", markup=False)
    for key, value in info.metadata.items():
        if key not in _ABOUT_THE_FILE:
            console.print(f"{key}: {value}", markup=False, style="dim")


def _row(track: TrackInfo, *, tell_start: bool) -> dict[str, str | None]:
    """Column -> what this track says; None where it says nothing worth a column."""
    if track.track == "video":
        what = _picture(track)
        rate = None if track.fps is None else f"{_number(track.fps)} fps"
    else:
        what = track.layout or f"{track.channels} channels"
        rate = None if track.rate_hz is None else f"{_number(track.rate_hz / 1000)} kHz"
    return {
        "track": track.track,
        "codec": track.codec,
        "what": what,
        "rate": rate,
        "begins at": None if track.start_ns is None or not tell_start else _length(track.start_ns),
        "length": None if track.duration_ns is None else _length(track.duration_ns),
        "language": None if track.language == "und" else track.language,
    }


def _picture(track: TrackInfo) -> str:
    """`1920 x 1080 yuv420p`, and what is unusual about it."""
    parts = [f"{track.width} x {track.height}", track.pixel_format or ""]
    if track.pixel_aspect not in (None, (1, 1)):
        parts.append(f"pixels {track.pixel_aspect[0]}:{track.pixel_aspect[1]}")
    if track.rotation:
        parts.append(f"turned by {track.rotation}°")
    return " ".join(filter(None, parts))


def _number(value: float) -> str:
    """29.97, 25, 44.1: at most three decimals, none of them for nothing."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _length(ns: int) -> str:
    """8.713 s, 3:00.257, 1:02:03.5; negative where a track begins before the recording's zero."""
    sign, ms = ("-", -ns) if ns < 0 else ("", ns)
    ms = (ms * 1000 + NS // 2) // NS
    seconds, ms = divmod(ms, 1000)
    fraction = f".{ms:03d}".rstrip("0").rstrip(".")
    if seconds < 60:
        return f"{sign}{seconds}{fraction} s"
    hours, minutes = divmod(seconds // 60, 60)
    start = f"{hours}:{minutes:02d}" if hours else str(minutes)
    return f"{sign}{start}:{seconds % 60:02d}{fraction}"
