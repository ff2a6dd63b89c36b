"""CREMA-D: 91 actors who say twelve sentences in six emotions, and what raters heard and saw in them.

    VideoFlash/1001_DFA_ANG_XX.flv      actor_sentence_emotion_level
    AudioWAV/1001_DFA_ANG_XX.wav        or AudioMP3/*.mp3
    processedResults/summaryTable.csv   FileName, VoiceVote, FaceVote, MultiModalVote ("A:D" is a tie)

A group is an actor; five folds by actor, as in the literature. The intended emotion is what the actor was
asked for; raters agree with it in 72 % of the clips, so that a target can be their vote too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.clips import Clip, ClipSet, Mark, clip_set
from streamfuse.training.datasets.recordings import unusable
from streamfuse.training.datasets.table import read_table

EMOTIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgust")
CODES = dict(zip(("NEU", "HAP", "SAD", "ANG", "FEA", "DIS"), EMOTIONS, strict=True))
VOTES = dict(zip("NHSAFD", EMOTIONS, strict=True))
FOLDS = 5
FIRST_ACTORS = (1001, 1019, 1037, 1055, 1073)
"""Of each fold."""
SENTENCES = "IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI"
NAME = re.compile(rf"(\d{{4}})_({SENTENCES})_({'|'.join(CODES)})_(LO|MD|HI|XX)")
KNOWN_BAD = {
    "1076_MTI_SAD_XX": "known to have no sound",
    "1076_MTI_NEU_XX": "known to be damaged",
    "1064_TIE_SAD_XX": "known to be damaged",
    "1064_IEO_DIS_MD": "known to hold a minute of all emotions",
}
LICENCE = "ODbL 1.0"
Target = Literal["intended", "vote", "soft"]


def read_crema_d(folder: Path, *, target: Target = "intended") -> ClipSet:
    """Every clip, with the sound of AudioWAV (or AudioMP3) beside the picture of VideoFlash.

    target  intended: what the actor was asked for; vote: what most raters saw and heard, clips with a tie
            left out; soft: tied votes share the target
    raises  ConfigError when there are no clips, or no table of votes where one is asked for
    """
    dropped: list[str] = []
    videos = _files(folder, ("VideoFlash", "VideoMP4", "VideoFlash_mp4"), (".flv", ".mp4"), dropped)
    sounds = _files(folder, ("AudioWAV", "AudioMP3"), (".wav", ".mp3"), dropped)
    names = sorted({*videos, *sounds})
    if not names:
        raise ConfigError("CREMA-D needs files like AudioWAV/1001_DFA_ANG_XX.wav", got="none", where=folder)
    votes = {} if target == "intended" else _votes(folder)
    clips = []
    for name in names:
        parts = NAME.fullmatch(name)
        if parts is None or name in KNOWN_BAD:
            dropped.append(f"{name}: {KNOWN_BAD.get(name, 'not named like 1001_DFA_ANG_XX')}")
            continue
        marks = _marks(parts[3], votes.get(name, ()), target)
        if not marks:
            dropped.append(f"{name}: raters do not agree" if votes.get(name) else f"{name}: nobody rated it")
            continue
        fold = sum(int(parts[1]) >= first for first in FIRST_ACTORS)
        clips.append(
            Clip(
                name,
                marks,
                f"crema_actor_{parts[1]}",
                f"fold{fold}",
                "CREMA-D",
                videos.get(name),
                sounds.get(name, videos.get(name)),
                licence=LICENCE,
            )
        )
    return clip_set(clips, {"emotion": EMOTIONS}, dropped)


def _files(
    folder: Path, places: tuple[str, ...], suffixes: tuple[str, ...], dropped: list[str]
) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for place in places:
        for path in sorted((folder / place).glob("*")):
            if path.suffix.lower() not in suffixes or path.stem in found:
                continue
            reason = unusable(path)
            if reason is None:
                found[path.stem] = path
            else:
                dropped.append(f"{path.relative_to(folder)}: {reason}")
    return found


def _votes(folder: Path) -> dict[str, tuple[str, ...]]:
    """What raters of picture and sound together said of each clip; several where they were even."""
    table = folder / "processedResults" / "summaryTable.csv"
    if not table.is_file():
        raise ConfigError("votes are in processedResults/summaryTable.csv", got="none", where=folder)
    rows = read_table(table, "a table of votes", ("FileName", "MultiModalVote"))
    return {row["FileName"]: _vote(row["MultiModalVote"], f"{table}:{line}") for line, row in rows}


def _vote(said: str, where: str) -> tuple[str, ...]:
    """`A`, `A:D` for a tie, or nothing: nobody rated it."""
    votes = [one.strip() for one in said.split(":") if one.strip()]
    unknown = [one for one in votes if one not in VOTES]
    if unknown:
        raise ConfigError(f"a vote must be of {', '.join(VOTES)}", got=unknown[0], where=where)
    return tuple(VOTES[one] for one in votes)


def _marks(code: str, votes: tuple[str, ...], target: Target) -> tuple[Mark, ...]:
    if target == "intended":
        return (Mark("emotion", CODES[code]),)
    if target == "vote" and len(votes) != 1:
        return ()
    return tuple(Mark("emotion", one, weight=1.0 / len(votes)) for one in votes)
