"""Decoded clips for training: a picture of each view and one hop of sound for each tick, kept in one file
per clip, so that a run that was killed decodes none of them twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamfuse.analysis import Looker
from streamfuse.errors import StreamfuseError
from streamfuse.kernels.frame_window import frame_window
from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.spec import ModelSpec
from streamfuse.training.cache import Progress
from streamfuse.training.clip_ticks import ticks_of
from streamfuse.training.datasets.clips import Clip
from streamfuse.types import U8, AnyPicture

I16 = npt.NDArray[np.int16]
Bools = npt.NDArray[np.bool_]
FULL = 32767.0


@dataclass(frozen=True, slots=True, eq=False)
class ClipTicks:
    """T ticks; what is missing is zeros.

    pictures  (T, V, C, S, S) uint8, full range, a picture for each view of the model
    samples   (T * hop,) int16
    present   (T, V + 1) bool: the views, then the sound
    """

    pictures: U8
    samples: I16
    present: Bools

    @property
    def count(self) -> int:
        return len(self.present)

    @property
    def bytes(self) -> int:
        return self.pictures.nbytes + self.samples.nbytes


class ClipStore:
    """Decoded clips of one picture size, colour and hop.

    side    of the stored pictures: a training camera needs some more than the model takes
    folder  the cache on disk; memory_mb of it stay in memory
    """

    def __init__(self, spec: ModelSpec, side: int, folder: Path, memory_mb: int = 1024) -> None:
        self.spec, self.folder, self.memory = spec, folder, memory_mb << 20
        colour = spec.video.picture.colour
        self.picture = FrameSpec(size=side, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), colour=colour)
        self._kept: OrderedDict[str, ClipTicks] = OrderedDict()
        self._keys: dict[Clip, str] = {}

    def ready(
        self, clips: Sequence[Clip], dropped: list[str], progress: Progress | None = None
    ) -> list[Clip]:
        """Decode what is not yet; the clips that can be used. The others go to `dropped`, with the reason."""
        usable = []
        for done, clip in enumerate(clips):
            if progress is not None and done % 20 == 0:
                progress(done, len(clips), "clips")
            try:
                if self.read(clip).count:
                    usable.append(clip)
                else:
                    dropped.append(f"{clip.name}: shorter than a tick")
            except StreamfuseError as error:
                dropped.append(f"{clip.name}: {error}")
        if progress is not None:
            progress(len(clips), len(clips), "clips")
        return usable

    def read(self, clip: Clip) -> ClipTicks:
        """The clip's ticks, from memory, from the cache, or from its files.

        raises  SourceError when it can not be decoded
        """
        key = self._keys.get(clip) or self._key(clip)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        path = self.folder / f"clip-{key}.npz"
        if not path.is_file():
            made = self._decoded(clip)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez(file, pictures=made.pictures, samples=made.samples, present=made.present)
            part.replace(path)
        with np.load(path) as kept:
            return self._keep(key, ClipTicks(kept["pictures"], kept["samples"], kept["present"]))

    def _keep(self, key: str, ticks: ClipTicks) -> ClipTicks:
        self._kept[key] = ticks
        while sum(one.bytes for one in self._kept.values()) > self.memory and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return ticks

    def _key(self, clip: Clip) -> str:
        """Of all that decides on what is decoded."""
        said = [str(self.picture), str(self.spec.views), str(self.spec.hop_samples)]
        said += [f"{clip.start_ns} {clip.end_ns} {clip.seed}"]
        for path in (clip.video, clip.audio):
            stat = path.stat() if path is not None else None
            said.append(f"{path}" if stat is None else f"{path} {stat.st_size} {stat.st_mtime_ns}")
        key = self._keys[clip] = sha256("\n".join(said).encode()).hexdigest()[:20]
        return key

    def _decoded(self, clip: Clip) -> ClipTicks:
        hop = self.spec.hop_samples
        pictures: list[U8] = []
        samples: list[I16] = []
        present: list[list[bool]] = []
        looker = Looker(self.spec)
        last: list[AnyPicture | None] = [None] * len(self.spec.views)
        for tick in ticks_of(clip, self.spec):
            (sight,) = looker.push(tick)
            row = [
                pictures[-1][view] if one is last[view] and pictures else self._stored(one)
                for view, one in enumerate(sight.seen.pictures)
            ]  # a picture that is held is one object
            pictures.append(np.stack(row))
            last = sight.seen.pictures
            wave = tick.samples[-hop:] if sight.seen.present[-1] else np.zeros(hop, np.float32)
            samples.append(np.rint(np.clip(wave, -1.0, 1.0) * FULL).astype(np.int16))
            present.append(sight.seen.present)
        if not present:
            views, side = len(self.spec.views), self.picture.size
            empty = np.empty((0, views, self.picture.channels, side, side), np.uint8)
            return ClipTicks(empty, np.empty(0, np.int16), np.empty((0, views + 1), np.bool_))
        return ClipTicks(np.stack(pictures), np.concatenate(samples), np.array(present, np.bool_))

    def _stored(self, picture: AnyPicture | None) -> U8:
        if picture is None:
            return np.zeros((self.picture.channels, self.picture.size, self.picture.size), np.uint8)
        made: U8 = np.rint(frame_window([picture.on_host()], self.picture)[0] * 255.0).astype(np.uint8)
        return made
