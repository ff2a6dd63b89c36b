"""TAU Urban Audio-Visual Scenes 2021, development: ten scenes in ten cities, 10 s each (DCASE 2021, 1B).

    audio/airport-lisbon-1000-40001.wav     scene-city-location-segment
    video/airport-lisbon-1000-40001.mp4
    evaluation_setup/fold1_train.csv        filename_audio filename_video scene_label
    evaluation_setup/fold1_test.csv         maybe without labels; fold1_evaluate.csv has them

The published tables are separated by tabs, re-splits of the baseline by commas. A group is a place:
scene, city and location; the test fold has other places than the training fold.
"""

from __future__ import annotations

from pathlib import Path

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.clips import Clip, ClipSet, Mark, clip_set
from streamfuse.training.datasets.recordings import unusable
from streamfuse.training.datasets.table import read_table

SCENES = (
    "airport", "bus", "metro", "metro_station", "park",
    "public_square", "shopping_mall", "street_pedestrian", "street_traffic", "tram",
)  # fmt: skip
LICENCE = "TAU Urban Audio-Visual Scenes 2021: non-commercial"
TABLES = {"fold1_train": "train", "fold1_val": "val", "fold1_test": "test", "fold1_evaluate": "test"}
MERGED = {("train", "train"), ("train", "val"), ("val", "val"), ("test", "test")}
"""(split of an earlier table, of a later one) that a segment may be in."""
PATHS = ("filename_video", "filename_audio")


def read_tau(folder: Path) -> ClipSet:
    """Every segment that the tables name and that is there.

    raises  ConfigError when no table is there, one lacks a column, or a segment is in train and in test
    """
    setup = folder / "evaluation_setup"
    tables = [(setup / f"{name}.csv", split) for name, split in TABLES.items()]
    if not any(table.is_file() for table, _ in tables):
        raise ConfigError(
            "TAU needs evaluation_setup/fold1_train.csv", where=folder, hint="name the folder above audio/"
        )
    clips: dict[str, Clip] = {}
    dropped: list[str] = []
    for table, split in tables:
        for _, row in read_table(table, "a TAU table", PATHS, "\t,") if table.is_file() else []:
            clip = _clip(folder, row, split, table, dropped)
            if clip is not None:
                clips[clip.name] = _merged(clips.get(clip.name), clip, table)
    return clip_set(clips.values(), {"scene": SCENES}, dict.fromkeys(dropped))


def _merged(first: Clip | None, clip: Clip, table: Path) -> Clip:
    """A re-split moves segments of fold1_train to fold1_val, and fold1_evaluate repeats fold1_test; else a
    segment in two tables would be tested on what was learned."""
    if first is not None and (first.split, clip.split) not in MERGED:
        raise ConfigError(
            "a group must be in one split only",
            got=f"{clip.group} in {first.split} and {clip.split}",
            where=table,
            hint=f"{clip.name} is in both tables",
        )
    return clip


def _clip(folder: Path, row: dict[str, str], split: str, table: Path, dropped: list[str]) -> Clip | None:
    name = Path(row["filename_audio"]).stem
    # Labels have underscores in them, so that only the dash divides a name.
    parts = name.split("-")
    if len(parts) < 4 or parts[0] not in SCENES:
        dropped.append(f"{row['filename_audio']}: no scene-city-location-segment")
        return None
    label = row.get("scene_label") or parts[0]
    if label not in SCENES:
        raise ConfigError("a TAU scene must have a known name", got=label, where=table)
    paths: list[Path | None] = []
    for column in PATHS:
        path = folder / row[column]
        reason = unusable(path)
        if reason is not None:
            dropped.append(f"{row[column]}: {reason}")
        paths.append(None if reason else path)
    if not any(paths):
        return None
    group = f"{label}-{parts[1]}-{row.get('location_id') or parts[2]}"
    return Clip(
        name,
        (Mark("scene", label),),
        group,
        split,
        "TAU Urban AV Scenes 2021",
        paths[0],
        paths[1],
        licence=LICENCE,
    )
