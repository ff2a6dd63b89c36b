"""A folder of labelled recordings: `audio.csv` and `images.csv` beside the files they name.

Columns: path, kind, label, group, source, licence, split, and for sound seconds. A group is whatever must
not be in two splits: a speaker, a recording, a picture. That is checked here, because a model that was
tested on a voice it has learned looks better than it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.table import read_table

Part = Literal["train", "tune", "test"]
"""train: learned from; tune: early stopping and calibration; test: only reported."""
COLUMNS = ("path", "kind", "label", "group", "source", "licence", "split")
GIT_LFS = b"version https://git-lfs"


class Grouped(Protocol):
    """What belongs to a group and a split: a Recording, or a Clip."""

    @property
    def group(self) -> str: ...
    @property
    def split(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Recording:
    """One labelled file. `split` is the table's own word for it, `part` what we make of it."""

    path: Path
    kind: str
    label: str
    group: str
    source: str
    licence: str
    split: str
    part: Part = "train"


@dataclass(frozen=True, slots=True)
class Recordings:
    """Sorted by path. `dropped` says for each file left out why."""

    sound: tuple[Recording, ...]
    pictures: tuple[Recording, ...]
    dropped: tuple[str, ...] = ()

    def all(self) -> tuple[Recording, ...]:
        return self.sound + self.pictures


@dataclass(frozen=True, slots=True)
class Division:
    """Which recordings are tune and test; what nothing here names is train.

    test_splits, tune_splits  words of the split column
    tune_groups               patterns of groups (`nemo_*MP0`)
    tune_share                of the groups that are left, chosen by a hash of the name
    pictures_only             that share is taken of groups without any sound alone
    """

    test_splits: tuple[str, ...] = ("dev",)
    tune_splits: tuple[str, ...] = ()
    tune_groups: tuple[str, ...] = ()
    tune_share: float = 0.0
    pictures_only: bool = False

    def part(self, one: Grouped, share: bool) -> Part:
        if one.split in self.test_splits:
            return "test"
        named = any(fnmatchcase(one.group, pattern) for pattern in self.tune_groups)
        if one.split in self.tune_splits or named or (share and _unit(one.group) < self.tune_share):
            return "tune"
        return "train"


FOLDER = Division(
    ("dev", "fold5", "noisekun"),
    ("fold4",),
    ("ravdess_actor_18", "ravdess_actor_19", "nemo_*MP0"),
    0.08,
    True,
)
"""How the recordings of the default model are divided, where nothing else is said."""


def _unit(name: str) -> float:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big") / 2**64


def read_recordings(folder: Path, division: Division | None = None) -> Recordings:
    """Read the tables of `folder`, check the groups over both, and divide.

    raises  ConfigError when neither table is there, a column is missing, or a group is in two splits
    """
    tables = [folder / name for name in ("audio.csv", "images.csv")]
    if not any(table.is_file() for table in tables):
        hint = "name the folder that holds the recordings and their tables"
        raise ConfigError("a data folder must have audio.csv or images.csv", where=folder, hint=hint)
    division = division or Division()
    dropped: list[str] = []
    read = [_read_table(table, dropped) if table.is_file() else [] for table in tables]
    # A face and a voice of one speaker are of one group, though they are in two tables.
    check_groups([row for rows in read for row in rows], folder)
    heard = {row.group for row in read[0]}
    divided = [
        [replace(row, part=division.part(row, row.group not in heard)) for row in sorted(rows, key=_place)]
        for rows in read
    ]
    check_groups([replace(row, split=row.part) for rows in divided for row in rows], folder)
    return Recordings(tuple(divided[0]), tuple(divided[1]), tuple(dropped))


def _place(row: Recording) -> str:
    return row.path.as_posix()


def _read_table(table: Path, dropped: list[str]) -> list[Recording]:
    rows = [_recording(table.parent, row) for _, row in read_table(table, "a table", COLUMNS)]
    kept = []
    for row in rows:
        reason = unusable(row.path)
        if reason is None:
            kept.append(row)
        else:
            dropped.append(f"{row.path.relative_to(table.parent)}: {reason}")
    return kept


def _recording(folder: Path, row: dict[str, str]) -> Recording:
    kind, label, group, source, licence, split = (row[name] for name in COLUMNS[1:])
    return Recording(folder / row["path"], kind, label, group, source, licence, split)


def unusable(path: Path) -> str | None:
    """Why this file can not be a recording, or None."""
    if not path.is_file():
        return "not there"
    size = path.stat().st_size
    if size == 0:
        return "empty"
    if size < 1024:
        with path.open("rb") as file:
            if file.read(len(GIT_LFS)) == GIT_LFS:
                return "a Git LFS pointer, not the file; git lfs pull"
    return None


def check_groups(rows: Iterable[Grouped], where: object) -> None:
    """Refuse a group that is in two splits, by its name."""
    seen: dict[str, str] = {}
    for row in rows:
        first = seen.setdefault(row.group, row.split)
        if first != row.split:
            raise ConfigError(
                "a group must be in one split only",
                got=f"{row.group} in {first} and {row.split}",
                where=where,
                hint="or the model would be tested on what it has learned",
            )


def of_part(rows: Sequence[Recording], part: Part) -> list[int]:
    """Indices of the recordings of that part."""
    return [index for index, row in enumerate(rows) if row.part == part]
