"""How fast the clocks of a camera's two tracks run apart, from when their items come.

Sound and picture often come from two crystals, which differ by up to 100 millionths: 0.36 s an hour. Each
item says what its own clock showed, and its arrival what ours did; how late it is grows where its clock is
slow. A network only ever delays, so of every ten seconds the least delay is taken; and the slope is the
median over all pairs of those, which a stall or two do not move.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from streamfuse.types import NS, AudioChunk, MediaItem, SessionStart, Track, VideoFrame

SPAN_NS = 10 * NS
ENOUGH = 7
"""Spans before anything is said, a minute: the 2 ms of a quiet network make 30 millionths of error then."""
SPANS = 180
"""Half an hour is looked at."""


class Drift:
    """Push the items of a live source as they come.

    ppb  by how many billionths the picture's clock gains on the sound's: the sound comes ever later where it
         is positive; None while that is not known
    """

    def __init__(self) -> None:
        self.ppb: int | None = None
        self._forget()

    def push(self, item: MediaItem) -> None:
        if isinstance(item, SessionStart):  # other clocks, or the same ones set anew
            self._forget()
        elif isinstance(item, VideoFrame):
            self._note("video", item.arrival_ns, item.pts_ns)
        elif isinstance(item, AudioChunk):
            self._note("audio", item.arrival_ns, item.end_ns)

    def _forget(self) -> None:
        self.ppb = None
        self._span: int | None = None
        self._least_ns: dict[Track, int] = {}
        self._apart: deque[tuple[int, int]] = deque(maxlen=SPANS)
        """Of each span its number, and how much later the sound came than the picture."""

    def _note(self, track: Track, arrival_ns: int, media_ns: int) -> None:
        span = arrival_ns // SPAN_NS
        if self._span is None or span > self._span:
            self._close()
            self._span, self._least_ns = span, {}
        late_ns = arrival_ns - media_ns
        self._least_ns[track] = min(late_ns, self._least_ns.get(track, late_ns))

    def _close(self) -> None:
        if self._span is None or len(self._least_ns) < 2:
            return
        self._apart.append((self._span, self._least_ns["audio"] - self._least_ns["video"]))
        if len(self._apart) >= ENOUGH:
            self.ppb = _slope_ppb(np.array(self._apart, np.int64))


def _slope_ppb(apart: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> int:
    """Theil's and Sen's: the median of the slopes between any two points."""
    first, second = np.triu_indices(len(apart), 1)
    steps = apart[second] - apart[first]
    return round(float(np.median(steps[:, 1] / (steps[:, 0] * SPAN_NS))) * NS)
