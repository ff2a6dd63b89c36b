"""The last seconds of every source's pictures: what the page shows and the snapshots of events are of."""

from __future__ import annotations

import threading
from collections import deque

from streamfuse.types import Still

KEPT = 20
"""Pictures of one source: 10 s at the usual two a second, so that an event is announced (smoothing, dwell)
before the picture of its beginning is gone. 4.8 MB a source at the very most, usually 1."""


class Pictures:
    """Every source's pictures, newest last. Safe to call from several threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._rings: dict[str, deque[Still]] = {}
        self._lock = threading.Lock()

    def push(self, still: Still) -> None:
        with self._lock:
            self._rings.setdefault(still.source, deque(maxlen=self._kept)).append(still)

    def latest(self, source: str) -> Still | None:
        with self._lock:
            ring = self._rings.get(source)
            return ring[-1] if ring else None

    def nearest(self, source: str, session: int, pts_ns: int, within_ns: int) -> Still | None:
        """The picture of that session nearest in time; None where there is none so near."""
        with self._lock:
            ring = [still for still in self._rings.get(source, ()) if still.session == session]
        found = min(ring, key=lambda still: abs(still.pts_ns - pts_ns), default=None)
        return None if found is None or abs(found.pts_ns - pts_ns) > within_ns else found

    def forget(self, source: str) -> None:
        """The source is gone for good."""
        with self._lock:
            self._rings.pop(source, None)
