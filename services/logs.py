"""What a service logs, within bounds: a fault that repeats ten times a second must not fill a disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from streamfuse.clock import SYSTEM, Clock
from streamfuse.types import NS

AT_ONCE = 5
"""So many lines of one message are written as they come."""
EVERY_NS = 60 * NS
"""After those, one in so long, with the number of those that were left out."""
MESSAGES = 256
"""Of so many messages the count is kept; what is logged is a handful."""


@dataclass(slots=True)
class _Seen:
    count: int = 0
    left_out: int = 0
    next_ns: int = 0


class RateLimit(logging.Filter):
    """A filter that lets each message (its text before the values are put in) through at a bounded rate.

    An hour of one fault is 65 lines. A message that has been silent for EVERY_NS begins anew.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, str], _Seen] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now_ns = self._clock.monotonic_ns()
        key = (record.name, str(record.msg))
        seen = self._seen.pop(key, None)
        if seen is None or (now_ns >= seen.next_ns and not seen.left_out):
            seen = _Seen()
        self._seen[key] = seen
        if len(self._seen) > MESSAGES:
            del self._seen[next(iter(self._seen))]
        seen.count += 1
        if seen.count > AT_ONCE and now_ns < seen.next_ns:
            seen.left_out += 1
            return False
        if seen.left_out:
            record.msg = f"{record.msg} (and {seen.left_out} more like it)"
            seen.left_out = 0
        seen.next_ns = now_ns + EVERY_NS
        return True


def begin_logging() -> None:
    """Send what this process logs to stderr, in one line each, rate limited."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(RateLimit())
