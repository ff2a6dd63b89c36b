"""What becomes of the decoded frames of one track: VideoFrames that can be rendered, 16 kHz AudioChunks."""

from __future__ import annotations

from functools import partial

from streamfuse.media.frames import Renderer
from streamfuse.media.resample import Resampler
from streamfuse.media.timeline import Decoded
from streamfuse.types import F32, AudioChunk, MediaItem, VideoFrame


class VideoBuilder:
    """A frame stays as the decoder made it; only those that a tick uses are ever rendered."""

    def __init__(self, picture_side: int, pixel_aspect: tuple[int, int]) -> None:
        self._renderer = Renderer(picture_side, pixel_aspect)

    def push(self, item: Decoded, pts_ns: int) -> list[MediaItem]:
        render = partial(self._renderer.render, item.frame)
        return [VideoFrame(pts_ns, item.dur_ns, render, item.arrival_ns)]

    def flush(self) -> list[MediaItem]:
        return []


class AudioBuilder:
    """Runs the resampler; a flush ends its run, and the next frame begins a new one."""

    def __init__(self) -> None:
        self._resampler = Resampler()
        self._arrival_ns = 0
        self._gaps = self._overlaps = 0

    @property
    def counters(self) -> dict[str, int]:
        return {
            "audio_gaps": self._gaps + self._resampler.gaps,
            "audio_overlaps": self._overlaps + self._resampler.overlaps,
        }

    def push(self, item: Decoded, pts_ns: int) -> list[MediaItem]:
        self._arrival_ns = item.arrival_ns
        return self._chunks(self._resampler.push(item.frame, pts_ns))

    def flush(self) -> list[MediaItem]:
        """The end of this line of time; what comes next may lie anywhere."""
        chunks = self._chunks(self._resampler.flush())
        self._gaps += self._resampler.gaps
        self._overlaps += self._resampler.overlaps
        self._resampler = Resampler()
        return chunks

    def _chunks(self, pieces: list[tuple[int, F32]]) -> list[MediaItem]:
        return [AudioChunk(pts, samples, self._arrival_ns) for pts, samples in pieces]
