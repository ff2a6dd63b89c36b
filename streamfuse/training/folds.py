"""Every speaker tested once: a model for each fold, and the mean and spread of what they reach.

The usual protocol of emotion data (RAVDESS in six folds of four actors, CREMA-D in five): of fold k the
actors are tested, of the next one they are for tuning, the others are learned from (datasets/entry.py).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from streamfuse.errors import ConfigError
from streamfuse.training.assess import Measures
from streamfuse.training.datasets.entry import FOLDED, DataEntry

MEASURES = ("accuracy", "uar", "macro_f1", "log_loss", "ece")


@dataclass(frozen=True)
class Spread:
    """One measure of a head on a data set: a value for each fold, in 0..1 but for the loss.

    per  "clip", or "tick" where clips change their label
    std  of a sample (n - 1); NaN of one fold
    """

    dataset: str
    head: str
    condition: str
    per: str
    measure: str
    folds: tuple[float, ...]
    mean: float
    std: float


def folds_of(entries: Sequence[DataEntry]) -> int:
    """How many folds these data sets have. ConfigError: none has any, or not all the same number."""
    counts = {one.layout: FOLDED[one.layout] for one in entries if one.layout in FOLDED}
    if len(set(counts.values())) != 1:
        got = ", ".join(f"{layout} {count}" for layout, count in counts.items()) or "none"
        rule = f"--folds needs data that is divided into folds of speakers ({', '.join(FOLDED)}), all alike"
        raise ConfigError(rule, got=got)
    return next(iter(counts.values()))


def in_fold(entries: Sequence[DataEntry], fold: int) -> tuple[DataEntry, ...]:
    """The same data sets with this fold tested."""
    return tuple(one.model_copy(update={"fold": fold}) if one.layout in FOLDED else one for one in entries)


def spreads(by_fold: Sequence[Sequence[Measures]]) -> list[Spread]:
    """What the folds have in common, in the order of the first; a measure that a fold lacks is left out."""
    values: dict[tuple[str, str, str, str, str], list[float]] = {}
    for measures in by_fold:
        for one in measures:
            per, figures = ("clip", one.clip) if one.clip else ("tick", one.tick)
            for name in MEASURES:
                if math.isfinite(value := figures.get(name, math.nan)):
                    key = (one.dataset, one.head, one.condition, per, name)
                    values.setdefault(key, []).append(value)
    return [
        Spread(*key, tuple(some), statistics.mean(some), _deviation(some))
        for key, some in values.items()
        if len(some) == len(by_fold)
    ]


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def write_folds(path: Path, found: Sequence[Spread], command: str) -> None:
    figures = [asdict(one) for one in found]
    path.write_text(json.dumps({"command": command, "figures": figures}, indent=1) + "\n", encoding="utf-8")


def show_folds(found: Sequence[Spread], console: Console) -> None:
    """A row for each measure: mean, deviation, and every fold."""
    table = Table(title="over all folds: per cent (loss in nats)", title_justify="left", box=SIMPLE)
    for name in ("head, data", "condition", "measure", "mean", "std", "folds"):
        table.add_column(name, overflow="fold")
    for one in found:
        scale = 1 if one.measure == "log_loss" else 100
        each = " ".join(f"{scale * value:.1f}" for value in one.folds)
        cells = (f"{scale * one.mean:.1f}", f"{scale * one.std:.1f}", each)
        table.add_row(f"{one.head}, {one.dataset}", one.condition, f"{one.measure} per {one.per}", *cells)
    console.print(table)
