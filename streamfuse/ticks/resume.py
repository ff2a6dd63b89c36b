"""Where a recording's ticks go on after a checkpoint, and how it is known that they are the same ticks."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

import numpy as np

from streamfuse.types import Tick

CHECKED_TICKS = 10
"""So many ticks before a checkpoint are made once more and compared with what they were: a second, in which
a picture that was decoded from a wrong key frame would show."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The last tick that is done with.

    start_ns  its time in the recording
    digests   of the ticks up to it, oldest first, all of its session
    """

    session: int
    index: int
    start_ns: int
    digests: tuple[bytes, ...]

    @property
    def first_checked(self) -> tuple[int, int]:
        """(session, index) of the first tick that has to be made again."""
        return (self.session, self.index + 1 - len(self.digests))


class RecentTicks:
    """Keeps the ticks that a checkpoint may want digests of; one thread pushes, another may ask.

    ahead  how many ticks later than they were pushed digests of them may be asked for
    """

    def __init__(self, ahead: int = 0) -> None:
        self._ticks: deque[tuple[Tick, bytes]] = deque(maxlen=CHECKED_TICKS + ahead)

    def push(self, tick: Tick, faces: bytes = b"") -> None:
        """faces: what the face view carries on after this tick, where there is one."""
        self._ticks.append((tick, faces))

    def faces(self, session: int, index: int) -> bytes:
        """What was pushed with this tick. LookupError where it was not, or long ago."""
        for tick, faces in self._ticks.copy():
            if (tick.head.session, tick.head.index) == (session, index):
                return faces
        raise LookupError(f"tick {index} of session {session}")

    def point(self, session: int, index: int) -> ResumePoint:
        """The point after this tick, which was pushed before. LookupError where it was not, or long ago."""
        known = {(tick.head.session, tick.head.index): tick for tick, _ in self._ticks.copy()}
        last = known[session, index]
        first = index
        while index - first + 1 < CHECKED_TICKS and (session, first - 1) in known:
            first -= 1
        digests = tuple(tick_digest(known[session, at]) for at in range(first, index + 1))
        return ResumePoint(session, index, last.head.start_ns, digests)


def tick_digest(tick: Tick) -> bytes:
    """sha256 of all that the analysis gets to see of a tick; not of when and how it came."""
    head, picture = tick.head, None if tick.picture is None else tick.picture.on_host()
    facts = (head.source, head.session, head.index, head.offset_ns, head.hop_ns, head.video, head.audio)
    looks = None
    if picture is not None:
        shapes = [plane.shape for plane in picture.planes]
        looks = (shapes, picture.chroma, picture.matrix, picture.full_range, picture.pixel_aspect)
    digest = hashlib.sha256(repr((facts, head.partial, head.skew_ns, looks, tick.samples.shape)).encode())
    for array in (tick.samples, *(() if picture is None else picture.planes)):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
