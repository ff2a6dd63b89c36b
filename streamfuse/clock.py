"""The one module that reads clocks. Intervals are monotonic; wall time is only ever a field."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

from streamfuse.types import NS


class Clock(Protocol):
    """What the program may ask of time; tests pass their own."""

    def monotonic_ns(self) -> int: ...
    def wall_ns(self) -> int: ...
    def sleep_ns(self, duration_ns: int) -> None: ...


class SystemClock:
    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def sleep_ns(self, duration_ns: int) -> None:
        time.sleep(max(0, duration_ns) / NS)


SYSTEM = SystemClock()


def utc_iso(wall_ns: int) -> str:
    """Wall time as ISO 8601 in UTC to the millisecond (truncated): 2026-01-02T03:04:05.678Z."""
    seconds, rest = divmod(wall_ns, NS)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{rest // 1_000_000:03d}Z"


def shift_iso(stamp: str, by_ns: int) -> str:
    """A time as utc_iso() writes it, moved by so much, to the millisecond."""
    moved = datetime.fromisoformat(stamp) + timedelta(milliseconds=by_ns // 1_000_000)
    return f"{moved:%Y-%m-%dT%H:%M:%S}.{moved.microsecond // 1000:03d}Z"
