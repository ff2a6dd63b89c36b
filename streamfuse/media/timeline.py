"""Media time of one track: wraps undone, jumps told from reordering. Integers and rules only, no PyAV."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any

from streamfuse.types import NS, Track

REORDER_NS = 1 * NS
"""A smaller backward step is reordering: the item is dropped. A larger one is a discontinuity."""
CONFIRM_JUMP = 2
"""So many items in a row must agree before a jump of time is believed: one may be a damaged stamp."""
CONFIRM_PARAMETERS = 5
"""As above for a new picture size or sample rate, which damaged data fakes more often: 0.5 % bad bytes gave
96x64 frames inside a 320x240 stream, none of them marked corrupt."""


def ticks_to_ns(ticks: int, base: Fraction) -> int:
    """A time stamp in nanoseconds, rounded down; exact integers throughout."""
    return ticks * base.numerator * NS // base.denominator


class Unwrapper:
    """Undoes the wrap of time stamps that run modulo 2**bits, for all tracks of one container together.

    Each stamp is taken to be the one nearest to the last, so neither the order in which frames come
    (B-frames, one track ahead of the other) nor the number of wraps matters.
    """

    def __init__(self, bits: int | None) -> None:
        self._span = 1 << bits if bits else 0
        self._last: int | None = None

    def __call__(self, ticks: int) -> int:
        if self._span and self._last is not None:
            half = self._span >> 1
            ticks = self._last + (ticks - self._last + half) % self._span - half
        self._last = ticks
        return ticks

    def again(self) -> Unwrapper:
        """Another one of the same kind, from its beginning."""
        return Unwrapper(self._span.bit_length() - 1 if self._span else None)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded frame on its way into a session.

    pts_ns      unwrapped, before the line's shift
    parameters  a change of these begins a new session
    """

    track: Track
    pts_ns: int
    dur_ns: int
    parameters: Hashable
    frame: Any
    arrival_ns: int = 0


class Verdict(Enum):
    ON = "where the track was going"
    LATE = "a small step back"
    JUMP = "somewhere else in time"
    CHANGE = "another size, rate or layout"


@dataclass
class Line:
    """Where one track is, and the items that may be the first of a new session.

    joined     it has arrived in the current session; not so after a break that the other track found first
    shift_ns   added to its time where its clock has nothing to do with the other track's
    """

    track: Track
    last_ns: int | None = None
    end_ns: int = 0
    shift_ns: int = 0
    joined: bool = False
    trailing_since_ns: int | None = None
    parameters: Hashable = None
    suspects: list[Decoded] = field(default_factory=list)

    def judge(self, item: Decoded, reached_ns: int, max_gap_ns: int) -> Verdict:
        """Say whether `item` belongs where the track was going. Changes nothing.

        reached_ns  end of the newest item of either track: a step past it is a jump of the source, while a
                    hole in one track alone is only a hole
        """
        if self.parameters is not None and item.parameters != self.parameters:
            return Verdict.CHANGE
        if self.last_ns is None:
            return Verdict.ON
        pts_ns = item.pts_ns + self.shift_ns
        if pts_ns <= self.last_ns:
            if self.last_ns - pts_ns >= REORDER_NS:
                return Verdict.JUMP if self.joined else Verdict.ON
            # Sound that was sent twice is trimmed to the sample by the resampler.
            return Verdict.LATE if self.track == "video" else Verdict.ON
        ahead = pts_ns > max(self.end_ns, reached_ns) + max_gap_ns
        return Verdict.JUMP if ahead and self.joined else Verdict.ON

    def continues(self, pts_ns: int, max_gap_ns: int) -> bool:
        """Whether pts_ns follows on what this track last had."""
        return self.last_ns is not None and self.last_ns - REORDER_NS < pts_ns <= self.end_ns + max_gap_ns

    def suspect(self, item: Decoded, verdict: Verdict, max_gap_ns: int) -> tuple[int, bool]:
        """Put `item` aside; return (how many earlier suspects it disproved, whether a break is confirmed)."""
        disproved = 0
        if self.suspects and not _follows(self.suspects[-1], item, max_gap_ns):
            disproved = len(self.suspects)
            self.suspects.clear()
        self.suspects.append(item)
        need = CONFIRM_PARAMETERS if verdict is Verdict.CHANGE else CONFIRM_JUMP
        return disproved, len(self.suspects) >= need

    def advance(self, pts_ns: int, dur_ns: int) -> None:
        fresh = self.last_ns is None
        self.last_ns = pts_ns if self.last_ns is None else max(self.last_ns, pts_ns)
        self.end_ns = pts_ns + dur_ns if fresh else max(self.end_ns, pts_ns + dur_ns)

    def leave(self) -> None:
        """A session ended; what the track has is still the old line until it arrives in the new one."""
        self.joined = False
        self.trailing_since_ns = None

    def arrive(self) -> None:
        """The track is in the new session; its line begins anew."""
        self.joined = True
        self.last_ns = None
        self.trailing_since_ns = None


def _follows(earlier: Decoded, later: Decoded, max_gap_ns: int) -> bool:
    if earlier.parameters != later.parameters:
        return False
    ahead = later.pts_ns - earlier.pts_ns
    return 0 < ahead <= earlier.dur_ns + max_gap_ns
