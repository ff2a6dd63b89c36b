"""What an evaluation shows to a model: suites of short clips with known answers, from held-out groups.

Sounds are played as they are, a picture is held still before the camera. Composed clips put a picture
and a sound of the same label side by side. Everything goes through the reader, the kernels and the
model file that serve the analyzer, tick by tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from streamfuse.faces.view import FaceView
from streamfuse.kernels.frame_window import frame_window
from streamfuse.kernels.mfcc import mfcc
from streamfuse.model.spec import ModelSpec
from streamfuse.training.datasets.files import read_picture, read_sound
from streamfuse.training.datasets.meaning import (
    EMOTIONS,
    PICTURE_PLACES,
    PLACES,
    SOUND_PLACES,
    SOUNDS,
    emotion_index,
)
from streamfuse.training.datasets.recordings import Part, Recording, Recordings, of_part
from streamfuse.types import Picture, TickHead

F32 = npt.NDArray[np.float32]
STILL_TICKS = 4
"""How long a picture is held when nothing is heard."""
MOST_TICKS = 100
"""Of a longer recording, its first 10 s are played."""
LEAST_TICKS = 5
PAIR_TICKS = 20
PAIRS = 120


@dataclass(frozen=True)
class Trial:
    """One clip. picture (C, S, S) is shown in every tick; sound (ticks * n, n_mfcc); None is missing.

    face   what the face view makes of the picture, where the model has one and it found a face
    truth  head -> class, for softmax heads; sounds: the labels that are heard, None where not known
    """

    ticks: int
    picture: F32 | None = None
    sound: F32 | None = None
    face: F32 | None = None
    truth: dict[str, int] = field(default_factory=dict)
    sounds: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Suite:
    """Trials that share a question: one head's answer to them."""

    name: str
    head: str
    data: str
    trials: tuple[Trial, ...]


def sound_trial(row: Recording, spec: ModelSpec) -> Trial | None:
    """A recording of sound alone; None where it is too short, or nothing about it is known to our heads."""
    if row.kind == "speech" and emotion_index(row.label) < 0:
        return None
    heard = mfcc(read_sound(row.path), spec.audio)
    ticks = min(len(heard) // spec.frames_per_tick, MOST_TICKS)
    if ticks < LEAST_TICKS:
        return None
    truth: dict[str, int] = {}
    if row.kind == "speech":
        truth["emotion"] = emotion_index(row.label)
    else:
        truth["emotion"] = EMOTIONS.index("none")
        if row.label in SOUND_PLACES:
            truth["scene"] = SOUND_PLACES[row.label]
    sounds = (row.label,) if row.label in SOUNDS else ()
    return Trial(ticks, None, heard[: ticks * spec.frames_per_tick], None, truth, sounds)


def picture_trial(row: Recording, spec: ModelSpec) -> Trial:
    """A picture alone."""
    picture = read_picture(row.path)
    seen = frame_window([picture], spec.video.picture)[0]
    face = face_in(picture, spec) if "face" in spec.views else None
    if row.kind == "face_image":
        emotion = emotion_index(row.label)
        return Trial(STILL_TICKS, seen, None, face, {"emotion": emotion} if emotion > 0 else {})
    truth = {"emotion": EMOTIONS.index("none")}
    if row.label in PICTURE_PLACES:
        truth["scene"] = PICTURE_PLACES[row.label]
    return Trial(STILL_TICKS, seen, None, face, truth)


def face_in(picture: Picture, spec: ModelSpec) -> F32 | None:
    """What the face view shows of a picture that is held before the camera."""
    found = FaceView().see(TickHead("", 0, 0, 0, spec.video.hop_ns, "ok", "missing"), picture)
    return None if found is None else frame_window([found[0]], spec.video.picture)[0]


def degraded(suite: Suite, name: str, change: Callable[[F32], F32], spec: ModelSpec) -> Suite:
    """The same suite with `change` applied to its pictures in [0, 1]."""
    mean, std = np.float32(spec.video.picture.mean[0]), np.float32(spec.video.picture.std[0])

    def worse(shown: F32 | None) -> F32 | None:
        if shown is None:
            return None
        return ((np.clip(change(shown * std + mean), 0, 1) - mean) / std).astype(np.float32)

    trials = tuple(
        replace(one, picture=worse(one.picture), face=worse(one.face))
        for one in suite.trials
        if one.picture is not None
    )
    return replace(suite, name=f"{suite.name}, {name}", trials=trials)


def composed(
    pictures: Sequence[Trial], sounds: Sequence[Trial], head: str, classes: int, seed: int, frames: int
) -> list[Trial]:
    """PAIRS clips of both kinds, of the same class of `head`, evenly over the classes that have both."""
    rng = np.random.default_rng(seed)
    seen = [[p for p in pictures if p.truth.get(head) == c] for c in range(classes)]
    heard = [[s for s in sounds if s.truth.get(head) == c] for c in range(classes)]
    both = [c for c in range(classes) if seen[c] and heard[c]]
    trials = []
    for n in range(PAIRS if both else 0):
        label = both[n % len(both)]
        picture, sound = (some[int(rng.integers(len(some)))] for some in (seen[label], heard[label]))
        if sound.sound is None:
            continue
        ticks = min(sound.ticks, PAIR_TICKS)
        start = int(rng.integers(0, sound.ticks - ticks + 1)) * frames
        played = sound.sound[start : start + ticks * frames]
        trials.append(Trial(ticks, picture.picture, played, picture.face, {head: label}, sound.sounds))
    return trials


def alone(trials: Sequence[Trial], modality: str) -> tuple[Trial, ...]:
    """The same clips with the other modality missing."""
    if modality == "picture":
        return tuple(replace(one, sound=None) for one in trials)
    return tuple(replace(one, picture=None, face=None) for one in trials)


def _by_source(rows: Sequence[Recording], kept: Sequence[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index in kept:
        found.setdefault(rows[index].source, []).append(index)
    return found


def build_suites(recordings: Recordings, part: Part, spec: ModelSpec, seed: int = 0) -> list[Suite]:
    """Every question that this part of the recordings can answer."""
    suites: list[Suite] = []
    heard: list[Trial] = []
    for source, kept in _by_source(recordings.sound, of_part(recordings.sound, part)).items():
        played = [sound_trial(recordings.sound[index], spec) for index in kept]
        trials = tuple(one for one in played if one is not None)
        heard.extend(trials)
        suites += [
            Suite(f"{head} from sound", head, source, trials) for head in ("emotion", "scene", "sound")
        ]
    seen: list[Trial] = []
    for source, kept in _by_source(recordings.pictures, of_part(recordings.pictures, part)).items():
        shown = tuple(picture_trial(recordings.pictures[index], spec) for index in kept)
        seen.extend(shown)
        suites += [Suite(f"{head} from picture", head, source, shown) for head in ("emotion", "scene")]
    frames = spec.frames_per_tick
    for head, labels in (("scene", PLACES), ("emotion", EMOTIONS)):
        pairs = composed(seen, heard, head, len(labels), seed, frames)
        for name, trials in (
            (f"{head} from composed pairs", tuple(pairs)),
            (f"{head} from composed pairs, picture alone", alone(pairs, "picture")),
            (f"{head} from composed pairs, sound alone", alone(pairs, "sound")),
        ):
            suites.append(Suite(name, head, "picture and sound of one label", trials))
    return [suite for suite in suites if asked(suite)]


def asked(suite: Suite) -> list[int]:
    """Indices of the trials whose answer to the suite's question is known."""
    if suite.head == "sound":
        return [n for n, one in enumerate(suite.trials) if one.sounds]
    return [n for n, one in enumerate(suite.trials) if suite.head in one.truth]
