"""How long a live tick waits for its slower track, from what that track has shown.

A camera's encoder may give the sound a quarter of a second after the picture, always. A wait that is
shorter would send every tick without it, for ever; one that is long for everybody would make all ticks old.
"""

from __future__ import annotations

from collections import deque

from streamfuse.types import MS, NS, Track

WAIT_MIN_NS = 40 * MS
WAIT_MAX_NS = NS
"""A camera with one frame in ten seconds is not worth 15 s of age."""

RECENT = 20
"""Ticks whose lag is remembered: 2 s."""
USUAL = 15
"""Of them, sorted, the lag that is waited for: a network that stalls now and then makes no habit of it."""
MARGIN_NS = 20 * MS
CROSSINGS = 100
"""Ticks that a track may lag behind and still be measured; far beyond WAIT_MAX_NS."""


class Lags:
    """When the first track reached the end of each tick, and how much later the others did."""

    def __init__(self, first_tick: int) -> None:
        self._crossed: deque[int] = deque(maxlen=CROSSINGS)
        self._count = first_tick
        self._reached: dict[Track, int] = {"video": first_tick, "audio": first_tick}
        self._recent: dict[Track, deque[int]] = {name: deque(maxlen=RECENT) for name in self._reached}

    def cross(self, now_ns: int) -> None:
        """A track is the first to reach the end of the next tick."""
        self._crossed.append(now_ns)
        self._count += 1

    def reach(self, track: Track, first: int, end: int, now_ns: int) -> None:
        """An item of this track brought the ends of the ticks [first, end); those before it were a gap."""
        oldest = self._count - len(self._crossed)
        for tick in range(max(self._reached[track], first, oldest), min(end, self._count)):
            self._recent[track].append(now_ns - self._crossed[tick - oldest])
        self._reached[track] = max(self._reached[track], end)

    def wait_ns(self, packet_ns: int) -> int:
        """How long to wait where the slower track comes in packets of this duration."""
        usual_ns = (sorted(recent)[USUAL] for recent in self._recent.values() if len(recent) == RECENT)
        lag_ns = max(usual_ns, default=-MARGIN_NS) + MARGIN_NS
        return min(max(WAIT_MIN_NS, packet_ns * 3 // 2, lag_ns), WAIT_MAX_NS)
