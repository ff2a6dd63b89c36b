"""A manifest: anybody's clips as CSV (comma, semicolon or tab) or as JSON lines.

    path_av,label,group,split               one file with both, or
    path_video,path_audio,scene,emotion     separate files and several heads, and maybe
    t_start,t_end                           seconds of file time in which the labels hold

Paths are relative to the manifest. `label` is the head `scene` (or the one that the entry names); any
other head is a column `label_<head>`, `scene` or `emotion`. Several labels of one row are divided by `|`.
Rows of the same files are one clip with a timeline, cut to the time they cover.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.clips import Clip, ClipSet, Kind, Mark, clip_set
from streamfuse.training.datasets.recordings import unusable
from streamfuse.training.datasets.table import read_table, read_text
from streamfuse.types import NS

Row = dict[str, Any]
PATHS = ("path_av", "path_video", "path_audio")


def read_manifest(path: Path, *, head: str = "scene", kind: Kind = "softmax") -> ClipSet:
    """Read a manifest; `head` and `kind` say what its column `label` is.

    raises  ConfigError for a row without a path or with times that make no sense, by its line
    """
    rows = _rows(path)
    clips: dict[str, Clip] = {}
    dropped: list[str] = []
    labels: dict[str, dict[str, None]] = {}
    for line, row in rows:
        where = f"{path}:{line}"
        files = _files(path.parent, row, where, dropped)
        if files is None:
            continue
        start, end = (_time(row, key, where) for key in ("t_start", "t_end"))
        if start is not None and end is not None and end <= start:
            raise ConfigError(
                "t_end must be after t_start", got=f"{row['t_start']} {row['t_end']}", where=where
            )
        marks = _marks(row, head, start or 0, end)
        for mark in marks:
            labels.setdefault(mark.head, {})[mark.label] = None
        name = str(row.get("name") or _name(path.parent, files))
        clip = Clip(
            name, marks, str(row.get("group") or name), str(row.get("split") or "train"),
            str(row.get("source") or path.stem), *files, start or 0, end,
            licence=str(row.get("licence") or ""),
        )  # fmt: skip
        clips[name] = _merged(clips[name], clip, where) if name in clips else clip
    heads = {one: sorted(found) for one, found in labels.items()}
    kinds = dict.fromkeys(heads, kind)
    return clip_set(clips.values(), heads, dropped, kinds)


def _rows(path: Path) -> list[tuple[int, Row]]:
    """(line, row) of every row."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        lines = read_text(path, "a manifest").split("\n")
        return [(n, _json(line, f"{path}:{n}")) for n, line in enumerate(lines, 1) if line.strip()]
    return list(read_table(path, "a manifest", delimiters=",;\t"))


def _json(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError("a line must be JSON", got=error, where=where) from error
    if not isinstance(row, dict):
        raise ConfigError("a line must be a JSON object", got=type(row).__name__, where=where)
    return row


def _files(folder: Path, row: Row, where: str, dropped: list[str]) -> tuple[Path | None, Path | None] | None:
    """(video, audio), or None where none of them can be used."""
    named = {key: folder / str(row[key]) for key in PATHS if row.get(key)}
    if not named:
        raise ConfigError(f"a row must have {', '.join(PATHS[:1])} or {' and '.join(PATHS[1:])}", where=where)
    for key, path in list(named.items()):
        reason = unusable(path)
        if reason is not None:
            dropped.append(f"{row[key]}: {reason}")
            del named[key]
    both = named.get("path_av")
    video, audio = named.get("path_video", both), named.get("path_audio", both)
    return None if video is None and audio is None else (video, audio)


def _time(row: Row, key: str, where: str) -> int | None:
    """Nanoseconds of a number of seconds, exactly as it is written."""
    if row.get(key) in (None, ""):
        return None
    try:
        value = Fraction(str(row[key])) * NS
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"{key} must be seconds", got=row[key], where=where) from None
    if value < 0:
        raise ConfigError(f"{key} must be 0 or more", got=row[key], where=where)
    return round(value)


def _marks(row: Row, head: str, start: int, end: int | None) -> tuple[Mark, ...]:
    columns = {"label": head, "labels": head, "scene": "scene", "emotion": "emotion"}
    columns |= {key: key.removeprefix("label_") for key in row if key and key.startswith("label_")}
    marks = []
    for column, one in columns.items():
        said = row.get(column)
        if said in (None, "", []):
            continue
        names: Sequence[str] = said if isinstance(said, list) else str(said).split("|")
        marks += [Mark(one, name.strip(), start, end) for name in names]
    return tuple(marks)


def _name(folder: Path, files: tuple[Path | None, Path | None]) -> str:
    some = next(path for path in files if path is not None)
    return some.relative_to(folder).as_posix() if some.is_relative_to(folder) else some.as_posix()


def _merged(one: Clip, other: Clip, where: str) -> Clip:
    """Two rows of the same files: one clip, the marks of both."""
    if (one.video, one.audio) != (other.video, other.audio):
        raise ConfigError("a name must stand for the same files in every row", got=one.name, where=where)
    if (one.group, one.split) != (other.group, other.split):
        raise ConfigError(
            "rows of one file must have one group and split",
            got=f"{one.group} in {one.split}, {other.group} in {other.split}",
            where=where,
        )
    ends = None if one.end_ns is None or other.end_ns is None else max(one.end_ns, other.end_ns)
    return replace(
        one, marks=one.marks + other.marks, start_ns=min(one.start_ns, other.start_ns), end_ns=ends
    )
