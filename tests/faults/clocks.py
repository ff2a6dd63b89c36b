"""A wall clock that steps, for children: what NTP, a person or a flat battery does to a machine.

    clock = WallClock(folder)
    ... run a child with clock.environment ...
    clock.step(3600)    from here on its time of day is an hour later

Only the time of day is touched, as `date -s` would; intervals go on as they are, and the machine's own clock
stays. A child reads it by its sitecustomize.py (tests/faults/inject).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

INJECT = Path(__file__).with_name("inject")
OFFSET_FILE = "WALL_CLOCK_OFFSET"
NS = 1_000_000_000


class WallClock:
    """The time of day of children: the true one, and an offset that the test may change while they run."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.step(0)

    @property
    def environment(self) -> dict[str, str]:
        """What to add to a child's environment."""
        places = filter(None, (str(INJECT), os.environ.get("PYTHONPATH", "")))
        return {OFFSET_FILE: str(self._file), "PYTHONPATH": os.pathsep.join(places)}

    def step(self, offset_s: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(round(offset_s * NS)))
        new.replace(self._file)


def install_from_environment() -> None:
    """For a child's sitecustomize.py."""
    file = os.environ.get(OFFSET_FILE)
    if file is None:
        return
    path, real_ns = Path(file), time.time_ns

    def stepped_ns() -> int:
        return real_ns() + int(path.read_text())

    time.time_ns = stepped_ns
    time.time = lambda: stepped_ns() / NS


if __name__ == "clock_faults":  # loaded by sitecustomize.py
    install_from_environment()
    sys.modules.pop("clock_faults", None)
