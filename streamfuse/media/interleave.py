"""Sound waits for the pictures beside it: decoders give a picture back some packets after they took it.

By then the sound demuxed beside it has long been decoded. Where the picture changes its size, or the
time stamps begin anew, the sound would seem to be past the change already, by as much as B-frames and
decoder threads delay pictures, and that much of the new pictures would have no place.
"""

from __future__ import annotations

from collections import deque

from streamfuse.media.timeline import Decoded
from streamfuse.media.tracks import NO_PTS
from streamfuse.types import NS

BESIDE_NS = 2 * NS
"""The most sound that waits: pictures may be rare, over, or somewhere else in time."""


class Interleave:
    """Decoded items of two tracks in, the same out, each sound after the first picture that is past it."""

    def __init__(self) -> None:
        self._sound: deque[Decoded] = deque()
        self._held_ns = 0
        self._seen_ns = NO_PTS
        """The last picture; before it, the first sound."""

    def push(self, item: Decoded) -> list[Decoded]:
        if item.track == "video":
            before, self._seen_ns = self._seen_ns, item.pts_ns
            past = self._due(before - BESIDE_NS if item.pts_ns < before - BESIDE_NS else None)
            return [*past, item]
        self._sound.append(item)
        self._held_ns += item.dur_ns
        if self._seen_ns == NO_PTS:
            self._seen_ns = item.pts_ns
        return self._due()

    def flush(self) -> list[Decoded]:
        """The pictures are over: all sound that waits."""
        return self._due(everything=True)

    def _due(self, left_ns: int | None = None, *, everything: bool = False) -> list[Decoded]:
        """What need not wait any more.

        left_ns  the pictures have left a time for an earlier one: sound from here on belongs to it
        """
        due = []
        while self._sound:
            first = self._sound[0]
            past = NO_PTS in (first.pts_ns, self._seen_ns) or first.pts_ns < self._seen_ns
            left = left_ns is not None and first.pts_ns >= left_ns
            if not (everything or past or left or self._held_ns > BESIDE_NS):
                break
            due.append(self._sound.popleft())
            self._held_ns -= first.dur_ns
        return due
