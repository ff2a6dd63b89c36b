"""Generated clips with known truth: moving textures, tones, and the times at which they change.

The scene is a texture that moves in a square patch of an otherwise dull picture, and a band of noise that
belongs to it. The emotion is a tone: none, one that swells slowly, or one that jumps; a small light blinks
with it. Scene and emotion change independently, at times that the marks tell to the nanosecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from streamfuse.training.datasets.clips import Clip, ClipSet, Mark, clip_set
from streamfuse.types import F32, MS, NS, SAMPLE_RATE, U8

SCENES = ("bars", "grid", "rings", "dots")
EMOTIONS = ("none", "calm", "happy")
BAND_HZ = {
    "bars": (300.0, 500.0),
    "grid": (900.0, 1300.0),
    "rings": (2200.0, 3000.0),
    "dots": (4500.0, 6000.0),
}
SIDE = 96
PATCH = 0.5
"""Side of the patch, as a share of the picture's."""
LIGHT = 0.12
LEAST_DWELL_S = 1.0
SPLITS = ("train", "train", "train", "val", "test")
"""Of clip n: SPLITS[n % 5]."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From start_ns to end_ns nothing changes."""

    start_ns: int
    end_ns: int
    label: str


@dataclass(frozen=True, slots=True)
class Script:
    """All that happens in one clip. patch, light: upper left corners (x, y), as shares of the side."""

    seed: int
    length_ns: int
    scenes: tuple[Stretch, ...]
    emotions: tuple[Stretch, ...]
    patch: tuple[float, float]
    light: tuple[float, float]

    def marks(self) -> tuple[Mark, ...]:
        return tuple(
            Mark(head, one.label, one.start_ns, one.end_ns)
            for head, stretches in (("scene", self.scenes), ("emotion", self.emotions))
            for one in stretches
        )


def script_of(seed: int, seconds: float) -> Script:
    """The script of a seed: the same one on every machine."""
    rng = np.random.default_rng(seed)
    length = round(seconds * 10) * 100 * MS
    scenes = _stretches(rng, length, SCENES)
    emotions = _stretches(rng, length, EMOTIONS)
    # Below the light, which has the upper edge for itself.
    patch = (float(rng.uniform(0, 1 - PATCH)), float(rng.uniform(LIGHT, 1 - PATCH)))
    return Script(seed, length, scenes, emotions, patch, (float(rng.uniform(0, 1 - LIGHT)), 0.0))


def _stretches(rng: np.random.Generator, length_ns: int, labels: tuple[str, ...]) -> tuple[Stretch, ...]:
    """One to three stretches of different labels; they change at whole milliseconds, not at ticks."""
    most = max(1, int(length_ns / (LEAST_DWELL_S * NS)))
    count = int(rng.integers(1, min(3, most) + 1))
    spare = length_ns / NS - count * LEAST_DWELL_S
    cuts = np.sort(rng.uniform(0, spare, count - 1)) + LEAST_DWELL_S * np.arange(1, count)
    edges = [0, *(int(cut * 1000) * MS for cut in cuts), length_ns]
    found: list[Stretch] = []
    for start, end in pairwise(edges):
        others = [one for one in labels if not found or one != found[-1].label]
        found.append(Stretch(start, end, others[rng.integers(len(others))]))
    return tuple(found)


def _at(stretches: tuple[Stretch, ...], at_ns: int) -> str:
    return next((one.label for one in stretches if one.start_ns <= at_ns < one.end_ns), stretches[-1].label)


def picture_of(script: Script, at_ns: int, side: int = SIDE) -> U8:
    """What the camera sees at that time, RGB (side, side, 3)."""
    rng = np.random.default_rng((script.seed, at_ns // MS))
    seen = 110 + 6 * rng.normal(size=(side, side))
    wide = int(PATCH * side)
    x, y = (int(edge * side) for edge in script.patch)
    seen[y : y + wide, x : x + wide] += 70 * _texture(_at(script.scenes, at_ns), wide, at_ns / NS)
    if _blinks(_at(script.emotions, at_ns), at_ns / NS):
        size = int(LIGHT * side)
        left, top = (int(edge * side) for edge in script.light)
        seen[top : top + size, left : left + size] = 250
    grey: U8 = np.clip(seen, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def _texture(scene: str, side: int, t: float) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[:side, :side] * (2 * np.pi / 12.0)
    moved = 2.0 * t
    if scene == "bars":
        return np.asarray(np.sin(x + moved))
    if scene == "grid":
        return np.asarray(np.sign(np.sin(x + moved) * np.sin(y + moved)))
    middle = np.pi * side / 12.0
    if scene == "rings":
        return np.asarray(np.sin(np.hypot(x - middle, y - middle) - moved))
    return np.asarray(np.where(np.cos(x + moved) + np.cos(y) > 1.2, 1.5, -0.5))


def _blinks(emotion: str, t: float) -> bool:
    return emotion != "none" and (t * (1.0 if emotion == "calm" else 4.0)) % 1.0 < 0.6


def samples_of(script: Script) -> F32:
    """What the microphone hears, (n,) at 16 kHz."""
    rng = np.random.default_rng((script.seed, 1))
    count = script.length_ns * SAMPLE_RATE // NS
    heard = 0.002 * rng.normal(size=count)
    for one in script.scenes:
        part = slice(one.start_ns * SAMPLE_RATE // NS, one.end_ns * SAMPLE_RATE // NS)
        heard[part] += 0.05 * _band(rng, part.stop - part.start, *BAND_HZ[one.label])
    t = np.arange(count) / SAMPLE_RATE
    for one in script.emotions:
        part = slice(one.start_ns * SAMPLE_RATE // NS, one.end_ns * SAMPLE_RATE // NS)
        heard[part] += 0.2 * _voice(one.label, t[part])
    return np.clip(heard, -1, 1).astype(np.float32)


def _band(rng: np.random.Generator, count: int, low: float, high: float) -> npt.NDArray[np.float64]:
    """Noise between two frequencies, of deviation 1."""
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    spectrum = rng.normal(size=len(hertz)) + 1j * rng.normal(size=len(hertz))
    noise = np.fft.irfft(np.where((hertz >= low) & (hertz < high), spectrum, 0), count)
    return np.asarray(noise / max(float(noise.std()), 1e-9))


def _voice(emotion: str, t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if emotion == "none":
        return np.zeros_like(t)
    if emotion == "calm":
        return np.asarray(np.sin(2 * np.pi * 180 * t) * (0.6 + 0.4 * np.sin(2 * np.pi * t)))
    return np.asarray(np.sin(2 * np.pi * np.where(t * 5 % 1 < 0.5, 520, 780) * t))


def read_synthetic(count: int = 120, seconds: float = 4.0, seed: int = 0) -> ClipSet:
    """`count` clips of their own groups: three in five to learn from, one to tune, one to test."""
    clips = []
    for n in range(count):
        script = script_of(seed * 1_000_003 + n, seconds)
        name = f"made-{seed}-{n:05d}"
        clips.append(
            Clip(
                name,
                script.marks(),
                name,
                SPLITS[n % len(SPLITS)],
                "synthetic",
                end_ns=script.length_ns,
                seed=script.seed,
                licence="generated",
            )
        )
    return clip_set(clips, {"scene": SCENES, "emotion": EMOTIONS})


def script_of_clip(clip: Clip) -> Script:
    """The script from which a generated clip was made."""
    assert clip.seed is not None and clip.end_ns is not None  # what read_synthetic() sets
    return script_of(clip.seed, clip.end_ns / NS)
