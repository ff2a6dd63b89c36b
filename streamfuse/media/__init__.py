"""From a source string to frames and chunks. The only room that imports PyAV (but for what writes an mp4)."""

from __future__ import annotations

from typing import NamedTuple


class LibraryFacts(NamedTuple):
    ffmpeg: str
    decoders: frozenset[str]


def library_facts() -> LibraryFacts:
    """The FFmpeg inside PyAV, and the names of the decoders it has."""
    # Here, for this room's source strings are read without the library.
    import av
    import av.codec

    return LibraryFacts(f"FFmpeg {av.ffmpeg_version_info}", frozenset(av.codec.codecs_available))
