"""A filter that is calm while its input stands still and quick while it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

CUTOFF_HZ = 0.4
"""At rest: the detector's jitter is mostly faster than this."""
QUICKNESS = 4.0
"""Hz more for each face width per second."""
SPEED_CUTOFF_HZ = 1.0


@dataclass(slots=True)
class Steady:
    """The One Euro filter's state (Casiez, Roussel and Vogel, CHI 2012): plain numbers."""

    value: float
    speed: float = 0.0

    def follow(self, raw: float, dt_s: float, unit: float) -> float:
        """Move towards `raw`, `dt_s` after the last time. `unit`: what counts as one, a face's width."""
        moved = (raw - self.value) / dt_s
        self.speed += _share(SPEED_CUTOFF_HZ, dt_s) * (moved - self.speed)
        cutoff = CUTOFF_HZ + QUICKNESS * abs(self.speed) / unit
        self.value += _share(cutoff, dt_s) * (raw - self.value)
        return self.value


def _share(cutoff_hz: float, dt_s: float) -> float:
    return 1.0 - math.exp(-2.0 * math.pi * cutoff_hz * dt_s)
