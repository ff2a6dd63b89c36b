"""RAVDESS: 24 actors who speak and sing two sentences in eight emotions.

    Actor_01/01-01-05-02-01-02-01.mp4       modality-channel-emotion-intensity-statement-repetition-actor

Modality 01 has picture and sound, 02 the picture and 03 the sound of the same take: it is read once, and
from 01 where that is there. A group is an actor; the folds hold four actors each, as in the literature.
"""

from __future__ import annotations

import re
from pathlib import Path

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.clips import Clip, ClipSet, Mark, clip_set
from streamfuse.training.datasets.recordings import unusable

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
FOLDS = 6
ACTORS_PER_FOLD = 4
NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")
SUFFIXES = (".mp4", ".wav")
LICENCE = "CC BY-NC-SA 4.0"


def read_ravdess(folder: Path, *, song: bool = False) -> ClipSet:
    """Every take once: speech, and song where asked for.

    raises  ConfigError when nothing there is named as RAVDESS names its files
    """
    takes: dict[str, dict[str, Path]] = {}
    dropped: list[str] = []
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    for path in files:
        parts = NAME.fullmatch(path.stem)
        if parts is None:
            dropped.append(f"{path.relative_to(folder)}: not named like 01-01-05-02-01-02-01.mp4")
            continue
        reason = unusable(path)
        if reason is not None:
            dropped.append(f"{path.relative_to(folder)}: {reason}")
            continue
        if parts[2] == "02" and not song:
            continue
        # The archives of speech and of song, and of its modalities, may lie side by side.
        takes.setdefault(path.stem.partition("-")[2], {}).setdefault(parts[1], path)
    if not takes:
        raise ConfigError(
            "RAVDESS needs files like Actor_01/01-01-05-02-01-02-01.mp4", got="none", where=folder
        )
    clips = [_clip(take, files_of) for take, files_of in takes.items()]
    return clip_set(clips, {"emotion": EMOTIONS}, dropped)


def _clip(take: str, files: dict[str, Path]) -> Clip:
    _, emotion, _, _, _, actor = take.split("-")
    both = files.get("01")
    fold = (int(actor) - 1) // ACTORS_PER_FOLD + 1
    return Clip(
        take,
        (Mark("emotion", EMOTIONS[int(emotion) - 1]),),
        f"ravdess_actor_{actor}",
        f"fold{fold}",
        "RAVDESS",
        both or files.get("02"),
        both or files.get("03"),
        licence=LICENCE,
    )
