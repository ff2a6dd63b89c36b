"""A source string becomes a typed source; credentials are known from here on and never leave by a message.

What is not one of the kinds below is refused: FFmpeg would also open `concat:`, `subfile,,...:`, `pipe:` and
whatever else it was built with.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

from streamfuse.errors import SourceRefused
from streamfuse.media.redact import Secrets, display_url, remember, remember_unreadable, url_secrets

# Control characters, lone surrogates (bytes that are no UTF-8), unassigned; line and paragraph separators.
# Format characters (Cf) too: they reorder or hide what stands beside them.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*[:,]")

# Sources that make something from nothing, and filters that only reshape it: none of them reads a file.
LAVFI_FILTERS = frozenset(
    re.split(
        r"\s+",
        "testsrc testsrc2 smptebars smptehdbars pal75bars rgbtestsrc yuvtestsrc color colorspectrum gradients"
        " mandelbrot life cellauto sierpinski zoneplate nullsrc allrgb allyuv haldclutsrc"
        " sine anoisesrc anullsrc aevalsrc afirsrc hilbert sinc"
        " format aformat fps scale setsar setdar setpts asetpts noise hue eq rotate vflip hflip transpose"
        " volume tremolo vibrato aresample geq drawbox drawgrid fade afade loop trim atrim boxblur gblur"
        " negate channelmap pan asetrate settb asettb apad adelay",
    )
)
DEVICE_OPTIONS = frozenset(
    {"video_size", "framerate", "input_format", "pixel_format", "sample_rate", "channels"}
)


Pacing = Literal["own", "read", "sent"]
"""When the items of an opened source come: when they happen (a camera); as fast as they are read (a file, a
test pattern); as fast as a network sends them, in bursts (HLS, a film over HTTP)."""


@dataclass(frozen=True)
class Source:
    """Something that can be opened. Its repr and `display` hold no secret; `redact` cleans foreign text.

    paced   it delivers at its own pace (a camera); else as fast as it is read (a file, a test pattern, HLS)
    ends    it has an end, which is no failure
    """

    display: str
    secrets: Secrets = field(default_factory=Secrets, repr=False)

    kind: ClassVar[str] = ""
    paced: ClassVar[bool] = True
    ends: ClassVar[bool] = False

    def redact(self, text: str) -> str:
        """`text`, which may quote the address, without anything that was secret in it."""
        return self.secrets.redact(text)

    def __str__(self) -> str:
        return self.display


@dataclass(frozen=True)
class FileSource(Source):
    path: Path = Path()
    kind: ClassVar[str] = "file"
    paced: ClassVar[bool] = False
    ends: ClassVar[bool] = True


@dataclass(frozen=True)
class UrlSource(Source):
    url: str = field(default="", repr=False)


@dataclass(frozen=True)
class RtspSource(UrlSource):
    transport: Literal["tcp", "udp"] = "tcp"
    kind: ClassVar[str] = "rtsp"


@dataclass(frozen=True)
class RtmpSource(UrlSource):
    kind: ClassVar[str] = "rtmp"


@dataclass(frozen=True)
class HttpSource(UrlSource):
    """A file, a transport stream or an MJPEG camera over HTTP(S)."""

    kind: ClassVar[str] = "http"


@dataclass(frozen=True)
class HlsSource(UrlSource):
    """A playlist: its segments come whole, one every few seconds."""

    kind: ClassVar[str] = "hls"
    paced: ClassVar[bool] = False


@dataclass(frozen=True)
class UdpSource(UrlSource):
    """MPEG-TS over UDP, unicast or multicast."""

    kind: ClassVar[str] = "udp"


@dataclass(frozen=True)
class DeviceSource(Source):
    """A V4L2 camera, an ALSA microphone, or both: `v4l2:/dev/video0?framerate=30;alsa:default`."""

    video: str | None = None
    audio: str | None = None
    video_options: tuple[tuple[str, str], ...] = ()
    audio_options: tuple[tuple[str, str], ...] = ()
    kind: ClassVar[str] = "device"


@dataclass(frozen=True)
class LavfiSource(Source):
    """Test patterns: `lavfi:testsrc2=size=640x360:rate=30;sine=frequency=440`."""

    video: str | None = None
    audio: str | None = None
    kind: ClassVar[str] = "lavfi"
    paced: ClassVar[bool] = False
    ends: ClassVar[bool] = True


def parse_source(text: str, *, allow_hls: bool = False) -> Source:
    """The typed source that `text` names.

    raises  SourceRefused for an unknown scheme, a malformed address, a playlist that was not allowed, a test
            pattern that could read files. Whether a file or a camera is there is found when it is opened.
    """
    if _is_file(text):
        return file_source(Path(text))
    text = text.strip()
    if not text or not text.isprintable():
        rule = "a source must be a file, a URL, a device or a test pattern in printable characters"
        raise SourceRefused(rule, got=repr(text)[:60])
    if text.startswith("lavfi:"):
        return _lavfi(text)
    if text.startswith(("v4l2:", "alsa:", "/dev/video", "/dev/v4l/")):
        return _device(text)
    if "://" in text and not text.startswith("file:"):
        return _url(text, allow_hls)
    return _file(text)


def file_source(path: Path) -> FileSource:
    """A file, whatever it is called: its name may hold colons, spaces at the ends, or bytes of any kind."""
    shown = "".join(c if unicodedata.category(c) not in _UNSHOWN else ascii(c)[1:-1] for c in str(path))
    return FileSource(display=shown, path=path)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a NUL in it: no name of a file
        return False


def _file(text: str) -> FileSource:
    name = text.removeprefix("file://").removeprefix("file:") if text.startswith("file:") else text
    path = Path(name)
    with suppress(RuntimeError):  # ~nobody/clip.mp4
        path = path.expanduser()
    if _PREFIX.match(name) and not path.exists():
        kinds = "a file, rtsp://, rtmp://, http(s)://, udp://, v4l2:, alsa: or lavfi:"
        raise SourceRefused(f"a source must be {kinds}", got=repr(_PREFIX.match(name)[0]))  # type: ignore[index]
    return file_source(path)


def _split(text: str) -> SplitResult:
    """Split a URL; the message of a failure never quotes it, for it may hold a password."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None or not parts.hostname:
        remember_unreadable(text)
        where = text.partition("://")[0] + "://***"
        hint = "write / ? # @ in a password as %2F %3F %23 %40"
        raise SourceRefused("a URL must be scheme://[user:password@]host[:port]/path", where=where, hint=hint)
    return parts


def _url(text: str, allow_hls: bool) -> Source:
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    base, _, transport = scheme.partition("+")
    if base not in ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp"):
        remember_unreadable(text)
        schemes = "rtsp, rtsps, rtmp, rtmps, http, https or udp"
        raise SourceRefused(f"a URL's scheme must be {schemes}", got=repr(scheme))
    url = f"{base}://{rest}"
    # udp://@:1234 is FFmpeg's way to say "listen on every address".
    parts = _split(url) if not re.match(r"udp://@?:\d+", url) else urlsplit(url)
    secrets = url_secrets(url, parts)
    display = display_url(parts, hide_last=base.startswith("rtmp"))
    secrets = remember(secrets.with_address(text, url, display))
    if base.startswith("rtsp"):
        if transport not in ("", "tcp", "udp"):
            raise SourceRefused("an RTSP transport must be rtsp+tcp:// or rtsp+udp://", got=repr(scheme))
        return RtspSource(display, secrets, url, "udp" if transport == "udp" else "tcp")
    if transport:
        raise SourceRefused("only RTSP takes a transport in its scheme", got=repr(scheme))
    if base == "udp":
        return UdpSource(display, secrets, url)
    if base.startswith("rtmp"):
        return RtmpSource(display, secrets, url)
    if parts.path.lower().endswith((".m3u8", ".m3u")):
        if not allow_hls:
            hint = "a playlist can name any address: give --allow-hls if you trust the server"
            raise SourceRefused("HLS playlists are opened only when allowed", where=display, hint=hint)
        return HlsSource(display, secrets, url)
    return HttpSource(display, secrets, url)


def _halves(text: str, prefixes: dict[str, str]) -> list[tuple[str, str]]:
    """Split `a:x;b:y` at the semicolons and name each part by its prefix."""
    found: list[tuple[str, str]] = []
    for part in text.split(";"):
        part = part.strip()
        for prefix, name in prefixes.items():
            if part.startswith(prefix):
                found.append((name, part.removeprefix(prefix) if prefix.endswith(":") else part))
                break
        else:
            rule = "a device must be v4l2:/dev/videoN or alsa:NAME, or both with ; between"
            raise SourceRefused(rule, got=repr(part))
    return found


def _device(text: str) -> DeviceSource:
    prefixes = {"v4l2:": "video", "/dev/video": "video", "/dev/v4l/": "video", "alsa:": "audio"}
    chosen: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
    for name, part in _halves(text, prefixes):
        if name in chosen:
            raise SourceRefused("a device source takes one camera and one microphone", got=repr(text))
        address, _, query = part.partition("?")
        options = tuple((k, v) for k, _, v in (item.partition("=") for item in query.split("&") if item))
        unknown = [key for key, _ in options if key not in DEVICE_OPTIONS]
        if unknown or not address:
            rule = f"a device takes an address and the options {', '.join(sorted(DEVICE_OPTIONS))}"
            raise SourceRefused(rule, got=repr(unknown[0] if unknown else part))
        chosen[name] = (address, options)
    video, video_options = chosen.get("video", (None, ()))
    audio, audio_options = chosen.get("audio", (None, ()))
    return DeviceSource(
        text, video=video, audio=audio, video_options=video_options, audio_options=audio_options
    )


_AUDIO_SOURCES = frozenset({"sine", "anoisesrc", "anullsrc", "aevalsrc", "afirsrc", "hilbert", "sinc"})
_OUTSIDE_QUOTES = re.compile(r",(?=(?:[^']*'[^']*')*[^']*$)")


def _lavfi(text: str) -> LavfiSource:
    graphs: dict[str, str] = {}
    for part in text.removeprefix("lavfi:").split(";"):
        graph = part.strip()
        names = [re.split(r"[=@\s]", item.strip(), maxsplit=1)[0] for item in _OUTSIDE_QUOTES.split(graph)]
        bad = next((name for name in names if name not in LAVFI_FILTERS), None)
        if bad is not None or "[" in graph or "\\" in graph or "file" in graph:
            rule = (
                "a test pattern must be plain filters that read no file, like testsrc2=size=640x360:rate=30"
            )
            raise SourceRefused(rule, got=repr(bad if bad is not None else graph), where=text[:80])
        track = "audio" if names[0] in _AUDIO_SOURCES else "video"
        if track in graphs:
            raise SourceRefused("a test pattern takes one picture and one sound", got=repr(text[:80]))
        graphs[track] = graph
    return LavfiSource(text, video=graphs.get("video"), audio=graphs.get("audio"))
