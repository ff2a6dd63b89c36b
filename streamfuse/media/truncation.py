"""Whether a recording ends before it should."""

from __future__ import annotations

import re
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


def is_truncated(source: Source, inputs: list[Input], reached_ns: dict[Track, int]) -> bool:
    """Compare what was decoded with what the container promised.

    reached_ns  end of the last item of each track, as the track counts
    """
    if isinstance(source, FileSource) and inputs[0].container.format.name == "mpegts":
        return _is_cut_ts(source)  # its duration is read from its end, so it always fits
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


def _promised_ns(item: Input, stream: Any) -> int | None:
    if stream.duration:
        return ticks_to_ns(stream.duration, stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d)\.(\d{9})\d*", stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, seconds, rest = (int(part) for part in tag.groups())
        return ((hours * 60 + minutes) * 60 + seconds) * NS + rest
    return item.container.duration * 1000 if item.container.duration else None


def _is_cut_ts(source: FileSource) -> bool:
    """A transport stream is whole packets: a cut almost never falls between two of them."""
    with source.path.open("rb") as file:
        head = file.read(5 * max(_TS_PACKETS))
    size = source.path.stat().st_size
    for packet in _TS_PACKETS:
        for first in range(packet):
            if all(at < len(head) and head[at] == _SYNC for at in range(first, first + 4 * packet, packet)):
                return (size - first) % packet not in (0, packet - first)
    return False
