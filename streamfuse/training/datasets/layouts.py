"""The table of layouts: a configuration's data sets -> one set of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.classes import read_classes
from streamfuse.training.datasets.clips import Clip, ClipSet, Mark, clip_set, divide, joined, relabelled
from streamfuse.training.datasets.crema_d import read_crema_d
from streamfuse.training.datasets.entry import DataEntry
from streamfuse.training.datasets.manifest import read_manifest
from streamfuse.training.datasets.meaning import EMOTIONS, PICTURE_PLACES, PLACES, SOUND_PLACES, SOUNDS
from streamfuse.training.datasets.ravdess import read_ravdess
from streamfuse.training.datasets.recordings import Recording, read_recordings
from streamfuse.training.datasets.synthetic import read_synthetic
from streamfuse.training.datasets.tau import read_tau

READERS: dict[str, Callable[[Path, DataEntry], ClipSet]] = {
    "tau": lambda path, _: read_tau(path),
    "ravdess": lambda path, entry: read_ravdess(path, song=entry.song),
    "crema_d": lambda path, entry: read_crema_d(path, target=entry.target),
    "manifest": lambda path, entry: read_manifest(path, head=entry.head, kind=entry.kind),
    "classes": lambda path, entry: read_classes(path, head=entry.head, kind=entry.kind, group=entry.group),
    "tables": lambda path, _: read_tables(path),
    "synthetic": lambda _, entry: read_synthetic(entry.count, entry.seconds, entry.seed),
}


PUBLISHED = ("tau", "ravdess", "crema_d")
"""Their groups have one name everywhere."""


def read_clips(entries: Sequence[DataEntry]) -> ClipSet:
    """Read, relabel and divide every data set, and join them.

    raises  ConfigError for a set that is not laid out as it should be, a group in two splits or a file in
            two parts, or no clips
    """
    sets = []
    for entry in entries:
        found = relabelled(READERS[entry.layout](entry.path or Path(), entry), entry.labels)
        splits = frozenset(clip.split for clip in found.clips)
        sets.append(divide(found, entry.division(splits), entry.path or entry.layout))
    if len(sets) > 1:
        _check_together(entries, sets)
    both = joined(sets)
    if not both.clips:
        raise ConfigError(
            "a data set must have clips", got="none", where=", ".join(e.layout for e in entries)
        )
    return both


def _check_together(entries: Sequence[DataEntry], sets: Sequence[ClipSet]) -> None:
    """Refuse what is learned from in one data set and tested in another: a group, or a file.

    Groups of two manifests or folders may have one name by chance; a published set's actor or place may not.
    """
    groups: dict[tuple[str, str, str], tuple[str, str]] = {}
    files: dict[Path, tuple[str, str]] = {}
    for entry, found in zip(entries, sets, strict=True):
        where = str(entry.path or entry.layout)
        place = "" if entry.layout in PUBLISHED else str(Path(where).resolve())
        for clip in found.clips:
            group = (entry.layout, place, clip.group)
            _check_part(groups.setdefault(group, (clip.part, where)), clip.part, where, "group", clip.group)
            for path in clip.paths():
                first = files.setdefault(path.resolve(), (clip.part, where))
                _check_part(first, clip.part, where, "file", path)


def _check_part(first: tuple[str, str], part: str, where: str, kind: str, name: object) -> None:
    if first[0] != part:
        raise ConfigError(
            f"a {kind} must be of one part in all data sets",
            got=f"{name}: {first[0]} of {first[1]}, {part} of {where}",
            hint="or the model would be tested on what it has learned",
        )


def read_tables(folder: Path) -> ClipSet:
    """audio.csv and images.csv as clips of one modality, in the terms of the default model's heads."""
    recordings = read_recordings(folder)
    clips = [_of_recording(row, folder) for row in recordings.all()]
    found = clip_set(
        [clip for clip in clips if clip.marks],
        {"scene": PLACES, "emotion": EMOTIONS, "sound": SOUNDS},
        recordings.dropped,
    )
    return replace(found, kinds={"scene": "softmax", "emotion": "softmax", "sound": "sigmoid"})


def _of_recording(row: Recording, folder: Path) -> Clip:
    picture = row.kind.endswith("_image")
    places = PICTURE_PLACES if picture else SOUND_PLACES
    marks = []
    if row.kind in ("speech", "face_image"):
        marks += [Mark("emotion", row.label)] if row.label in EMOTIONS else []
    else:
        marks.append(Mark("emotion", "none"))
        marks += [Mark("scene", PLACES[places[row.label]])] if row.label in places else []
        marks += [Mark("sound", row.label)] if row.label in SOUNDS and not picture else []
    name = row.path.relative_to(folder).as_posix()
    video, audio = (row.path, None) if picture else (None, row.path)
    return Clip(name, tuple(marks), row.group, row.split, row.source, video, audio, licence=row.licence)
