"""Percentiles as this program states them, and how sure they are."""

from __future__ import annotations

import math
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
Block = Callable[[int], int]
"""How many neighbours of n values are drawn together."""
LEAST_BLOCKS = 4
"""Fewer say next to nothing of how much their mean moves."""
_Z = 1.959964
"""The standard normal's 97.5 % point."""


def block_of_ages(n: int) -> int:
    """Ages that follow one another are alike: a busy moment makes a dozen of them late."""
    return min(n, max(10, round(math.sqrt(n))))


def block_of_seconds(n: int) -> int:
    """Totals of a second have little in common with those of the next."""
    return min(n, max(2, round(math.cbrt(n))))


def blocks(series: Series, block: Block = block_of_ages) -> float:
    """How many blocks the series hold."""
    return sum(len(values) / block(len(values)) for values in series if len(values))


def resampled(series: Series, rng: np.random.Generator, block: Block = block_of_ages) -> F64:
    """One draw of a circular block bootstrap over each stream: single values would make the interval too
    narrow where neighbours are alike."""
    drawn = []
    for values in series:
        n = len(values)
        if n == 0:
            continue
        length = block(n)
        starts = rng.integers(0, n, -(-n // length))
        places = (starts[:, None] + np.arange(length)).ravel()[:n] % n
        drawn.append(values[places])
    return np.concatenate(drawn)


def ratio_interval(
    a: Series,
    b: Series,
    statistic: Callable[[F64], F64],
    *,
    block: Block = block_of_ages,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[F64, F64, F64]:
    """statistic(b) / statistic(a), and the ends of their 95 % intervals; all (n,).

    statistic  of ordered values: one number or several, (n,)
    raises     StageError where either has fewer than LEAST_BLOCKS, or one of a's numbers is not above 0
    """
    few = min(blocks(a, block), blocks(b, block))
    if few < LEAST_BLOCKS:
        raise StageError(f"a ratio needs {LEAST_BLOCKS} blocks of values on both sides", got=round(few, 2))
    whole = [statistic(np.sort(np.concatenate(list(side)))) for side in (a, b)]
    if (whole[0] <= 0).any():
        raise StageError("a ratio needs a base above 0", got=whole[0].tolist())
    rng = np.random.default_rng(seed)
    ratios = np.empty((resamples, len(whole[0])))
    for turn in range(resamples):
        below = statistic(np.sort(resampled(a, rng, block)))
        above = statistic(np.sort(resampled(b, rng, block)))
        ratios[turn] = np.divide(above, below, out=np.full(len(below), np.inf), where=below > 0)
    outside = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(ratios, [outside, 100 - outside], axis=0)
    ratio = whole[1] / whole[0]
    return ratio, _widened(low, ratio, few), _widened(high, ratio, few)


def _widened(end: F64, ratio: F64, count: float) -> F64:
    """The end, as much further from the ratio as so few blocks ask for: a bootstrap takes their spread for
    the truth, where it is itself an estimate (Student's t), and one that is small by (n - 1) / n."""
    factor = _student(count - 1) / _Z * (count / (count - 1)) ** 0.5
    shift = np.divide(end, ratio, out=np.ones(len(end)), where=ratio > 0)
    return np.where(ratio > 0, ratio * shift**factor, end)


def _student(freedom: float) -> float:
    """The 97.5 % point of Student's t by its series in 1 / freedom; from 3 on right to 1 %."""
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
