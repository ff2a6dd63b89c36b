"""Small generated trees of recordings, laid out as the real ones are."""

from __future__ import annotations

import csv
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

RATE = 16_000
COLUMNS = ["path", "kind", "label", "group", "source", "licence", "split"]
SOUND_HZ = {"birds": 3000.0, "waves": 200.0, "happy": 900.0, "sad": 450.0}
STRIPES = {"forest": (1.0, 0.0), "coast": (0.0, 1.0)}


def write_wav(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def tone(hz: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A tone with its third harmonic, of random phase and loudness, in faint noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    wavering = np.sin(2 * np.pi * hz * t + rng.uniform(0, 6)) + 0.3 * np.sin(6 * np.pi * hz * t)
    return 0.2 * rng.uniform(0.5, 1.5) * wavering + 0.003 * rng.normal(size=t.size)


def stripes(direction: tuple[float, float], rng: np.random.Generator, side: int = 72) -> np.ndarray:
    """Stripes along one direction, of random phase and contrast, (side, side) uint8."""
    y, x = np.mgrid[:side, :side]
    wave_ = np.sin((direction[0] * x + direction[1] * y) * 2 * np.pi / 14 + rng.uniform(0, 6))
    return (
        (128 + 70 * rng.uniform(0.7, 1.2) * wave_ + 6 * rng.normal(size=(side, side)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def write_table(path: Path, rows: Iterable[list[str]], columns: list[str] = COLUMNS) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_tree(folder: Path, each: int = 4) -> Path:
    """Stripes that run with the place, tones that run with the sound; each label in all three parts."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    sounds, pictures = [], []
    for split, count in (("train", each), ("dev", 2), ("fold4", 2)):
        for n in range(count):
            for label, hz in SOUND_HZ.items():
                name, kind = f"{label}-{split}-{n}", "speech" if label in ("happy", "sad") else "sound"
                write_wav(folder / f"sound/{name}.wav", tone(hz, 1.2, rng))
                sounds.append([f"sound/{name}.wav", kind, label, name, "tones", "CC0", split])
            for label, direction in STRIPES.items():
                name = f"{label}-{split}-{n}"
                (folder / "scene").mkdir(exist_ok=True)
                Image.fromarray(stripes(direction, rng)).save(folder / f"scene/{name}.png")
                pictures.append([f"scene/{name}.png", "scene_image", label, name, "stripes", "CC0", split])
    write_table(folder / "audio.csv", sounds)
    write_table(folder / "images.csv", reversed(pictures))
    return folder
