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


def read_clips(entries: Sequence[DataEntry]) -> ClipSet:
    """Read, relabel and divide every data set, and join them.

    raises  ConfigError for a set that is not laid out as it should be, a group in two splits, or no clips
    """
    sets = []
    for entry in entries:
        found = relabelled(READERS[entry.layout](entry.path or Path(), entry), entry.labels)
        splits = frozenset(clip.split for clip in found.clips)
        sets.append(divide(found, entry.division(splits), entry.path or entry.layout))
    both = joined(sets)
    if not both.clips:
        raise ConfigError(
            "a data set must have clips", got="none", where=", ".join(e.layout for e in entries)
        )
    return both


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
