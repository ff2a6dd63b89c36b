"""How soon a label is right after a true change, and how steady it is: two measures that pay for each other.

A stream of answers is judged against the stretches in which one label is true. All in ticks or seconds of
the stream; nothing looks ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
HOLD_TICKS = 3
"""A label counts as found when it has been right for this many ticks in a row; the first of them is told."""
FLICKER_S = 0.5
"""A run of answers that is shorter is a flicker."""
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How soon and how steady.

    median_s, p90_s: to the right answer, where it was found; missed: the share of stretches where not.

    flips_a_minute counts every change of the answer; false_switches are those beyond the true ones, for each
    true one (NaN where nothing changes); flicker is the share of runs shorter than FLICKER_S.
    by_decile  share of right answers in each tenth of a stretch
    """

    stretches: int
    median_s: float
    p90_s: float
    missed: float
    flips_a_minute: float
    dwell_s: float
    flicker: float
    false_switches: float
    by_decile: tuple[float, ...]


def stretches(truth: Ints) -> list[tuple[int, int]]:
    """[start, end) of each run of one true label; where nothing is known (-1) there is none."""
    edges = [0, *(np.flatnonzero(np.diff(truth)) + 1).tolist(), len(truth)]
    return [(a, b) for a, b in pairwise(edges) if b > a and truth[a] != UNKNOWN]


def found_after(right: npt.NDArray[np.bool_], hold: int = HOLD_TICKS) -> int | None:
    """The first tick from which `hold` in a row are right, or all that are left; None where there is none."""
    length = len(right)
    for at in np.flatnonzero(right):
        if right[at : at + min(hold, length)].all() and at + min(hold, length) <= length:
            return int(at)
    return None


def steadiness(answers: Sequence[Ints], truths: Sequence[Ints], tick_s: float) -> Steadiness:
    """answers and truths (T,) of each stream: class, -1 for `unknown` and for not known."""
    delays: list[float] = []
    missed = total = flips = switches = flickers = runs = ticks = 0
    deciles: list[list[float]] = [[] for _ in range(10)]
    for said, true in zip(answers, truths, strict=True):
        changes = np.flatnonzero(np.diff(said)) + 1
        lengths = np.diff([0, *changes.tolist(), len(said)])
        flips += len(changes)
        runs += len(lengths)
        flickers += int((lengths * tick_s < FLICKER_S).sum())
        ticks += len(said)
        here = stretches(true)
        switches += sum(1 for (_, end), (start, _) in pairwise(here) if end == start)
        for start, end in here:
            right = said[start:end] == true[start]
            after = found_after(right)
            total += 1
            missed += after is None
            delays += [] if after is None else [(after + 1) * tick_s]
            for n, hit in enumerate(right):
                deciles[min(9, n * 10 // (end - start))].append(float(hit))
    minutes = ticks * tick_s / 60.0
    nan = float("nan")
    return Steadiness(
        total,
        float(np.median(delays)) if delays else nan,
        float(np.quantile(delays, 0.9)) if delays else nan,
        missed / total if total else nan,
        flips / minutes if minutes else nan,
        ticks * tick_s / runs if runs else nan,
        flickers / runs if runs else nan,
        max(0.0, flips - switches) / switches if switches else nan,
        tuple(float(np.mean(one)) if one else nan for one in deciles),
    )
