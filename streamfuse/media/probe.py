"""What is in a source, without decoding more of it than one frame."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import islice
from typing import Any

from streamfuse.config import DecodeConfig
from streamfuse.media.faults import PYAV_ERRORS
from streamfuse.media.frames import orientation
from streamfuse.media.opening import Input, open_inputs
from streamfuse.media.source import Source
from streamfuse.media.timeline import ticks_to_ns
from streamfuse.types import NS, Track

PROBE_PACKETS = 100
"""Where none of so many packets decodes to a picture, looking longer will not help."""


@dataclass(frozen=True)
class TrackInfo:
    """One selected track. Fields that do not apply or are not known are None.

    rotation      quarter turns counterclockwise that put it upright, in degrees
    pixel_aspect  width : height of one pixel
    start_ns      its first time stamp
    """

    track: Track
    codec: str
    profile: str | None = None
    language: str | None = None
    width: int | None = None
    height: int | None = None
    pixel_format: str | None = None
    fps: float | None = None
    rotation: int | None = None
    pixel_aspect: tuple[int, int] | None = None
    rate_hz: int | None = None
    channels: int | None = None
    layout: str | None = None
    start_ns: int | None = None
    duration_ns: int | None = None


@dataclass(frozen=True)
class SourceInfo:
    """A source's container and the tracks chosen from it.

    duration_ns  None for a live source and where the container does not say
    others       what else is in there, as "type codec"
    """

    container: str
    duration_ns: int | None
    tracks: tuple[TrackInfo, ...]
    others: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: plain values, durations in seconds beside the nanoseconds."""
        facts = asdict(self)
        facts["duration_s"] = None if self.duration_ns is None else self.duration_ns / NS
        facts["tracks"] = [{k: v for k, v in asdict(t).items() if v is not None} for t in self.tracks]
        facts["others"] = list(self.others)
        return facts

    def track(self, name: Track) -> TrackInfo | None:
        return next((t for t in self.tracks if t.track == name), None)


def probe(source: Source, config: DecodeConfig | None = None) -> SourceInfo:
    """Open `source`, say what is in it, and close it again. Raises as open_decoder() does."""
    inputs = open_inputs(source, config or DecodeConfig(), "recorded")
    try:
        info = source_info(inputs)
        tracks = tuple(
            replace(track, rotation=_rotation(inputs)) if track.track == "video" else track
            for track in info.tracks
        )
        return replace(info, tracks=tracks)
    finally:
        for item in inputs:
            item.close()


def _rotation(inputs: list[Input]) -> int | None:
    """The display rotation, which only a decoded frame tells; None where nothing decodes."""
    item = next(item for item in inputs if "video" in item.streams)
    try:
        for packet in islice(item.container.demux(item.streams["video"]), PROBE_PACKETS):
            for frame in packet.decode():
                return 90 * orientation(frame)[0]
    except PYAV_ERRORS:
        return None  # decoding it will say more
    return None


def source_info(inputs: list[Input]) -> SourceInfo:
    """The facts about opened inputs."""
    tracks = [_track_info(name, stream) for item in inputs for name, stream in item.streams.items()]
    durations = [item.container.duration for item in inputs if item.container.duration]
    chosen = {id(stream) for item in inputs for stream in item.streams.values()}
    others = [
        f"{stream.type} {stream.codec_context.name if stream.codec_context else 'unknown'}"
        for item in inputs
        for stream in item.container.streams
        if id(stream) not in chosen
    ]
    return SourceInfo(
        container="+".join(dict.fromkeys(item.container.format.name for item in inputs)),
        duration_ns=max(durations) * 1000 if durations else None,
        tracks=tuple(sorted(tracks, key=lambda t: t.track != "video")),
        others=tuple(others),
        metadata={k: _plain(v) for item in inputs for k, v in item.container.metadata.items()},
    )


def _plain(text: str) -> str:
    """A file's own words, without what could disturb a terminal or a log."""
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _track_info(name: Track, stream: Any) -> TrackInfo:
    context = stream.codec_context
    common: dict[str, Any] = {
        "codec": context.codec.canonical_name,
        "profile": context.profile,
        "language": _plain(stream.language) if stream.language else None,
        "start_ns": None if stream.start_time is None else ticks_to_ns(stream.start_time, stream.time_base),
        "duration_ns": None if stream.duration is None else ticks_to_ns(stream.duration, stream.time_base),
    }
    if name == "audio":
        layout = context.layout
        return TrackInfo(
            "audio", rate_hz=context.sample_rate, channels=layout.nb_channels, layout=layout.name, **common
        )
    return TrackInfo(
        "video",
        width=context.width,
        height=context.height,
        pixel_format=context.pix_fmt,
        fps=float(fps) if (fps := frame_rate(stream)) else None,
        pixel_aspect=pixel_aspect(stream),
        **common,
    )


def frame_rate(stream: Any) -> Fraction | None:
    """What the container or codec claims; for a variable rate the mean."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return Fraction(rate) if rate else None


def pixel_aspect(stream: Any) -> tuple[int, int]:
    """Width : height of a pixel, (1, 1) where nothing sensible is said."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not aspect or not Fraction(1, 16) <= aspect <= 16:
        return 1, 1
    return aspect.numerator, aspect.denominator
