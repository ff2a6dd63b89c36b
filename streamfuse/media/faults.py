"""What FFmpeg says went wrong, as one of our errors: refused for good, or lost and worth another try."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import av
import av.error

from streamfuse.errors import SourceError, SourceLost, SourceRefused
from streamfuse.media.limits import MAX_STREAMS
from streamfuse.media.source import FileSource, Source

# PyAV lets these out of demux() and decode() for damaged input (a stream that appears late, a limit that was
# hit); anything else is a bug of ours and is not caught.
PYAV_ERRORS: tuple[type[Exception], ...] = (
    av.error.FFmpegError,
    IndexError,
    AttributeError,
    MemoryError,
    UnicodeDecodeError,
    ValueError,
)

_REFUSED: tuple[tuple[type[Exception], str, str | None], ...] = (
    (av.error.HTTPUnauthorizedError, "the server must accept our user and password", "check them"),
    (av.error.HTTPForbiddenError, "the server must let us read this address", "check its permissions"),
    (av.error.HTTPNotFoundError, "the address must exist on the server", "check its path"),
    (av.error.FileNotFoundError, "a source must exist", None),
    (av.error.IsADirectoryError, "a source must be a file, not a folder", None),
    (av.error.PermissionError, "a source must be readable", "check its permissions"),
    (av.error.ProtocolNotFoundError, "the protocol must be one we accept for this kind of source", None),
    (av.error.DecoderNotFoundError, "there must be a decoder for the tracks", None),
    (av.error.DemuxerNotFoundError, "the format must be one that FFmpeg knows", None),
)
_RETRY: tuple[tuple[type[Exception], str], ...] = (
    (av.error.HTTPTooManyRequestsError, "the server is refusing for now"),
    (av.error.HTTPServerError, "the server failed"),
    (av.error.ExitError, "nothing came in time"),
    (av.error.TimeoutError, "nothing came in time"),
    (av.error.ConnectionRefusedError, "nobody listens at the address"),
    (av.error.ConnectionResetError, "the connection was reset"),
    (av.error.BrokenPipeError, "the connection was closed"),
    (av.error.EOFError, "the stream ended"),
    (av.error.InvalidDataError, "what came is not a stream, or it broke off"),
)


def source_error(error: Exception, source: Source, *, live: bool, opened: bool = False) -> SourceError:
    """The SourceError for what PyAV raised on `source`, without its credentials.

    live    what is no media may be a camera that is starting: it is lost, not refused
    opened  it was open already, and failed while it was read
    """
    said = source.redact(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    for kind, rule, hint in _REFUSED:
        if isinstance(error, kind):
            return SourceRefused(rule, got=said, where=source, hint=hint)
    if isinstance(error, MemoryError):
        rule = f"a source must have at most {MAX_STREAMS} streams, and packets that fit into memory"
        return SourceRefused(rule, got=said, where=source)
    if isinstance(source, FileSource):
        return _file_error(said, source)
    if isinstance(error, av.error.ArgumentError) or (
        not live and isinstance(error, av.error.InvalidDataError)
    ):
        rule = "the format must be one we accept for this kind of source"
        return SourceRefused(rule, got=said, where=source)
    for kind, rule in _RETRY:
        if isinstance(error, kind):
            return SourceLost(rule, got=said, where=source)
    if isinstance(error, av.error.HTTPClientError):
        return SourceRefused("the server must accept our request", got=said, where=source)
    if opened:
        return SourceLost("the stream ended or broke off", got=said, where=source)
    hint = "the name may not resolve; redirects are not followed" if source.kind in ("http", "hls") else None
    return SourceLost("the source failed", got=said, where=source, hint=hint)


_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"\x89PNG", "a still image"),
    (b"\xff\xd8\xff", "a still image"),
    (b"GIF8", "a still image"),
    (b"BM", "a still image"),
    (b"II*\0", "a still image"),
    (b"MM\0*", "a still image"),
)


def _file_error(said: str, source: FileSource) -> SourceRefused:
    """Why FFmpeg would not open a file, in the words of someone who has the file."""
    rule = "a recording must be a video or audio file of an accepted format"
    if not source.path.is_file():  # a pipe: looking again would wait for another writer
        return SourceRefused(rule, got=said, where=source)
    try:
        with source.path.open("rb") as file:
            head = file.read(16)
        size = source.path.stat().st_size
    except OSError as error:
        return SourceRefused("a source must be readable", got=error.strerror, where=source)
    if size == 0:
        return SourceRefused(rule, got="an empty file", where=source)
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return SourceRefused(rule, got=what, where=source)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return SourceRefused(rule, got="a still image", where=source)
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"moov") and not _has_moov(source.path):
        hint = "the recorder did not finish the file; it has to be repaired or recorded again"
        return SourceRefused("an mp4 must have its index (moov)", got="none", where=source, hint=hint)
    return SourceRefused(rule, got=said, where=source)


def _has_moov(path: Path) -> bool:
    """Whether one of an mp4's top-level boxes is its index."""
    with suppress(OSError, struct.error), path.open("rb") as file:
        end = path.stat().st_size
        at = 0
        while at + 8 <= end:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8))
            if kind == b"moov":
                return bool(at + size <= end)
            if size < 8:
                return False
            at += size
    return False
