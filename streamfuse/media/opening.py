"""Opening a source within its limits, and choosing the tracks to decode."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.stream import Discard, Disposition

from streamfuse.clock import SYSTEM
from streamfuse.config import DecodeConfig
from streamfuse.errors import BackendError, SourceError, SourceLost, SourceRefused
from streamfuse.media.certificates import distrust
from streamfuse.media.device_frames import Gpu
from streamfuse.media.faults import PYAV_ERRORS, source_error
from streamfuse.media.limits import check_codec, check_picture, check_sound, decoder_options, open_options
from streamfuse.media.source import DeviceSource, FileSource, LavfiSource, Source, UrlSource
from streamfuse.media.timeline import Unwrapper
from streamfuse.types import NS, Mode, Track

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

log = logging.getLogger(__name__)

# Pictures that are no video: covers, previews, photographs.
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# Time stamps of these formats run modulo 2**bits. (RTP is unwrapped by FFmpeg itself.)
_WRAP_BITS = {"mpegts": 33, "mpeg": 33, "hls": 33, "flv": 32, "live_flv": 32}

_ALSA = {
    "ALSA_CONFIG_DIR": "/usr/share/alsa",
    "ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf",
    "ALSA_PLUGIN_DIR": "/usr/lib/alsa-lib",
}
"""PyAV's wheels have an ALSA library that would look under /tmp, where is nothing, or anybody's file."""


@dataclass(frozen=True)
class Way:
    """How a source is opened. `keep_on`: as open_inputs() has it."""

    source: Source
    decode: DecodeConfig
    mode: Mode
    keep_on: Gpu | None

    def on_the_cpu(self) -> Way:
        return replace(self, decode=self.decode.model_copy(update={"hwaccel": "none"}), keep_on=None)


@dataclass(frozen=True)
class Address:
    """What FFmpeg is told to open."""

    url: str
    form: str | None = None
    """A format that is not to be guessed."""
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Input:
    """One open container and the tracks of it that are decoded."""

    container: InputContainer
    streams: dict[Track, Any]
    unwrapper: Unwrapper

    def close(self) -> None:
        self.container.close()


def open_inputs(source: Source, decode: DecodeConfig, mode: Mode, keep_on: Gpu | None = None) -> list[Input]:
    """Open every input of a source and choose its tracks.

    keep_on  the GPU that decodes, and in whose memory frames stay
    returns  one Input, or two for a camera with a microphone and for a test pattern with sound
    raises   SourceRefused, SourceLost; BackendError for a hardware decoder that is not there
    """
    if not decode.video and not decode.audio:
        raise SourceRefused("a source must be read for video or audio", got="neither", where=source)
    if isinstance(source, DeviceSource) and source.audio:
        for name, place in _ALSA.items():
            os.environ.setdefault(name, place)
    inputs: list[Input] = []
    try:
        way = Way(source, decode, mode, keep_on)
        for address in _addresses(source, decode):
            inputs.append(_open(way, address))
        if not any(item.streams for item in inputs):
            wanted = " or ".join(n for n, on in (("video", decode.video), ("audio", decode.audio)) if on)
            raise SourceRefused(f"a source must have a track of {wanted}", got="none", where=source)
    except BaseException:
        for item in inputs:
            item.close()
        raise
    return inputs


def _addresses(source: Source, decode: DecodeConfig) -> list[Address]:
    if isinstance(source, FileSource):
        return [Address(_file_address(source))]
    if isinstance(source, UrlSource):
        return [Address(source.url, "mpegts" if source.kind == "udp" else None)]
    if isinstance(source, LavfiSource):
        graphs = (source.video if decode.video else None, source.audio if decode.audio else None)
        return [Address(graph, "lavfi") for graph in graphs if graph]
    if isinstance(source, DeviceSource):
        found: list[Address] = []
        if source.video and decode.video:
            # Wall clock, so that picture and sound share one: ALSA stamps with it.
            options = {"timestamps": "abs", **dict(source.video_options)}
            found.append(Address(source.video, "v4l2", options))
        if source.audio and decode.audio:
            found.append(Address(source.audio, "alsa", dict(source.audio_options)))
        return found
    raise SourceRefused("a source must come from parse_source()", got=type(source).__name__)


def _file_address(source: FileSource) -> str:
    """`file:` and the absolute path: a name is never read as a URL, whatever colons it has."""
    path = source.path
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise SourceRefused("a source must exist", got=error.strerror, where=source) from error
    if stat.S_ISDIR(kind):
        raise SourceRefused("a source must be a file", got="a folder", where=source)
    if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
        raise SourceRefused("a source must be a regular file or a pipe", got="a device", where=source)
    return f"file:{Path.absolute(path)}"


def _open(way: Way, address: Address) -> Input:
    source, decode = way.source, way.decode
    container = _in_time(way, address)
    try:
        streams = choose_streams(container, source, decode)
        for stream in container.streams:
            if stream not in streams.values():
                stream.discard = Discard.all
        for track, stream in streams.items():
            _set_up(stream.codec_context, track, decode, way.mode)
    except SourceError:
        container.close()
        raise
    return Input(container, streams, Unwrapper(_WRAP_BITS.get(container.format.name)))


def _in_time(way: Way, address: Address) -> InputContainer:
    """The opened container. What FFmpeg makes of a wait that it had to give up depends on the protocol."""
    began_ns = SYSTEM.monotonic_ns()
    try:
        return _container(way, address)
    except SourceLost:
        waited_s = min(way.decode.open_timeout_s, way.decode.read_timeout_s)
        if SYSTEM.monotonic_ns() - began_ns < waited_s * NS:
            raise
        got = f"no stream within {waited_s:g} s"
        raise SourceLost("nothing came in time", got=got, where=way.source) from None


def _container(way: Way, address: Address) -> InputContainer:
    source, decode, mode, keep_on = way.source, way.decode, way.mode, way.keep_on
    options = open_options(source, decode, mode) | address.options
    timeout = (decode.open_timeout_s, decode.read_timeout_s)
    accel = _accelerator(decode, keep_on)
    try:
        with nullcontext() if keep_on is None else keep_on.current():
            container = av.open(
                address.url,
                "r",
                format=address.form,
                options=options,
                timeout=timeout,
                hwaccel=accel,
                metadata_errors="replace",
            )
    except PYAV_ERRORS as error:
        if accel is not None and getattr(error, "filename", None) is None:
            _fall_back(way, error)
            return _container(way.on_the_cpu(), address)
        untrusted = distrust(error, source, decode)
        raise untrusted or source_error(error, source, live=mode == "live") from None
    except RuntimeError as error:  # PyAV's, where no stream suits the accelerator
        if accel is None:
            raise
        plain = _container(way.on_the_cpu(), address)
        if "video" in choose_streams(plain, source, decode):  # sound alone needs no GPU
            _fall_back(way, error, plain)
        return plain
    if accel is not None:
        _check_accelerated(way, container)
    return container


def _fall_back(way: Way, error: Exception, container: InputContainer | None = None) -> None:
    """Say that the CPU decodes; BackendError, and the container closed, where it must not."""
    missing = no_gpu_decoder(error, way.source)
    if not way.decode.hwaccel_fallback:
        if container is not None:
            container.close()
        raise missing from None
    log.warning("decoded on the CPU: %s", missing)


def _accelerator(decode: DecodeConfig, keep_on: Gpu | None) -> HWAccel | None:
    kind, _, index = decode.hwaccel.partition(":")
    if kind == "none":
        return None
    if keep_on is not None:
        return keep_on.accelerator(fallback=decode.hwaccel_fallback)
    # In a context of FFmpeg's own. A frame is copied to the host when it is rendered: few of them are.
    return HWAccel(
        kind,
        device=index or None,
        allow_software_fallback=decode.hwaccel_fallback,
        options={"primary_ctx": "0"},
        is_hw_owned=True,
    )


def _check_accelerated(way: Way, container: InputContainer) -> None:
    """PyAV is content where any stream has a decoder of the GPU, be it a cover's."""
    video: Any = choose_streams(container, way.source, way.decode).get("video")
    if video is not None and not video.codec_context.is_hwaccel:
        _fall_back(way, RuntimeError(f"{video.codec_context.name}, a decoder of the CPU"), container)


def no_gpu_decoder(error: Exception, source: Source) -> BackendError:
    rule = "decode.hwaccel: cuda needs an NVIDIA GPU that decodes this codec"
    hint = "decode.hwaccel: none decodes on the CPU, hwaccel_fallback: true where it must"
    said = source.redact(getattr(error, "strerror", None) or str(error))
    return BackendError(rule, got=said, where=source, hint=hint)


def choose_streams(container: InputContainer, source: Source, decode: DecodeConfig) -> dict[Track, Stream]:
    """The best video and the best audio stream that we accept, chosen by type, never by position.

    raises  SourceRefused by the name of the codec where a type has streams and none is accepted
    """
    chosen: dict[Track, Stream] = {}
    wanted: list[Track] = [t for t, on in (("video", decode.video), ("audio", decode.audio)) if on]  # type: ignore[misc]
    for track in wanted:
        streams = [s for s in container.streams if s.type == track and not s.disposition & _STILL]
        best = container.streams.best(track) if streams else None
        streams.sort(key=lambda s: s is not best)
        refusals: list[SourceRefused] = []
        for stream in streams:
            try:
                _check(stream, track, source, decode)
            except SourceRefused as refusal:
                refusals.append(refusal)
            else:
                chosen[track] = stream
                break
        if refusals and track not in chosen:
            raise refusals[0]
    return chosen


def _check(stream: Any, track: Track, source: Source, decode: DecodeConfig) -> None:
    context = stream.codec_context
    if context is None:
        raise SourceRefused("there must be a decoder for a track", got=f"an unknown {track}", where=source)
    check_codec(context.codec.canonical_name, context.name, source, decode)
    if track == "video":
        check_picture(context.width, context.height, source, decode)
    elif context.sample_rate:
        check_sound(context.sample_rate, context.layout.nb_channels, source)


def _set_up(context: Any, track: Track, decode: DecodeConfig, mode: Mode) -> None:
    if track == "audio":
        context.thread_count = 1
        return
    context.options = context.options | decoder_options(decode)
    # Threads do nothing for a GPU's decoder but take surfaces of it.
    alone = context.is_hwaccel and not decode.hwaccel_fallback
    context.thread_count = 1 if alone else decode.threads_for(mode)
    # Frame threads decode faster and answer later: right for a recording, wrong for a camera.
    context.thread_type = "FRAME" if mode == "recorded" else "SLICE"
