"""One data set of a training configuration: which layout, where, and what to make of its labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from streamfuse.section import Section
from streamfuse.training.datasets.clips import Kind
from streamfuse.training.datasets.crema_d import Target
from streamfuse.training.datasets.recordings import FOLDER, Division

Layout = Literal["tau", "ravdess", "crema_d", "manifest", "classes", "tables", "synthetic"]
FOLDED = {"ravdess": 6, "crema_d": 5}
"""Data sets that are divided by speakers, and the number of their folds."""
TEST = ("test", "eval", "evaluate")
TUNE = ("val", "valid", "validation", "tune", "dev")


class DataEntry(Section):
    layout: Layout
    path: Path | None = None
    labels: dict[str, dict[str, str | None]] = Field(default_factory=dict)
    """Head -> its label -> the label it becomes, or null: forget it. RAVDESS in seven classes: {emotion:
    {calm: null}}."""
    fold: int = Field(1, ge=1, le=6)
    """RAVDESS, CREMA-D: the fold that is tested; the next one is for tuning."""
    song: bool = False
    """RAVDESS: sung takes too."""
    target: Target = "intended"
    """CREMA-D: what the actor meant, what most raters said, or the shares of their votes."""
    head: str = "scene"
    """manifest, classes: the head that the labels belong to."""
    kind: Kind = "softmax"
    """manifest, classes: sigmoid where several labels may hold at once."""
    group: str | None = None
    """classes: a pattern that finds a file's group in its name; unset: every file is one."""
    count: int = Field(120, ge=5, le=1_000_000)
    """synthetic: clips, of `seconds` each, from `seed`."""
    seconds: float = Field(4.0, ge=1, le=600)
    seed: int = Field(0, ge=0, le=2**31)
    test_splits: tuple[str, ...] | None = None
    tune_splits: tuple[str, ...] | None = None
    """Unset: the usual words (test, val, ...), and for tables those of the default model's recordings."""
    tune_groups: tuple[str, ...] = ()
    tune_share: float = Field(0.1, ge=0, lt=1)
    """Of the groups that are left to learn from, where no split is for tuning."""

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.path is None) != (self.layout == "synthetic"):
            needs = "no path" if self.layout == "synthetic" else "a path"
            raise ValueError(f"layout {self.layout} needs {needs}")
        if self.fold > FOLDED.get(self.layout, 6):
            raise ValueError(f"layout {self.layout} has folds 1 to {FOLDED[self.layout]}")
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise ValueError(f"group must be a regular expression: {error}") from None
        return self

    def division(self, splits: frozenset[str]) -> Division:
        """How clips of these splits are divided."""
        if self.layout == "tables":
            return self._of_tables()
        folds = FOLDED.get(self.layout)
        tests = (f"fold{self.fold}",) if folds else TEST
        tunes = (f"fold{self.fold % folds + 1}",) if folds else TUNE
        test = self.test_splits if self.test_splits is not None else tests
        tune = self.tune_splits if self.tune_splits is not None else tunes
        share = 0.0 if splits & set(tune) or self.tune_groups else self.tune_share
        return Division(test, tune, self.tune_groups, share)

    def _of_tables(self) -> Division:
        """As a folder of recordings is divided; the usual words of other tables are known beside its own."""
        tests = tuple(dict.fromkeys((*FOLDER.test_splits, *TEST)))
        tunes = tuple(one for one in (*FOLDER.tune_splits, *TUNE) if one not in tests)
        told = self.model_fields_set
        return Division(
            tests if self.test_splits is None else self.test_splits,
            tunes if self.tune_splits is None else self.tune_splits,
            self.tune_groups if "tune_groups" in told else FOLDER.tune_groups,
            self.tune_share if "tune_share" in told else FOLDER.tune_share,
            FOLDER.pictures_only,
        )


def entry_of(text: str) -> DataEntry:
    """`LAYOUT:PATH` of the command line; `synthetic` stands alone."""
    layout, _, path = text.partition(":")
    return DataEntry.model_validate({"layout": layout, "path": path or None})


def said(entries: tuple[DataEntry, ...]) -> list[str]:
    """The data sets as options, without the folders that lead there."""
    words = []
    for one in entries:
        words += ["--data", one.layout if one.path is None else f"{one.layout}:{one.path.name}"]
    return words
