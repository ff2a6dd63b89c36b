"""What a source is called in labels, where nobody gave it a name."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from streamfuse.media.source import FileSource, Source, UrlSource


def source_name(source: Source) -> str:
    """A file's name without its suffix, the last part of a URL's path or its host, else the kind.

    Never a path, and nothing secret: it is made from what is safe to show.
    """
    if isinstance(source, FileSource):
        return PurePosixPath(source.display).stem or source.kind
    if isinstance(source, UrlSource):
        parts = urlsplit(source.display)
        return PurePosixPath(parts.path).stem or parts.hostname or source.kind
    return source.kind
