"""`streamfuse evaluate`: how good a model file is on recordings of groups it never met."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from streamfuse.model.runtime import load_model
from streamfuse.training.datasets.recordings import Part, read_recordings
from streamfuse.training.evaluate import evaluate as measure
from streamfuse.training.evaluate import show
from streamfuse.training.progress import Bars
from streamfuse.training.settings import division_of, read_train_config


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[MODEL]")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder with audio.csv and images.csv.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="The settings it was trained with: they say which groups were held out.",
)
@click.option("--part", type=click.Choice(["test", "tune", "train"]), default="test", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON, on standard output.")
def evaluate(file: Path | None, data: Path, config: Path | None, part: str, as_json: bool) -> None:
    """Measure a model (none: the default one) tick by tick, per clip and per class."""
    console = Console(stderr=as_json)
    settings = read_train_config(config)
    recordings = read_recordings(data, division_of(settings))
    model = load_model(file, device="cpu")
    with Bars(console) as bars:
        scores = measure(
            model, recordings, cast(Part, part), lambda what, n, of: bars.report(what, n / of, {})
        )
    if as_json:
        click.echo(json.dumps([asdict(one) for one in scores], indent=1))
    else:
        show(scores, console)
