"""A file that is played as a camera: its packets in the order of time, not in that of the file.

Containers interleave in pieces of a second and more (most .mov and .mp4 of cameras and phones do). Read as
they lie there, the sound of a moment comes a second after its picture; a camera's does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamfuse.types import NS, Track

if TYPE_CHECKING:
    from streamfuse.media.demux import Read

AHEAD_NS = 2 * NS
"""How far apart the tracks of a moment may lie in a file; usual is half a second to one."""
AHEAD_BYTES = 32 << 20
AHEAD_PACKETS = 2048


def in_time(reads: Iterator[Read]) -> Iterator[Read]:
    """The same packets, each track's in its order, the track that is behind first.

    Waits for the other track only within the bounds above. Where the tracks' times lie further apart than
    that, one of them has jumped: what was read first goes first.
    raises  what the reading raises, after the packets before it
    """
    waiting: dict[Track, deque[Read]] = {"video": deque(), "audio": deque()}
    order: deque[Track] = deque()
    held_bytes = 0
    error: Exception | None = None
    source = iter(reads)
    while True:
        read = None
        if error is None and not (all(waiting.values()) or _is_full(waiting, order, held_bytes)):
            try:
                read = next(source, None)
            except Exception as raised:  # noqa: BLE001, it is raised again in its place
                error = raised
        if read is not None:
            waiting[read.track].append(read)
            order.append(read.track)
            held_bytes += read.packet.size
            continue
        if not order:
            break
        track = _next_track(waiting, order)
        given = waiting[track].popleft()
        order.remove(track)
        held_bytes -= given.packet.size
        yield given
    if error is not None:
        raise error


def _is_full(waiting: dict[Track, deque[Read]], order: deque[Track], held_bytes: int) -> bool:
    if held_bytes > AHEAD_BYTES or len(order) > AHEAD_PACKETS:
        return True
    return any(queue and queue[-1].time_ns - queue[0].time_ns > AHEAD_NS for queue in waiting.values())


def _next_track(waiting: dict[Track, deque[Read]], order: deque[Track]) -> Track:
    video, audio = waiting["video"], waiting["audio"]
    if not (video and audio):
        return "video" if video else "audio"
    apart_ns = video[0].time_ns - audio[0].time_ns
    if abs(apart_ns) > AHEAD_NS:
        return order[0]
    return "video" if apart_ns < 0 else "audio"
