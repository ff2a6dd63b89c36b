"""`streamfuse evaluate`: how good a model file is on recordings of groups it never met."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from streamfuse.cli.train import entries_of
from streamfuse.errors import ConfigError
from streamfuse.model.runtime import load_model
from streamfuse.training.assess import CLEAN, assess
from streamfuse.training.datasets.clips import ClipSet, at_most
from streamfuse.training.datasets.composed import composed_streams
from streamfuse.training.datasets.entry import DataEntry, said
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.datasets.recordings import Part, read_recordings
from streamfuse.training.evaluate import evaluate as measure
from streamfuse.training.evaluate import show
from streamfuse.training.progress import Bars
from streamfuse.training.report import as_json, page_of, show_measures, write_text
from streamfuse.training.settings import division_of, read_train_config
from streamfuse.training.takes import CONDITIONS


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[MODEL]")
@click.option(
    "--data",
    multiple=True,
    metavar="DIR | LAYOUT:PATH",
    help="As for `streamfuse train`: a folder with audio.csv and images.csv, or ravdess:DIR and so on.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="The settings it was trained with: they say which groups were held out.",
)
@click.option("--part", type=click.Choice(["test", "tune", "train"]), default="test", show_default=True)
@click.option(
    "--clips",
    "most",
    type=click.IntRange(min=1),
    metavar="N",
    help="Clips: so many of each data set; unset: all.",
)
@click.option(
    "--streams",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Clips: as many streams besides, for each head, of stills and sounds that change together.",
)
@click.option("--clean", is_flag=True, help="Clips: as recorded only, nothing missing, degraded or shifted.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Clips: the report as one page."
)
@click.option("--json", "json_out", is_flag=True, help="As JSON, on standard output.")
def evaluate(
    file: Path | None,
    data: tuple[str, ...],
    config: Path | None,
    part: str,
    most: int | None,
    streams: int,
    clean: bool,
    html: Path | None,
    json_out: bool,
) -> None:
    """Measure a model (none: the default one) tick by tick, per clip and per class."""
    console = Console(stderr=json_out)
    settings = read_train_config(config)
    entries = entries_of(settings, data)
    if entries is not None:
        played = _played(entries, cast(Part, part), most, streams)
        words = _words(file, entries, most, streams)
        _clips(file, played, words, clean, html, json_out, console)
        return
    for option, value in (("--html", html), ("--clips", most), ("--streams", streams)):
        if value:
            hint = f"--data tables:{data[0]}"
            raise ConfigError(f"{option} needs clips", got="a folder of recordings", hint=hint)
    recordings = read_recordings(Path(data[0]), division_of(settings))
    model = load_model(file, device="cpu")
    with Bars(console) as bars:
        scores = measure(
            model, recordings, cast(Part, part), lambda what, n, of: bars.report(what, n / of, {})
        )
    if json_out:
        click.echo(json.dumps([asdict(one) for one in scores], indent=1))
    else:
        show(scores, console)


def _played(entries: tuple[DataEntry, ...], part: Part, most: int | None, streams: int) -> ClipSet:
    """The clips of the part that are played, and the streams composed of all of them."""
    found = read_clips(entries)
    clips = found.of(part)
    if not clips:
        splits = ", ".join(dict.fromkeys(clip.split for clip in found.clips))
        hint = f"--part train or tune; its splits are {splits}"
        raise ConfigError(f"the part `{part}` must have clips", got="none", hint=hint)
    composed = composed_streams(clips, streams)
    if streams and not composed:
        hint = "pictures without sound and sounds without picture, of two labels or more"
        raise ConfigError("--streams needs what it can compose", got="none", hint=hint)
    chosen = clips if most is None else at_most(clips, most)
    return replace(found, clips=(*chosen, *composed))


def _words(file: Path | None, entries: tuple[DataEntry, ...], most: int | None, streams: int) -> str:
    """The command that measures it again."""
    words = ["streamfuse", "evaluate", *([file.name] if file else []), *said(entries)]
    words += [] if most is None else ["--clips", str(most)]
    return shlex.join(words + (["--streams", str(streams)] if streams else []))


def _clips(
    file: Path | None,
    found: ClipSet,
    command: str,
    clean: bool,
    html: Path | None,
    json_out: bool,
    console: Console,
) -> None:
    model = load_model(file, device="cpu")
    dropped = list(found.dropped)
    conditions = (CLEAN,) if clean else tuple(CONDITIONS)
    with Bars(console) as bars:
        measures = assess(
            model, found.clips, conditions=conditions, dropped=dropped,
            progress=lambda done, total: bars.report("clips", done / total, {}),
        )  # fmt: skip
    if not measures:
        raise ConfigError("the model and the data must share labels", got="none", where=model.path)
    if html is not None:
        write_text(html, page_of(model, measures, dropped, command))
    if json_out:
        click.echo(as_json(model, measures, dropped, command))
        return
    show_measures(measures, console)
    for line in dropped:
        console.print(f"left out: {line}", markup=False)
