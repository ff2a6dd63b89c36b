"""The rate of log lines, on a clock of the test's own."""

from __future__ import annotations

import logging

from streamfuse.services.logs import AT_ONCE, EVERY_NS, MESSAGES, RateLimit
from streamfuse.types import MS, NS


class HandClock:
    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        raise AssertionError("a rate has nothing to do with the time of day")

    def sleep_ns(self, duration_ns: int) -> None:
        self.now_ns += duration_ns


def record(message: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.WARNING, "x.py", 1, message, values, None)


def passed(limit: RateLimit, message: str, *values: object) -> str | None:
    one = record(message, *values)
    return one.getMessage() if limit.filter(one) else None


def test_first_lines_of_a_message_come_at_once() -> None:
    limit = RateLimit(HandClock())
    said = [passed(limit, "tick refused (%d so far)", n) for n in range(20)]
    assert [one for one in said if one] == [f"tick refused ({n} so far)" for n in range(AT_ONCE)]


def test_then_one_a_minute_tells_how_many_were_left_out() -> None:
    clock = HandClock()
    limit = RateLimit(clock)
    for _ in range(AT_ONCE + 7):
        passed(limit, "lost %s", "a")
    clock.now_ns = EVERY_NS
    assert passed(limit, "lost %s", "b") == "lost b (and 7 more like it)"
    assert passed(limit, "lost %s", "c") is None


def test_f41_an_hour_of_a_fault_at_ten_a_second_is_a_few_lines() -> None:
    clock = HandClock()
    limit = RateLimit(clock)
    written = 0
    for step in range(36_000):
        clock.now_ns = step * 100 * MS
        line = passed(limit, "tick refused (%d so far): %s", step, "tick index must rise")
        written += len(line or "")
    assert 0 < written < 10_000


def test_messages_do_not_silence_each_other() -> None:
    limit = RateLimit(HandClock())
    for _ in range(100):
        passed(limit, "one")
    assert passed(limit, "two") == "two"


def test_message_that_was_silent_begins_anew() -> None:
    clock = HandClock()
    limit = RateLimit(clock)
    for hour in range(3):
        clock.now_ns = hour * 3600 * NS
        assert [passed(limit, "one") for _ in range(AT_ONCE)] == ["one"] * AT_ONCE


def test_what_is_remembered_is_bounded() -> None:
    limit = RateLimit(HandClock())
    for number in range(10 * MESSAGES):
        limit.filter(record(f"message {number}"))
    assert len(limit._seen) == MESSAGES
