"""Recordings as training reads them, decoded once and kept in one file each for sound and pictures.

A cache is named by a hash of what it was made from (paths, sizes, times, the MFCC definition), so that
an old one is never taken for a new one. It is written beside its final name and then renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from streamfuse.errors import StreamfuseError
from streamfuse.kernels.spec import MfccSpec
from streamfuse.training.datasets.files import read_luma, read_sound
from streamfuse.training.datasets.recordings import Recording
from streamfuse.training.features import log_mel

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
STORED_SIDE = 144
"""Pixels: half again as many as the default model takes, so that a training camera can zoom in."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class SoundCache:
    """Log-mel bands of every recording, one after the other, as float16."""

    rows: tuple[Recording, ...]
    store: npt.NDArray[np.float16]
    ends: npt.NDArray[np.int64]

    def _start(self, index: int) -> int:
        return int(self.ends[index - 1]) if index else 0

    def length(self, index: int) -> int:
        return int(self.ends[index]) - self._start(index)

    def bands(self, index: int) -> F32:
        """(T, n_mels) float32."""
        return self.store[self._start(index) : int(self.ends[index])].astype(np.float32)


@dataclass(frozen=True, slots=True)
class PictureCache:
    """Luma of every picture's centre square: (N, STORED_SIDE, STORED_SIDE) uint8, full range."""

    rows: tuple[Recording, ...]
    luma: U8


def _key(rows: Sequence[Recording], what: bytes) -> str:
    digest = sha256(what)
    for row in rows:
        stat = row.path.stat()
        digest.update(f"{row.path.as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _save(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def _each(rows: Sequence[Recording], what: str, progress: Progress | None) -> Iterator[Recording]:
    for done, row in enumerate(rows):
        if progress is not None and done % 50 == 0:
            progress(done, len(rows), what)
        yield row
    if progress is not None:
        progress(len(rows), len(rows), what)


def cache_sound(
    rows: Sequence[Recording],
    spec: MfccSpec,
    folder: Path,
    dropped: list[str],
    progress: Progress | None = None,
) -> SoundCache:
    """Decode `rows` or read what an earlier run decoded. What can not be decoded goes to `dropped`."""
    path = folder / f"sound-{_key(rows, msgspec.json.encode(spec))}.npz"
    if not path.is_file():
        parts, lengths = [np.empty((0, spec.n_mels), np.float16)], []
        for row in _each(rows, "sound", progress):
            try:
                bands = log_mel(read_sound(row.path), spec)
            except StreamfuseError as error:
                dropped.append(f"{row.path.name}: {error}")
                bands = np.empty((0, spec.n_mels), np.float32)
            parts.append(bands.astype(np.float16))
            lengths.append(len(bands))
        _save(path, store=np.concatenate(parts), ends=np.cumsum(np.array(lengths, np.int64)))
    with np.load(path) as kept:
        return SoundCache(tuple(rows), kept["store"], kept["ends"])


def cache_pictures(
    rows: Sequence[Recording], folder: Path, dropped: list[str], progress: Progress | None = None
) -> PictureCache:
    """As cache_sound(), for pictures. A picture that can not be read is grey, and in `dropped`."""
    path = folder / f"pictures-{_key(rows, str(STORED_SIDE).encode())}.npz"
    if not path.is_file():
        luma = np.full((len(rows), STORED_SIDE, STORED_SIDE), 128, np.uint8)
        for index, row in enumerate(_each(rows, "pictures", progress)):
            try:
                luma[index] = read_luma(row.path, STORED_SIDE)
            except StreamfuseError as error:
                dropped.append(f"{row.path.name}: {error}")
        _save(path, luma=luma)
    with np.load(path) as kept:
        return PictureCache(tuple(rows), kept["luma"])
