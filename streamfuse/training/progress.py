"""What a run tells while it works: one bar per stage, and a CSV line now and then."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY = 10


class Bars:
    """Use as a context; `report` and `cached` are what the stages call. log: a CSV file to append to."""

    def __init__(self, console: Console, log: Path | None = None) -> None:
        columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._tasks: dict[str, TaskID] = {}
        self._log = log

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
        if self._log is not None and "loss" in figures and int(figures["step"]) % LOG_EVERY == 0:
            with self._log.open("a", newline="") as file:
                csv.writer(file).writerow([stage, int(figures["step"]), f"{figures['loss']:.6f}"])

    def cached(self, done: int, total: int, what: str) -> None:
        self.report(f"decode {what}", done / max(total, 1), {})
