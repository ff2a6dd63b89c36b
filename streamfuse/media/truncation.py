"""Whether a recording ends before it should."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from streamfuse.media.opening import Input
from streamfuse.media.source import FileSource, Source
from streamfuse.media.timeline import ticks_to_ns
from streamfuse.types import NS, Track

SLACK_NS = NS
"""Containers round their durations and count what decoders trim: a tenth of a short recording, this much of
any, and 2 % of a very long one."""
_TS_PACKETS = (188, 192, 204)
_SYNC = 0x47
_ENDS = 70_000  # an Ogg page has at most 65,307 bytes


def is_truncated(source: Source, inputs: list[Input], reached_ns: dict[Track, int]) -> bool:
    """Compare what was decoded with what the container promised.

    reached_ns  end of the last item of each track, as the track counts
    """
    check = _CHECKS.get(inputs[0].container.format.name)
    if isinstance(source, FileSource) and check is not None and source.path.is_file():  # a pipe is read once
        # FFmpeg takes their duration from what is there, so it always fits.
        return check(*_ends(source))
    missing: list[bool] = []
    for item in inputs:
        for track, stream in item.streams.items():
            promised = _promised_ns(item, stream)
            if promised is None or track not in reached_ns:
                continue
            start = 0 if stream.start_time is None else ticks_to_ns(stream.start_time, stream.time_base)
            short = promised - (reached_ns[track] - start)
            missing.append(short > max(min(SLACK_NS, promised // 10), promised // 50))
    # One track may end early on purpose; a cut shortens them all.
    return bool(missing) and all(missing)


def _ends(source: FileSource) -> tuple[bytes, bytes, int]:
    """The first and the last bytes of a file, and its size."""
    size = source.path.stat().st_size
    with source.path.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(max(0, size - _ENDS))
        return head, file.read(), size


def _promised_ns(item: Input, stream: Any) -> int | None:
    if stream.duration:
        return ticks_to_ns(stream.duration, stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d)\.(\d{9})\d*", stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds, rest = (int(part) for part in tag.groups())
        return ((hours * 60 + minutes) * 60 + seconds) * NS + rest
    return item.container.duration * 1000 if item.container.duration else None


def _is_cut_ts(head: bytes, _tail: bytes, size: int) -> bool:
    """A transport stream is whole packets: a cut almost never falls between two of them."""
    for packet in _TS_PACKETS:
        for first in range(packet):
            if all(at < len(head) and head[at] == _SYNC for at in range(first, first + 4 * packet, packet)):
                return (size - first) % packet not in (0, packet - first)
    return False


def _is_cut_riff(head: bytes, _tail: bytes, size: int) -> bool:
    """AVI and WAV say their own size first; 0 and the largest number mean that it was not known then."""
    said = int.from_bytes(head[4:8], "little")
    return head[:4] == b"RIFF" and said not in (0, 0xFFFFFFFF) and said + 8 > size + 1


def _is_cut_ogg(_head: bytes, tail: bytes, _size: int) -> bool:
    """The last page has to be as long as its table of segments says (RFC 3533, section 6)."""
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return page[:4] == b"OggS"
    return 27 + page[26] + sum(page[27 : 27 + page[26]]) > len(page)


_CHECKS: dict[str, Callable[[bytes, bytes, int], bool]] = {
    "mpegts": _is_cut_ts,
    "avi": _is_cut_riff,
    "wav": _is_cut_riff,
    "ogg": _is_cut_ogg,
}
