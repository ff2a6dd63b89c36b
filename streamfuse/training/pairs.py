"""What was seen beside what was heard, composed by label from features of the branches.

No recording here has both, so a pair is invented: a picture of a coast with the sound of waves, a happy
face with a happy voice, a voice over a landscape, a face in the rain. Then each modality is missing in
turn ("modality dropout"), and the pair's targets become those of the one that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.meaning import EMOTIONS, PLACES

IGNORED = -1
NONE = EMOTIONS.index("none")
MISSING_SHARE = 0.25
"""Of the pairs: no picture; and as many: no sound."""
DRAWS = 10_000
"""A pair is drawn so often before it is plain that there is none."""
OVERLOOKED = 0.15
"""Of the faces: the face view did not find them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Features (N, D) of each view and whether it had something to see (N,); place and emotion (N,), -1
    where not known."""

    features: tuple[Tensor, ...]
    there: tuple[Tensor, ...]
    place: Tensor
    emotion: Tensor


@dataclass(frozen=True, slots=True)
class Heard:
    """Sound features (N, D), place and emotion (N,), sounds (N, labels) with their weight (N,)."""

    feature: Tensor
    place: Tensor
    emotion: Tensor
    sounds: Tensor
    asked: Tensor


@dataclass(frozen=True, slots=True)
class PairBatch:
    """features: one (B, D) per modality, views first; present (B, M)."""

    features: tuple[Tensor, ...]
    present: Tensor
    scene: Tensor
    emotion: Tensor
    sounds: Tensor
    asked: Tensor

    def targets(self, head: str) -> Tensor:
        return self.scene if head == "scene" else self.emotion


class Pairs:
    """Draws composed pairs; the same seed, the same pairs."""

    def __init__(self, seen: Seen, heard: Heard, seed: int) -> None:
        self.seen, self.heard = seen, heard
        self.rng = np.random.default_rng(seed)
        face, voice = seen.emotion > NONE, heard.emotion > NONE
        nobody = heard.emotion == NONE
        self.scenes = [_where((seen.place == p) & ~face) for p in range(len(PLACES))]
        self.faces = [_where(face & (seen.emotion == e)) for e in range(len(EMOTIONS))]
        self.voices = [_where(voice & (heard.emotion == e)) for e in range(len(EMOTIONS))]
        self.sceneries = [_where(nobody & (heard.place == p)) for p in range(len(PLACES))]
        self.elsewhere = _where(nobody & (heard.place == IGNORED))
        kinds: list[tuple[float, Callable[[], tuple[int, int] | None]]] = [
            (0.30, self._scene_with_its_sound),
            (0.15, self._scene_with_any_sound),
            (0.25, self._face_with_its_voice),
            (0.15, self._voice_over_scene),
            (0.15, self._face_in_scenery),
        ]
        self.kinds = [draw for _, draw in kinds]
        self.odds = np.array([odds for odds, _ in kinds])

    def _pick(self, some: np.ndarray) -> int | None:
        return int(self.rng.choice(some)) if len(some) else None

    def _both(self, picture: np.ndarray, sound: np.ndarray) -> tuple[int, int] | None:
        first, second = self._pick(picture), self._pick(sound)
        return None if first is None or second is None else (first, second)

    def _scene_with_its_sound(self) -> tuple[int, int] | None:
        place = int(self.rng.integers(len(PLACES)))
        return self._both(self.scenes[place], self.sceneries[place])

    def _scene_with_any_sound(self) -> tuple[int, int] | None:
        return self._both(self.scenes[int(self.rng.integers(len(PLACES)))], self.elsewhere)

    def _face_with_its_voice(self) -> tuple[int, int] | None:
        emotion = int(self.rng.integers(1, len(EMOTIONS)))
        return self._both(self.faces[emotion], self.voices[emotion])

    def _voice_over_scene(self) -> tuple[int, int] | None:
        emotion, place = int(self.rng.integers(1, len(EMOTIONS))), int(self.rng.integers(len(PLACES)))
        return self._both(self.scenes[place], self.voices[emotion])

    def _face_in_scenery(self) -> tuple[int, int] | None:
        emotion, place = int(self.rng.integers(1, len(EMOTIONS))), int(self.rng.integers(len(PLACES)))
        here = self.sceneries[place] if self.rng.random() < 0.5 else self.elsewhere
        return self._both(self.faces[emotion], here)

    def _draw(self) -> tuple[int, int]:
        for _ in range(DRAWS):
            pair = self.kinds[self.rng.choice(len(self.kinds), p=self.odds)]()
            if pair is not None:
                return pair
        hint = "add pictures and sound of the same place or emotion"
        raise ConfigError("pictures and sound must have labels in common", got="none", hint=hint)

    def batch(self, size: int) -> PairBatch:
        drawn = np.array([self._draw() for _ in range(size)])
        p, s = torch.from_numpy(drawn[:, 0]), torch.from_numpy(drawn[:, 1])
        fate = torch.from_numpy(self.rng.random(size))
        seen, heard = self.seen, self.heard
        sees, hears = fate >= MISSING_SHARE, fate < 1.0 - MISSING_SHARE
        looks = []
        for view, there in enumerate(seen.there):
            # The first view is the whole picture, and not overlooked.
            noticed = torch.from_numpy(self.rng.random(size)) >= (OVERLOOKED if view else 0.0)
            looks.append(sees & there[p] & noticed)
        present = torch.stack([*looks, hears], 1)
        # A face in scenery is in the place that is heard where the picture does not show one.
        shown = torch.where(sees, seen.place[p], IGNORED)
        scene = torch.where((shown == IGNORED) & hears, heard.place[s], shown)
        voice = torch.where(hears, heard.emotion[s], IGNORED)
        face = torch.where(sees, seen.emotion[p], IGNORED)
        emotion = torch.where(voice > NONE, voice, torch.where(sees, face, voice))
        asked = heard.asked[s] * hears
        features = (*(one[p] for one in seen.features), heard.feature[s])
        return PairBatch(features, present, scene, emotion, heard.sounds[s], asked)


def _where(mask: Tensor) -> np.ndarray:
    return torch.nonzero(mask).flatten().numpy()
