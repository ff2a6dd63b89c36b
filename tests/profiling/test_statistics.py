from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from streamfuse.errors import StageError
from streamfuse.profiling.statistics import (
    LEAST_BLOCKS,
    _student,
    block_of_seconds,
    blocks,
    distribution,
    percentile,
    ratio_interval,
)
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


def _seconds(seed: int, n: int, scale: float = 1.0) -> list[np.ndarray]:
    """Processor shares of single seconds: a tenth around their mean, each on its own."""
    return [scale * np.random.default_rng(seed).normal(0.5, 0.05, n)]


@pytest.mark.parametrize("n", [8, 10, 30, 300])
def test_seconds_that_do_not_differ_seldom_seem_to(n: int) -> None:
    """Of 100 pairs, 95 % intervals may leave one out in about five."""
    seen = 0
    for seed in range(100):
        a, b = _seconds(2 * seed, n), _seconds(2 * seed + 1, n)
        _, low, high = ratio_interval(a, b, mean, block=block_of_seconds, resamples=200, seed=seed)
        seen += not low <= 1 <= high
    assert seen <= 9


def test_fifth_more_is_seen_in_half_a_minute() -> None:
    for seed in range(20):
        a, b = _seconds(2 * seed, 30), _seconds(2 * seed + 1, 30, scale=1.2)
        _, low, high = ratio_interval(a, b, mean, block=block_of_seconds, resamples=200, seed=seed)
        assert 1 < low[0] < 1.2 * 1.06 and high[0] > 1.2 * 0.94


def test_five_seconds_have_no_interval() -> None:
    assert blocks(_seconds(1, 8), block_of_seconds) == LEAST_BLOCKS
    with pytest.raises(StageError, match=r"a ratio needs 4 blocks of values on both sides, got 2\.5"):
        ratio_interval(_seconds(1, 5), _seconds(2, 300), mean, block=block_of_seconds)


@pytest.mark.parametrize("freedom", [3, 4.5, 9, 30, 1000])
def test_students_t_is_scipys(freedom: float) -> None:
    assert _student(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=0.01)


def test_same_seed_gives_the_same_interval() -> None:
    sides = [_noise(1, 100)], [_noise(2, 100)]
    first = ratio_interval(*sides, mean, resamples=50)
    assert first == ratio_interval(*sides, mean, resamples=50)


@pytest.mark.parametrize(
    ("a", "b", "rule"),
    [([], [np.ones(50)], "values on both sides"), ([np.zeros(50)], [np.ones(50)], "a base above 0")],
)
def test_ratio_without_a_base_is_refused(a: list, b: list, rule: str) -> None:
    with pytest.raises(StageError, match=rule):
        ratio_interval(a, b, mean)
