"""Everything a decoder gave, for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamfuse.media.decode import Decoder, open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import F32, NS, AudioChunk, MediaItem, SessionStart, VideoFrame
from tests.clips import read_index


class Played:
    """One source decoded to its end."""

    def __init__(self, path: Path | str, mode: str = "recorded", side: int = 256, **more: Any) -> None:
        with open_decoder(parse_source(str(path)), mode=mode, picture_side=side, **more) as decoder:  # type: ignore[arg-type]
            self.items: list[MediaItem] = list(decoder)
        self.decoder: Decoder = decoder
        self.counters = decoder.counters
        self.starts = [i for i in self.items if isinstance(i, SessionStart)]
        self.frames = [i for i in self.items if isinstance(i, VideoFrame)]
        self.chunks = [i for i in self.items if isinstance(i, AudioChunk)]

    @property
    def indices(self) -> list[int]:
        return [read_index(frame.render().planes[0]) for frame in self.frames]

    @property
    def times(self) -> list[float]:
        return [frame.pts_ns / NS for frame in self.frames]

    @property
    def sound(self) -> F32:
        """All samples, after checking that there is no hole between them."""
        for earlier, later in zip(self.chunks, self.chunks[1:], strict=False):
            assert later.pts_ns == earlier.end_ns
        return np.concatenate([chunk.samples for chunk in self.chunks])
