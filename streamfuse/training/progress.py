"""What a run tells while it works: one bar per stage, and a CSV line now and then."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY = 10
"""Steps; and every look at the held-out groups, and the last step."""
COLUMNS = ("stage", "step", "loss", "held_out", "rate")


class Log:
    """A CSV file with one row per stage and step, whatever was killed in between.

    A run that goes on repeats the steps after what it kept: the rows of these are taken out first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun: set[str] = set()

    def told(self, stage: str, done: float, figures: dict[str, float]) -> None:
        if "loss" not in figures:
            return
        step = int(figures["step"])
        if stage not in self._begun:
            self._begun.add(stage)
            self._forget(stage, step)
        if step % LOG_EVERY == 0 or "held_out" in figures or done >= 1.0:
            shown = [f"{figures[name]:.6g}" if name in figures else "" for name in COLUMNS[2:]]
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([stage, step, *shown])

    def _forget(self, stage: str, step: int) -> None:
        """Leave the header, the other stages' rows, and this one's before `step`."""
        rows = [row for row in self._rows() if row[0] != stage or int(row[1]) < step]
        part = self.path.with_name(self.path.name + ".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
        part.replace(self.path)

    def _rows(self) -> list[list[str]]:
        """What is there; nothing of a file of other columns, and no row that a kill cut short."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        return [row for row in rows if len(row) == len(COLUMNS)] if tuple(header) == COLUMNS else []


class Bars:
    """Use as a context; `report` and `cached` are what the stages call. log: a CSV file, see Log."""

    def __init__(self, console: Console, log: Path | None = None) -> None:
        columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._tasks: dict[str, TaskID] = {}
        self._log = None if log is None else Log(log)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def report(self, stage: str, done: float, figures: dict[str, float]) -> None:
        """`done` is the share of the stage that is behind us."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=1.0, figures="")
        said = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._progress.update(self._tasks[stage], completed=done, figures=said)
        if self._log is not None:
            self._log.told(stage, done, figures)

    def cached(self, done: int, total: int, what: str) -> None:
        self.report(f"decode {what}", done / max(total, 1), {})
