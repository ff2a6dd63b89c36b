"""From a source string to frames and chunks. The only room that imports PyAV (but for what writes an mp4)."""

from __future__ import annotations

from typing import NamedTuple

import av
import av.codec


class LibraryFacts(NamedTuple):
    ffmpeg: str
    decoders: frozenset[str]


def library_facts() -> LibraryFacts:
    """The FFmpeg inside PyAV, and the names of the decoders it has."""
    return LibraryFacts(f"FFmpeg {av.ffmpeg_version_info}", frozenset(av.codec.codecs_available))
