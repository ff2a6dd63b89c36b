"""Time that passes only where a test moves it, and where somebody sleeps."""

from __future__ import annotations

from dataclasses import dataclass

from streamfuse.types import NS


@dataclass
class HandClock:
    now_ns: int = 1000 * NS

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns

    def sleep_ns(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
