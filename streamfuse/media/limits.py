"""What is accepted from outside, as one table of FFmpeg options per kind of source.

FFmpeg ignores a misspelt option without a word, so each one here has a test of its effect.
"""

from __future__ import annotations

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceRefused
from streamfuse.media.certificates import tls_options
from streamfuse.media.source import (
    DeviceSource,
    FileSource,
    HlsSource,
    HttpSource,
    LavfiSource,
    RtmpSource,
    RtspSource,
    Source,
    UdpSource,
)
from streamfuse.types import Mode

MAX_STREAMS = 64
"""A film with thirty subtitles is ordinary; thousands of streams are an attack."""
MAX_CHANNELS = 8
RATES_HZ = (8_000, 192_000)

# Containers that hold what we decode. Not in here on purpose: hls, dash, concat, sdp and imf open further
# addresses; image2 and *_pipe are pictures; bin, tty, rawvideo and the like accept any bytes.
FILE_FORMATS = (
    "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,live_flv,ogg,wav,w64,mp3,aac,flac,ac3,eac3,asf,mxf,aiff,au"
    ",caf,h264,hevc,ivf,mjpeg,m4v,obu,av1"
)
CODECS = frozenset(
    {
        *("h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "av1", "prores"),
        *("aac", "mp2", "mp3", "opus", "vorbis", "flac", "alac", "ac3", "eac3", "adpcm_ima_wav"),
    }
)
"""Accepted by FFmpeg's name of the codec (not of the decoder); all pcm_* as well."""
RAW_CODECS = frozenset({"rawvideo", "wrapped_avframe"})
"""Accepted from devices and test patterns only, where we chose the format ourselves."""

_PROTOCOLS: dict[type[Source], str] = {
    FileSource: "file",
    RtspSource: "rtp,udp,tcp,tls,crypto",
    RtmpSource: "rtmp,rtmps,tcp,tls,crypto",
    HttpSource: "http,https,tcp,tls,crypto,httpproxy",
    HlsSource: "http,https,tcp,tls,crypto,httpproxy",
    UdpSource: "udp",
    DeviceSource: "",
    LavfiSource: "",
}
_FORMATS: dict[type[Source], str] = {
    FileSource: FILE_FORMATS,
    RtspSource: "rtsp,rtp,mpegts",
    RtmpSource: "flv,live_flv",
    HttpSource: FILE_FORMATS + ",mpjpeg",
    HlsSource: "hls,mpegts,mov,aac,mp3,ac3,eac3,webvtt",
    UdpSource: "mpegts",
    DeviceSource: "video4linux2,v4l2,alsa",
    LavfiSource: "lavfi",
}


def open_options(source: Source, decode: DecodeConfig, mode: Mode) -> dict[str, str]:
    """The options with which FFmpeg opens `source`."""
    live = mode == "live"
    read_us = str(round(decode.read_timeout_s * 1e6))
    options = {
        "protocol_whitelist": _PROTOCOLS[type(source)] or "none",
        "format_whitelist": _FORMATS[type(source)],
        # Limits what probing decodes; decoder_options() limits what we decode.
        "max_pixels": str(decode.max_pixels),
        "max_streams": str(MAX_STREAMS),
        "probesize": str(2_000_000 if live else 10_000_000),
        "analyzeduration": str(3_000_000 if live else 10_000_000),
        # FFmpeg would hide one wrap and one backward jump per file; timeline.py does it for all of them.
        "correct_ts_overflow": "0",
        # A broadcast that changes its programme table keeps its streams.
        "merge_pmt_versions": "1",
    }
    if isinstance(source, RtspSource):
        options |= {
            "rtsp_transport": source.transport,
            "timeout": read_us,
            "allowed_media_types": "video+audio",
        }
    elif isinstance(source, HttpSource | HlsSource):
        # A redirect would be followed to any address, also inside this network.
        options |= {"rw_timeout": read_us, "max_redirects": "0", "user_agent": "streamfuse", "icy": "0"}
    elif isinstance(source, RtmpSource):
        # Not "timeout": for RTMP that means to listen.
        options |= {"rw_timeout": read_us}
    elif isinstance(source, UdpSource):
        options |= {"timeout": read_us, "overrun_nonfatal": "1"}
    return options | tls_options(source, decode)


def decoder_options(decode: DecodeConfig) -> dict[str, str]:
    """The options of a video decoder. The option of the same name on the container does not reach it."""
    return {"max_pixels": str(decode.max_pixels)}


def check_codec(codec: str, decoder: str, source: Source, decode: DecodeConfig) -> None:
    """Refuse a codec that is not on the list, before anything of it is decoded.

    codec, decoder  FFmpeg's name of the codec and of the decoder chosen for it
    """
    if codec in CODECS or codec.startswith("pcm_"):
        return
    if codec in RAW_CODECS and isinstance(source, DeviceSource | LavfiSource):
        return
    if codec in decode.allow_codecs or decoder in decode.allow_codecs:
        return
    hint = f"--allow-codec {codec} accepts it"
    raise SourceRefused("a codec must be on the accepted list", got=codec, where=source, hint=hint)


def check_picture(width: int, height: int, source: Source, decode: DecodeConfig) -> None:
    if width * height > decode.max_pixels:
        hint = "decode.max_pixels raises the limit"
        rule = f"a picture must have at most {decode.max_pixels} pixels"
        raise SourceRefused(rule, got=f"{width}x{height}", where=source, hint=hint)


def check_sound(rate_hz: int, channels: int, source: Source) -> None:
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        rule = f"a sample rate must be {RATES_HZ[0]} to {RATES_HZ[1]} Hz"
        raise SourceRefused(rule, got=rate_hz, where=source)
    if not 1 <= channels <= MAX_CHANNELS:
        raise SourceRefused(f"sound must have 1 to {MAX_CHANNELS} channels", got=channels, where=source)
