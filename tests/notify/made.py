"""Events and labels for the notify room's tests, and a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from streamfuse.notify.rules import Notice
from streamfuse.types import MS, NS, Event, HeadLabel, Label, TickHead

HOP_NS = 100 * MS
BERLIN_23H = 1_767_304_800 * NS
"""2026-01-01 22:00 UTC, a Thursday: 23:00 in Berlin."""

EVENT = Event("new", "door", 3, "scene", "street", 4 * NS, None, 0.8123, 0.75, "2026-01-02T03:04:05.678Z")


def event(kind: Any = "new", **fields: Any) -> Event:
    if kind == "end":
        fields.setdefault("end_ns", 9 * NS)
    return replace(EVENT, kind=kind, **fields)


def notice(number: int = 0, target: str = "phone", kind: Any = "new") -> Notice:
    """Notices of different numbers are of different events."""
    return Notice(event(kind, start_ns=(4 + number) * NS), "", (target,))


def label(index: int, score: float = 0.7, source: str = "door", word: str = "street") -> Label:
    head = TickHead(source, 3, index, 0, HOP_NS, "ok", "ok")
    top = ((word, score), ("indoor", round(1 - score, 4)))
    part = HeadLabel(word, score, None, top, scores=dict(top))
    return Label(head, {"scene": part}, {"video": "ok", "audio": "ok"}, True, "2026-01-02T03:04:05.678Z")


@dataclass
class FakeClock:
    now_ns: int = 0
    wall: int = BERLIN_23H

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.wall + self.now_ns

    def sleep_ns(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
