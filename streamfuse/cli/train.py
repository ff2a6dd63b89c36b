"""`streamfuse train`: recordings in, a trained and calibrated model file out."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from streamfuse.training.card import card_text
from streamfuse.training.evaluate import show
from streamfuse.training.progress import Bars
from streamfuse.training.settings import read_train_config
from streamfuse.training.train import Run


@click.command()
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="Settings, as configs/train/default.yaml."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder with audio.csv and images.csv.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("model.ts"), show_default=True)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("train.work"),
    show_default=True,
    help="Caches and the weights after each stage; a killed run goes on from there.",
)
def train(config: Path | None, data: Path, out: Path, work: Path) -> None:
    """Train a model on a folder of recordings, calibrate it, and measure it on groups it never met."""
    console = Console()
    settings = read_train_config(config)
    work.mkdir(parents=True, exist_ok=True)
    with Bars(console, work / "loss.csv") as bars:
        run = Run(settings, data, work, bars.report, bars.cached)
        run.learn()
        spec, scores = run.finish(out)
    for line in run.dropped:
        console.print(f"left out: {line}", markup=False)
    out.with_name(out.name + ".md").write_text(card_text(spec, scores), encoding="utf-8")
    show(scores, console)
    console.print(
        f"wrote {out} and its card {out.name}.md: {spec.name}, weights {spec.weights_sha256[:16]}",
        markup=False,
    )
