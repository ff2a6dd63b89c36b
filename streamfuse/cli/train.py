"""`streamfuse train`: recordings in, a trained and calibrated model file out."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console

from streamfuse.errors import ConfigError
from streamfuse.training.assess import Measures
from streamfuse.training.card import card_text
from streamfuse.training.clip_card import clip_card
from streamfuse.training.clip_run import ClipRun
from streamfuse.training.datasets.entry import DataEntry, entry_of, said
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.evaluate import show
from streamfuse.training.folds import folds_of, in_fold, show_folds, spreads, write_folds
from streamfuse.training.progress import Bars
from streamfuse.training.report import show_measures
from streamfuse.training.settings import DataSettings, TrainConfig, read_train_config
from streamfuse.training.train import Run


@click.command()
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="Settings, as configs/train/default.yaml."
)
@click.option(
    "--data",
    multiple=True,
    metavar="DIR | LAYOUT:PATH",
    help="A folder with audio.csv and images.csv; or tau:DIR, ravdess:DIR, crema_d:DIR, manifest:FILE, "
    "classes:DIR, tables:DIR or synthetic, several times. Unset: the list `data:` of the settings.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("model.ts"), show_default=True)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("train.work"),
    show_default=True,
    help="Caches and the weights so far; a killed run goes on from there.",
)
@click.option(
    "--folds",
    is_flag=True,
    help="RAVDESS, CREMA-D: a model for each fold of speakers (OUT.fold1, ...), and the mean and spread of "
    "their figures in OUT.folds.json.",
)
def train(config: Path | None, data: tuple[str, ...], out: Path, work: Path, folds: bool) -> None:
    """Train a model on recordings, calibrate it, and measure it on groups it never met."""
    console = Console()
    settings = read_train_config(config)
    work.mkdir(parents=True, exist_ok=True)
    entries = entries_of(settings, data)
    words = ["-c", config.name] if config else []
    if entries is None:
        if folds:
            raise ConfigError("--folds needs --data LAYOUT:PATH", got="a folder of recordings")
        _on_folder(settings, Path(data[0]), out, work, console)
        return
    words += said(entries) if data else []
    if folds:
        _on_folds(settings, entries, out, work, console, words)
    else:
        _on_clips(settings, entries, out, work, console, words)


def entries_of(settings: TrainConfig, data: tuple[str, ...]) -> tuple[DataEntry, ...] | None:
    """The data sets of the command line, or of the settings; None for one folder of tables.

    raises  ConfigError for neither, or for a data set that is misspelt
    """
    if not data:
        if isinstance(settings.data, tuple) and settings.data:
            return settings.data
        hint = "--data DIR, --data ravdess:DIR, or a list `data:` in the settings"
        raise ConfigError("training and evaluation need data", got="none", hint=hint)
    layouts = DataEntry.model_fields["layout"].annotation.__args__  # type: ignore[union-attr]
    named = [text for text in data if text.partition(":")[0] in layouts]
    if not named and len(data) == 1 and (":" not in data[0] or Path(data[0]).is_dir()):
        return None
    for text in data:
        if text not in named:
            hint = f"layouts are {', '.join(layouts)}"
            raise ConfigError("--data must be a folder, or LAYOUT:PATH", got=text, hint=hint)
    try:
        return tuple(_divided(entry_of(text), settings) for text in data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError("--data must be LAYOUT:PATH", got=" ".join(data), hint=first["msg"]) from None


def _divided(entry: DataEntry, settings: TrainConfig) -> DataEntry:
    """Tables are divided as the settings of a folder of recordings say, where they say anything."""
    said = settings.data if "data" in settings.model_fields_set else None
    if entry.layout != "tables" or not isinstance(said, DataSettings):
        return entry
    return entry.model_copy(update=said.model_dump())


def _on_folder(settings: TrainConfig, data: Path, out: Path, work: Path, console: Console) -> None:
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


def _on_clips(
    settings: TrainConfig,
    entries: tuple[DataEntry, ...],
    out: Path,
    work: Path,
    console: Console,
    words: list[str],
) -> list[Measures]:
    found = read_clips(entries)
    command = shlex.join(["streamfuse", "evaluate", out.name, *words])
    with Bars(console, work / "loss.csv") as bars:
        run = ClipRun(settings, found, work, bars.report, bars.cached)
        run.learn()
        spec, measures = run.measure(out, run.finish(out), command)
    for line in run.dropped:
        console.print(f"left out: {line}", markup=False)
    out.with_name(out.name + ".md").write_text(clip_card(spec, measures, command), encoding="utf-8")
    if measures:
        show_measures(measures, console)
    console.print(
        f"wrote {out} and its card {out.name}.md: {spec.name}, weights {spec.weights_sha256[:16]}",
        markup=False,
    )
    return measures


def _on_folds(
    settings: TrainConfig,
    entries: tuple[DataEntry, ...],
    out: Path,
    work: Path,
    console: Console,
    words: list[str],
) -> None:
    by_fold = []
    for fold in range(1, folds_of(entries) + 1):
        console.print(f"fold {fold}", markup=False)
        name = out.with_name(f"{out.stem}.fold{fold}{out.suffix}")
        by_fold.append(_on_clips(settings, in_fold(entries, fold), name, work, console, words))
    found = spreads(by_fold)
    show_folds(found, console)
    command = shlex.join(["streamfuse", "train", *words, "--folds"])
    write_folds(out.with_name(f"{out.stem}.folds.json"), found, command)
