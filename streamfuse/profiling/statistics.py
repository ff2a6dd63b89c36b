"""Percentiles as this program states them, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from streamfuse.errors import StageError
from streamfuse.types import MS

F64 = npt.NDArray[np.float64]

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
LEAST = {"p99": 100, "p99_9": 1000}
"""So many values before the percentile says anything that the maximum does not."""
RESAMPLES = 2000
"""Of a bootstrap: the ends of a 95 % interval then stand to about 2 % of its width."""
CONFIDENCE = 0.95


class Distribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a time was spread, in milliseconds. A percentile is a value that occurred (nearest rank).

    p99, p99_9  null where there are fewer than 100 or 1000 values
    tail        max - p95
    flatness    p90 - p10
    """

    n: int
    mean: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float | None
    p99_9: float | None
    max: float
    tail: float
    flatness: float


def distribution(values_ns: Sequence[int] | F64) -> Distribution | None:
    """The distribution of times in nanoseconds; None where there are none."""
    values = np.sort(np.asarray(values_ns, np.float64)) / MS
    if len(values) == 0:
        return None
    told = {name: percentile(values, q) for name, q in PERCENTILES.items()}
    return Distribution(
        n=len(values),
        mean=_ms(float(values.mean())),
        min=_ms(float(values[0])),
        max=_ms(float(values[-1])),
        tail=_ms(float(values[-1]) - told["p95"]),
        flatness=_ms(told["p90"] - percentile(values, 10)),
        p50=_ms(told["p50"]),
        p90=_ms(told["p90"]),
        p95=_ms(told["p95"]),
        p99=_ms(told["p99"]) if len(values) >= LEAST["p99"] else None,
        p99_9=_ms(told["p99_9"]) if len(values) >= LEAST["p99_9"] else None,
    )


def percentile(ordered: F64, q: float) -> float:
    """The smallest of the ordered values that q per cent of them do not exceed."""
    rank = int(np.ceil(round(len(ordered) * q / 100, 9)))
    return float(ordered[max(0, rank - 1)])


def _ms(value: float) -> float:
    return round(value, 6)


Series = Sequence[F64]
"""Values in the order in which they came, one array for each stream."""


def resampled(series: Series, rng: np.random.Generator) -> F64:
    """One draw of a circular block bootstrap over each stream.

    Ages that follow one another are alike (a busy moment makes a dozen of them late), so single values
    would make the interval too narrow: blocks of sqrt(n), at least 10, are drawn instead.
    """
    drawn = []
    for values in series:
        n = len(values)
        if n == 0:
            continue
        length = min(n, max(10, round(n**0.5)))
        starts = rng.integers(0, n, -(-n // length))
        places = (starts[:, None] + np.arange(length)).ravel()[:n] % n
        drawn.append(values[places])
    return np.concatenate(drawn)


def ratio_interval(
    a: Series, b: Series, statistic: Callable[[F64], F64], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[F64, F64, F64]:
    """statistic(b) / statistic(a), and the ends of their 95 % intervals; all (n,).

    statistic  of ordered values: one number or several, (n,)
    raises     StageError where either has no values, or one of a's numbers is not above 0
    """
    whole = [np.sort(np.concatenate(list(side))) if side else np.empty(0) for side in (a, b)]
    if not all(len(values) for values in whole):
        raise StageError("a ratio needs values on both sides", got=[len(values) for values in whole])
    base = statistic(whole[0])
    if (base <= 0).any():
        raise StageError("a ratio needs a base above 0", got=base.tolist())
    rng = np.random.default_rng(seed)
    ratios = np.empty((resamples, len(base)))
    for turn in range(resamples):
        below = statistic(np.sort(resampled(a, rng)))
        above = statistic(np.sort(resampled(b, rng)))
        ratios[turn] = np.divide(above, below, out=np.full(len(base), np.inf), where=below > 0)
    outside = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(ratios, [outside, 100 - outside], axis=0)
    return statistic(whole[1]) / base, low, high
