"""How long a lost source is left alone before it is tried again."""

from __future__ import annotations

import random

from streamfuse.types import MS, NS

FIRST_NS = 500 * MS
CAP_KNOWN_NS = 3 * NS
"""A source that has worked comes back within seconds, or people miss what it sees."""
CAP_UNKNOWN_NS = 30 * NS
GOOD_NS = 60 * NS
"""A source that has worked for so long has its failures forgotten."""


class Backoff:
    """Doubling pauses with jitter, so that a hundred cameras do not come back in step."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0
        self.has_worked = False

    def next_ns(self, worked_ns: int) -> int:
        """The pause after a failure; `worked_ns` is how long the source delivered before it."""
        self.has_worked |= worked_ns > 0
        if worked_ns >= GOOD_NS:
            self._failures = 0
        cap_ns = CAP_KNOWN_NS if self.has_worked else CAP_UNKNOWN_NS
        pause_ns = min(FIRST_NS << min(self._failures, 16), cap_ns)
        self._failures += 1
        return self._rng.randint(pause_ns // 2, pause_ns)
