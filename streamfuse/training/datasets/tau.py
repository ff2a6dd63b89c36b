"""TAU Urban Audio-Visual Scenes 2021, development: ten scenes in ten cities, 10 s each (DCASE 2021, 1B).

    audio/airport-lisbon-1000-40001.wav     scene-city-location-segment
    video/airport-lisbon-1000-40001.mp4
    evaluation_setup/fold1_train.csv        filename_audio filename_video scene_label
    evaluation_setup/fold1_test.csv         maybe without labels; fold1_evaluate.csv has them

The published tables are separated by tabs, re-splits of the baseline by commas. A group is a place:
scene, city and location; the test fold has other places than the training fold.
"""

from __future__ import annotations

import csv
from pathlib import Path

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.clips import Clip, ClipSet, Mark, clip_set
from streamfuse.training.datasets.recordings import unusable

SCENES = (
    "airport", "bus", "metro", "metro_station", "park",
    "public_square", "shopping_mall", "street_pedestrian", "street_traffic", "tram",
)  # fmt: skip
LICENCE = "TAU Urban Audio-Visual Scenes 2021: non-commercial"
TABLES = {"fold1_train": "train", "fold1_val": "val", "fold1_test": "test", "fold1_evaluate": "test"}


def read_tau(folder: Path) -> ClipSet:
    """Every segment that the tables name and that is there.

    raises  ConfigError when no table is there or one lacks a column
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
        for row in _rows(table) if table.is_file() else []:
            clip = _clip(folder, row, split, table, dropped)
            # A re-split moves segments of fold1_train to fold1_val; fold1_evaluate repeats fold1_test.
            if clip is not None and (clip.name not in clips or not clips[clip.name].marks):
                clips[clip.name] = clip
    return clip_set(clips.values(), {"scene": SCENES}, dict.fromkeys(dropped))


def _rows(table: Path) -> list[dict[str, str]]:
    text = table.read_text(encoding="utf-8-sig")
    first = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in first else ",")
    missing = [name for name in ("filename_audio", "filename_video") if name not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError("a table must have the column", got=f"none named {missing[0]}", where=table)
    return list(reader)


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
    for column in ("filename_video", "filename_audio"):
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
