"""One track's frames: what they say of themselves, and the VideoFrames and AudioChunks they become."""

from __future__ import annotations

from functools import partial
from typing import Any

from streamfuse.config import DecodeConfig
from streamfuse.media.device_frames import format_name
from streamfuse.media.frames import Renderer
from streamfuse.media.gpu_track import GpuTrack
from streamfuse.media.opening import Input
from streamfuse.media.probe import frame_rate
from streamfuse.media.resample import Resampler
from streamfuse.media.source import Source
from streamfuse.media.still import still_of
from streamfuse.media.timeline import Decoded, ticks_to_ns
from streamfuse.types import F32, MS, NS, AudioChunk, MediaItem, VideoFrame

NO_PTS = -(1 << 62)
"""A frame without a time stamp, until one is interpolated."""
FRAME_NS = 40 * MS
"""A frame's duration where nothing says it: 25 frames a second."""
ARRIVALS = 64
"""Packets whose arrival is remembered until their frame comes out; decoders reorder far fewer."""
_MADE_UP_PTS = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo", "obu", "ivf"})
"""Containers that store no pts."""


class TrackReader:
    """One track's stream, its clock, and what its decoded frames say of themselves."""

    def __init__(self, item: Input, stream: Any, live: bool, source: Source, decode: DecodeConfig) -> None:
        self.stream, self.context = stream, stream.codec_context
        self._gpu = GpuTrack(source, decode) if self.context.is_hwaccel else None
        self._base = stream.time_base
        self._unwrap = item.unwrapper
        self.start_ns = 0 if stream.start_time is None else ticks_to_ns(stream.start_time, self._base)
        rate = frame_rate(stream) if stream.type == "video" else None
        self._frame_ns = round(NS / rate) if rate and 1 <= rate <= 1000 else FRAME_NS
        # Multipart JPEG has no time of its own; a camera's pictures are as old as their arrival.
        self._by_arrival = live and item.container.format.name == "mpjpeg"
        self._guess = _PtsGuess() if item.container.format.name in _MADE_UP_PTS else None
        self._live = live
        self._arrivals: dict[int, int] = {}

    def note_arrival(self, pts: int, arrival_ns: int) -> None:
        self._arrivals[pts] = arrival_ns
        if len(self._arrivals) > ARRIVALS:
            del self._arrivals[next(iter(self._arrivals))]

    def video(self, frame: Any, arrival_ns: int) -> Decoded | None:
        if self._gpu is not None:
            self._gpu.shows(frame)
        if self._live and frame.pts is not None:
            arrival_ns = self._arrivals.pop(frame.pts, arrival_ns)
        duration = frame.duration
        dur_ns = ticks_to_ns(duration, self._base) if duration else 0
        if not 0 < dur_ns <= 3600 * NS:
            dur_ns = self._frame_ns
        parameters = (frame.width, frame.height, format_name(frame))
        return Decoded("video", self._pts_ns(frame, arrival_ns), dur_ns, parameters, frame, arrival_ns)

    def refused(self, packet: Any, error: Exception) -> None:
        """The decoder raised this for a packet, None at the end."""
        if self._gpu is not None and packet is not None and packet.is_keyframe:
            self._gpu.refuses(error)

    def ended(self) -> None:
        if self._gpu is not None:
            self._gpu.ends()

    def audio(self, frame: Any, arrival_ns: int) -> Decoded | None:
        rate = frame.sample_rate
        if not rate or not frame.samples:
            return None
        parameters = (rate, frame.layout.name)
        dur_ns = frame.samples * NS // rate
        return Decoded("audio", self._pts_ns(frame, arrival_ns), dur_ns, parameters, frame, arrival_ns)

    def _pts_ns(self, frame: Any, arrival_ns: int) -> int:
        if self._by_arrival:
            return arrival_ns
        ticks = frame.pts if self._guess is None else self._guess(frame.pts, frame.dts)
        return NO_PTS if ticks is None else ticks_to_ns(self._unwrap(ticks), self._base)


class _PtsGuess:
    """FFmpeg's guess_correct_pts() (libavcodec/decode.c), which PyAV does not hand out.

    Where the container has no pts, those made up from dts may run backwards at B-frames; then the dts,
    which do not, are nearer to the truth.
    """

    def __init__(self) -> None:
        self._last_pts = self._last_dts = NO_PTS
        self._bad_pts = self._bad_dts = 0

    def __call__(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._bad_dts += dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._bad_pts += pts <= self._last_pts
            self._last_pts = pts
        return pts if pts is not None and (dts is None or self._bad_pts <= self._bad_dts) else dts


class VideoBuilder:
    """A frame stays as the decoder made it; only those that a tick uses are ever rendered.

    keep  their pictures stay on the GPU that decoded them
    """

    def __init__(self, picture_side: int, pixel_aspect: tuple[int, int], *, keep: bool = False) -> None:
        renderer = Renderer(picture_side, pixel_aspect)
        self._render = renderer.keep if keep else renderer.render
        self._aspect = pixel_aspect

    def push(self, item: Decoded, pts_ns: int) -> list[MediaItem]:
        render = partial(self._render, item.frame)
        still = partial(still_of, item.frame, self._aspect)
        return [VideoFrame(pts_ns, item.dur_ns, render, item.arrival_ns, still)]

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
