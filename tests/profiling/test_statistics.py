from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.errors import StageError
from streamfuse.profiling.statistics import distribution, percentile, ratio_interval
from streamfuse.types import MS


@given(st.lists(st.integers(-(10**10), 10**12), min_size=1, max_size=300), st.floats(0.1, 100))
def test_percentile_is_numpys_inverted_cdf(values: list[int], q: float) -> None:
    ordered = np.sort(np.array(values, np.float64))
    assert percentile(ordered, q) == np.percentile(ordered, q, method="inverted_cdf")


def test_distribution_of_a_thousand_known_values() -> None:
    spread = distribution([i * MS for i in range(1000, 0, -1)])
    assert spread is not None
    assert (spread.n, spread.mean, spread.min, spread.max) == (1000, 500.5, 1, 1000)
    assert (spread.p50, spread.p90, spread.p95, spread.p99, spread.p99_9) == (500, 900, 950, 990, 999)
    assert (spread.tail, spread.flatness) == (50, 800)


@pytest.mark.parametrize(("n", "p99", "p99_9"), [(99, None, None), (100, 99, None), (999, 990, None)])
def test_percentile_that_says_no_more_than_the_maximum_is_not_told(
    n: int, p99: object, p99_9: object
) -> None:
    spread = distribution([(i + 1) * MS for i in range(n)])
    assert spread is not None
    assert (spread.p99, spread.p99_9) == (p99, p99_9)


def test_nothing_has_no_distribution() -> None:
    assert distribution([]) is None


def _noise(seed: int, n: int, scale: float = 1.0) -> np.ndarray:
    """Ages that follow one another are alike: an autoregression around 20 ms."""
    rng, made, at = np.random.default_rng(seed), np.empty(n), 0.0
    for i in range(n):
        at = 0.8 * at + rng.normal()
        made[i] = scale * (20 + at)
    return made


def mean(ordered: np.ndarray) -> np.ndarray:
    return np.array([ordered.mean()])


def test_interval_holds_one_as_often_as_it_says() -> None:
    """Of runs that do not differ, 95 % intervals miss the truth in about one of twenty."""
    missed = 0
    for seed in range(40):
        a, b = [_noise(2 * seed, 300)], [_noise(2 * seed + 1, 300)]
        _, low, high = ratio_interval(a, b, mean, resamples=80, seed=seed)
        missed += not low <= 1 <= high
    assert missed <= 6, "single values instead of blocks miss it in every third"


def test_interval_of_a_real_difference_leaves_one_out_and_holds_the_truth() -> None:
    ratio, low, high = ratio_interval([_noise(1, 600)], [_noise(2, 600, scale=1.3)], mean, resamples=400)
    assert 1 < low[0] < ratio[0] < high[0]
    assert low[0] < 1.3 < high[0]


def test_same_seed_gives_the_same_interval() -> None:
    sides = [_noise(1, 100)], [_noise(2, 100)]
    first = ratio_interval(*sides, mean, resamples=50)
    assert first == ratio_interval(*sides, mean, resamples=50)


@pytest.mark.parametrize(
    ("a", "b", "rule"),
    [([], [np.ones(3)], "values on both sides"), ([np.zeros(3)], [np.ones(3)], "a base above 0")],
)
def test_ratio_without_a_base_is_refused(a: list, b: list, rule: str) -> None:
    with pytest.raises(StageError, match=rule):
        ratio_interval(a, b, mean)
