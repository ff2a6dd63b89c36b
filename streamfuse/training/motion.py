"""Short clips from still pictures: true appearance, invented motion.

A virtual camera looks at a part of the picture, moves on, zooms, tilts and shakes; the light changes,
the sensor adds noise, the encoder loses detail. Faces are set at some size into another picture, as a
camera sees a person in a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamfuse.kernels.spec import FrameSpec
from streamfuse.training.cache import PictureCache
from streamfuse.training.compression import compressed
from streamfuse.training.datasets.meaning import EMOTIONS, PICTURE_PLACES, PLACES, emotion_index
from streamfuse.training.datasets.recordings import Part

IGNORED = -1
FACE_SHARE = 0.3
BARE_FACE_SHARE = 0.35
"""Of the faces: the crop fills the frame, as of a face view or someone close to a webcam."""
MOST_TILT = 0.3
"""Radians: a long stream does not end upside down."""
COMPRESSED_SHARE = 0.5
"""Of the clips: as they come from an encoder, of a quality between these."""
LEAST_QUALITY, MOST_QUALITY = 15, 85
SMALL_FACE = 0.6
"""Below this share of the frame's side, the place behind a face is asked for too."""


@dataclass(frozen=True, slots=True)
class PictureBatch:
    """frames (B, T, 1, S, S) as the model takes them; place (B,) and emotion (B,), -1 where not asked.

    faces  the same of the face in them, as a face view shows it, where `faced` (B,); else anything
    """

    frames: Tensor
    place: Tensor
    emotion: Tensor
    faces: Tensor
    faced: Tensor


class Drawn(NamedTuple):
    """One picture to be filmed, what it shows, and the face in it, if there is one."""

    image: np.ndarray
    place: int
    emotion: int
    face: np.ndarray | None = None


def crop_path(rng: np.random.Generator, clips: int, ticks: int) -> Tensor:
    """How a face view looks at a face crop: nearly whole, as steady as the view is; (clips * T, 2, 3)."""
    each = np.repeat(rng.normal(0.0, 1.0, (5, clips)), ticks, axis=1)
    shake = rng.normal(0.0, 0.01, (2, clips * ticks))
    zoom, angle, stretch = 0.96 + 0.08 * each[0], 0.12 * each[1], np.exp(0.05 * each[2])
    x, y = 0.06 * each[3:5] + shake
    mirror = np.repeat(rng.choice([-1.0, 1.0], clips), ticks)
    across = np.stack([mirror * zoom * np.cos(angle), -zoom * stretch * np.sin(angle), x], -1)
    down = np.stack([mirror * zoom * np.sin(angle), zoom * stretch * np.cos(angle), y], -1)
    return torch.from_numpy(np.stack([across, down], -2).astype(np.float32))


def camera_path(rng: np.random.Generator, clips: int, ticks: int) -> Tensor:
    """A camera that pans, zooms, tilts and shakes within the picture; affine matrices (clips * T, 2, 3)."""
    zoom = rng.uniform(0.62, 1.0, (clips, 1)) * (1.0 + rng.normal(0.0, 0.02, (clips, 1)) * np.arange(ticks))
    zoom = np.clip(zoom, 0.5, 1.0)
    room = 1.0 - zoom
    speed = rng.normal(0.0, 0.04, (2, clips, 1)) * np.arange(ticks)
    shake = rng.normal(0.0, 1.0, (2, clips, ticks)) * rng.choice([0.0, 0.01, 0.03], (1, clips, 1))
    x, y = np.clip(rng.uniform(-1.0, 1.0, (2, clips, 1)) * room + speed + shake, -room, room)
    turn = rng.normal(0.0, 0.06, (clips, 1)) + rng.normal(0.0, 0.01, (clips, 1)) * np.arange(ticks)
    angle = np.clip(turn, -MOST_TILT, MOST_TILT)
    stretch = np.exp(rng.normal(0.0, 0.06, (clips, 1)))
    mirror = rng.choice([-1.0, 1.0], (clips, 1))
    rows = np.stack(
        [
            np.stack([mirror * zoom * np.cos(angle), -zoom * stretch * np.sin(angle), x], -1),
            np.stack([mirror * zoom * np.sin(angle), zoom * stretch * np.cos(angle), y], -1),
        ],
        -2,
    )
    return torch.from_numpy(rows.reshape(clips * ticks, 2, 3).astype(np.float32))


def looked_at(pictures: Tensor, path: Tensor, size: int) -> Tensor:
    """(N, C, H, W) through affine matrices (N, 2, 3) -> (N, C, size, size)."""
    fine = size * 3 // 2
    grid = F.affine_grid(path, [len(pictures), 1, fine, fine], align_corners=False)
    seen = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return F.interpolate(seen, (size, size), mode="bilinear", antialias=True)


def encoded(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """A clip as an encoder leaves it, of one quality throughout; or as it is."""
    if rng.random() >= COMPRESSED_SHARE:
        return pictures
    return compressed(pictures, int(rng.integers(LEAST_QUALITY, MOST_QUALITY + 1)))


def shrunk(face: np.ndarray, share: float) -> np.ndarray:
    """A face with no more detail than it has at `share` of its size, at its size."""
    side = face.shape[0]
    small = max(16, int(side * share))
    image = torch.from_numpy(face).float()[None, None]
    less = F.interpolate(image, (small, small), mode="bilinear", antialias=True)
    back: np.ndarray = F.interpolate(less, (side, side), mode="bilinear")[0, 0].numpy()
    return back.astype(np.uint8)


class Camera:
    """Draws clips from one part of a cache; the same seed, the same clips.

    crops  also show the face of each picture that has one, as a face view would
    """

    def __init__(
        self,
        cache: PictureCache,
        spec: FrameSpec,
        ticks: int,
        seed: int,
        part: Part = "train",
        *,
        crops: bool = False,
    ) -> None:
        self.cache, self.spec, self.ticks, self.crops = cache, spec, ticks, crops
        self.rng = np.random.default_rng(seed)
        self.places: list[list[int]] = [[] for _ in PLACES]
        self.faces: dict[int, list[int]] = {}
        for index, row in enumerate(cache.rows):
            if row.part != part:
                continue
            if row.kind == "face_image":
                if emotion_index(row.label) > 0:
                    self.faces.setdefault(emotion_index(row.label), []).append(index)
            elif row.label in PICTURE_PLACES:
                self.places[PICTURE_PLACES[row.label]].append(index)
        # Half way to balance: a class of few pictures, seen too often, would be learned by heart.
        sizes = np.array([len(one) for one in self.places], np.float64) ** 0.5
        self.place_odds = sizes / max(sizes.sum(), 1.0)
        self.feelings = sorted(self.faces)
        sizes = np.array([len(self.faces[one]) for one in self.feelings], np.float64) ** 0.25
        self.feeling_odds = sizes / max(sizes.sum(), 1.0)

    def batch(self, clips: int) -> PictureBatch:
        """Clips drawn at random."""
        drawn = [self._draw() for _ in range(clips)]
        frames = self.film(torch.from_numpy(np.stack([one.image for one in drawn])))
        faced = torch.tensor([one.face is not None for one in drawn])
        # A face view without a face shows nothing; here anything, at the cost of nothing.
        faces = torch.zeros_like(frames)
        if self.crops and bool(faced.any()):
            shown = np.stack([one.face for one in drawn if one.face is not None])
            faces[faced] = self.film(torch.from_numpy(shown), crop_path(self.rng, len(shown), self.ticks))
        place = torch.tensor([one.place for one in drawn])
        return PictureBatch(frames, place, torch.tensor([one.emotion for one in drawn]), faces, faced)

    def of(self, indices: list[int]) -> Tensor:
        """A clip of each of these pictures, frames (B, T, 1, S, S)."""
        return self.film(torch.from_numpy(self.cache.luma[indices]))

    def _draw(self) -> Drawn:
        rng = self.rng
        faced = self.feelings and (rng.random() < FACE_SHARE or not self.place_odds.sum())
        if not faced:
            place = int(rng.choice(len(PLACES), p=self.place_odds))
            return Drawn(self.cache.luma[rng.choice(self.places[place])], place, EMOTIONS.index("none"))
        mood = self.feelings[rng.choice(len(self.feelings), p=self.feeling_odds)]
        face = self.cache.luma[rng.choice(self.faces[mood])]
        if rng.random() < BARE_FACE_SHARE or not self.place_odds.sum():
            return Drawn(face, IGNORED, mood, face)
        place = int(rng.choice(len(PLACES), p=self.place_odds))
        scene = self.cache.luma[rng.choice(self.places[place])]
        share = float(rng.uniform(0.35, 0.95))
        asked = place if share < SMALL_FACE else IGNORED
        return Drawn(self.set_into(scene, face, share), asked, mood, shrunk(face, share))

    def set_into(self, scene: np.ndarray, face: np.ndarray, share: float) -> np.ndarray:
        """The face, `share` of the side of the frame, faded into the scene at its edges."""
        side = scene.shape[0]
        small = max(16, int(side * share))
        small = min(small, side)
        shrunk = F.interpolate(
            torch.from_numpy(face).float()[None, None], (small, small), mode="bilinear", antialias=True
        )[0, 0].numpy()
        axis = np.abs(np.linspace(-1.0, 1.0, small))
        radius = np.sqrt(axis[:, None] ** 2 * 0.85 + axis[None] ** 2)
        alpha = np.clip((1.05 - radius) / 0.15, 0.0, 1.0)
        y, x = (int(self.rng.integers(0, side - small + 1)) for _ in range(2))
        mixed = scene.astype(np.float32)
        mixed[y : y + small, x : x + small] *= 1.0 - alpha
        mixed[y : y + small, x : x + small] += alpha * shrunk
        return mixed.astype(np.uint8)

    def film(self, luma: Tensor, path: Tensor | None = None) -> Tensor:
        """luma (B, H, W) uint8 -> clips (B, T, 1, S, S), normalised as the frame window does it.

        path  where the camera looks (B * T, 2, 3); by default anywhere in the picture, moving
        """
        clips, ticks, size = len(luma), self.ticks, self.spec.size
        source = (luma.float() / 255.0)[:, None, None].expand(-1, ticks, -1, -1, -1).flatten(0, 1)
        path = camera_path(self.rng, clips, ticks) if path is None else path
        seen = looked_at(source, path, size)
        seen = self._sensor(seen.view(clips, ticks, 1, size, size))
        return (seen - self.spec.mean[0]) / self.spec.std[0]

    def _per_clip(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None, None, None, None]

    def _sensor(self, seen: Tensor) -> Tensor:
        """Light, contrast, darkness, lost detail, noise and compression; (B, T, 1, S, S) in [0, 1]."""
        rng, clips, size = self.rng, len(seen), seen.shape[-1]
        soft = rng.random(clips) < 0.3
        if soft.any():
            some = seen[torch.from_numpy(soft)]
            low = int(rng.uniform(0.45, 0.9) * size)
            small = F.interpolate(some.flatten(0, 1), (low, low), mode="bilinear", antialias=True)
            back = F.interpolate(small, (size, size), mode="bilinear")
            seen = seen.clone()
            seen[torch.from_numpy(soft)] = back.view_as(some)
        gamma = self._per_clip(np.exp(rng.normal(0.0, 0.25, clips)))
        seen = seen.clamp(1e-3, 1.0) ** gamma
        gain = np.exp(rng.normal(0.0, 0.25, clips)) * np.where(rng.random(clips) < 0.1, 0.35, 1.0)
        offset = rng.normal(0.0, 0.05, clips)
        seen = (seen - 0.5) * self._per_clip(gain) + 0.5 * self._per_clip(gain) + self._per_clip(offset)
        noise = self._per_clip(rng.choice([0.0, 0.01, 0.03, 0.07], clips, p=[0.4, 0.3, 0.2, 0.1]))
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        seen = (seen + noise * torch.randn(seen.shape, generator=generator)).clamp(0.0, 1.0)
        return torch.stack([encoded(one, rng) for one in seen])
