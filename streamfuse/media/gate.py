"""What Sessions are made of: the gate at which a new session waits, and the edges of what is given out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from streamfuse.media.timeline import Decoded, Verdict
from streamfuse.types import NS, SAMPLE_NS, AudioChunk, MediaItem, VideoFrame

GATE_NS = 1 * NS
GATE_FRAMES = 30
"""How much waits at a gate: containers interleave their tracks closer than this, and frames are large."""


class Builder(Protocol):
    """Makes a track's items of its decoded frames."""

    def push(self, item: Decoded, pts_ns: int) -> list[MediaItem]: ...
    def flush(self) -> list[MediaItem]: ...


@dataclass
class Gate:
    """The next session while it waits. zero_ns is given, or found as the smallest pts of what waits."""

    reason: str
    from_ns: int | None = None
    backward: bool = False
    cut: bool = False
    zero_ns: int | None = None
    first_ns: int | None = None
    newest_ns: int | None = None
    waiting: list[MediaItem] = field(default_factory=list)

    def reach(self, pts_ns: int, end_ns: int) -> None:
        """Take note of an item that waits, or will when the resampler gives it out."""
        self.first_ns = pts_ns if self.first_ns is None else min(pts_ns, self.first_ns)
        self.newest_ns = end_ns if self.newest_ns is None else max(end_ns, self.newest_ns)

    @property
    def is_full(self) -> bool:
        if self.first_ns is None or self.newest_ns is None:
            return False
        return self.newest_ns - self.first_ns > GATE_NS or len(self.waiting) > GATE_FRAMES


@dataclass(frozen=True)
class Span:
    """--from and --to in time of the recording, and what the recording's own zero is."""

    zero_ns: int
    from_ns: int = 0
    to_ns: int | None = None


def clip(item: MediaItem, floor_ns: int, to_ns: int | None) -> MediaItem | None:
    """`item` within [floor, to), or None where nothing of it is."""
    if isinstance(item, VideoFrame):
        return item if item.pts_ns >= floor_ns and (to_ns is None or item.pts_ns < to_ns) else None
    if not isinstance(item, AudioChunk):
        return item
    first = max(0, -((item.pts_ns - floor_ns) // SAMPLE_NS))
    last = len(item.samples)
    if to_ns is not None:
        last = min(last, max(0, -((item.pts_ns - to_ns) // SAMPLE_NS)))
    if first >= last:
        return None
    if first == 0 and last == len(item.samples):
        return item
    return AudioChunk(item.pts_ns + first * SAMPLE_NS, item.samples[first:last], item.arrival_ns)


def reason_for(first: Decoded, verdict: Verdict, step_ns: int) -> str:
    """Why a session begins with `first`, in words; step_ns is how far it lies from where the track was."""
    if verdict is Verdict.CHANGE:
        parts = first.parameters if isinstance(first.parameters, tuple) else (first.parameters,)
        return f"{first.track} changed to {' '.join(str(part) for part in parts)}"
    return f"time jumped {'forward' if step_ns > 0 else 'back'} by {abs(step_ns) / NS:.3f} s"
