"""A folder per class, maybe in a folder per split.

    street/a.mp4   indoor/b.mp4             or
    train/street/a.mp4   val/street/c.mp4   test/indoor/d.mp4

A group is the file itself, or what a pattern finds in its name: `group: "^(speaker\\d+)"`.
"""

from __future__ import annotations

import re
from pathlib import Path

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.clips import Clip, ClipSet, Kind, Mark, clip_set
from streamfuse.training.datasets.recordings import unusable

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "tune", "test", "eval")
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
SOUNDS = frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac"})
VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".ts", ".mpg", ".mpeg", ".flv", ".m4v", ".3gp"})


def read_classes(
    folder: Path, *, head: str = "scene", kind: Kind = "softmax", group: str | None = None
) -> ClipSet:
    """Every file, labelled by its folder.

    raises  ConfigError for a folder without classes, or a file name in which `group` finds nothing
    """
    split_folders = [one for one in SPLITS if (folder / one).is_dir()]
    places = [(folder / one, one) for one in split_folders] or [(folder, "train")]
    clips: list[Clip] = []
    dropped: list[str] = []
    labels: set[str] = set()
    for place, split in places:
        for label in sorted(p for p in place.iterdir() if p.is_dir()) if place.is_dir() else []:
            labels.add(label.name)
            for path in sorted(p for p in label.rglob("*") if p.is_file()):
                clip = _clip(folder, path, Mark(head, label.name), split, group, dropped)
                clips += [clip] if clip else []
    if not clips:
        raise ConfigError("a folder of classes must hold <class>/<clip>", got="none", where=folder)
    return clip_set(clips, {head: sorted(labels)}, dropped, {head: kind})


def _clip(
    folder: Path, path: Path, mark: Mark, split: str, group: str | None, dropped: list[str]
) -> Clip | None:
    name, suffix = path.relative_to(folder).as_posix(), path.suffix.lower()
    reason = unusable(path)
    if suffix not in PICTURES | SOUNDS | VIDEOS:
        reason = "no picture, sound or video by its suffix"
    if reason is not None:
        dropped.append(f"{name}: {reason}")
        return None
    belongs = name
    if group is not None:
        found = re.search(group, path.stem)
        said = None if found is None else found.group(1 if found.groups() else 0)
        if said is None:
            raise ConfigError(
                "every file must belong to a group", got=name, hint=f"`group: {group}` finds none"
            )
        belongs = said
    video = None if suffix in SOUNDS else path
    audio = None if suffix in PICTURES else path
    return Clip(name, (mark,), belongs, split, folder.name, video, audio)
