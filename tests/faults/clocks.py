"""A wall clock that steps, for children: what NTP, a person or a flat battery does to a machine.

    env = stepping_wall_clock("3:+3600 6:-7200")   # 3 s after the start an hour forward, then two back

Only the time of day is touched, as `date -s` would; intervals go on as they are. The machine's own clock
stays. A child reads it by its sitecustomize.py (tests/faults/inject).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

INJECT = Path(__file__).with_name("inject")
STEPS = "WALL_CLOCK_STEPS"
NS = 1_000_000_000


def stepping_wall_clock(steps: str) -> dict[str, str]:
    """What to add to a child's environment."""
    _parse(steps)
    places = filter(None, (str(INJECT), os.environ.get("PYTHONPATH", "")))
    return {STEPS: steps, "PYTHONPATH": os.pathsep.join(places)}


def _parse(steps: str) -> list[tuple[int, int]]:
    """(after, by) in nanoseconds."""
    found = []
    for step in steps.split():
        after, _, by = step.partition(":")
        found.append((round(float(after) * NS), round(float(by) * NS)))
    return found


def install_from_environment() -> None:
    """For a child's sitecustomize.py."""
    steps = _parse(os.environ.get(STEPS, ""))
    if not steps:
        return
    began_ns, real_ns = time.monotonic_ns(), time.time_ns

    def stepped_ns() -> int:
        gone_ns = time.monotonic_ns() - began_ns
        return real_ns() + sum(by for after, by in steps if gone_ns >= after)

    time.time_ns = stepped_ns
    time.time = lambda: stepped_ns() / NS


if __name__ == "clock_faults":  # loaded by sitecustomize.py
    install_from_environment()
    sys.modules.pop("clock_faults", None)
