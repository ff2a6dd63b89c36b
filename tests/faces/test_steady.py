from __future__ import annotations

import numpy as np

from streamfuse.faces.steady import Steady


def test_steady_jitter_at_rest_is_most_of_it_gone() -> None:
    raw = 100.0 + np.random.default_rng(0).normal(0.0, 1.0, 500)
    one = Steady(100.0)
    calm = [one.follow(float(value), 0.1, 60.0) for value in raw]
    assert np.abs(np.diff(calm[50:])).mean() < 0.35 * np.abs(np.diff(raw[50:])).mean()
    assert abs(np.mean(calm[50:]) - 100.0) < 0.3


def test_steady_movement_is_followed_within_a_tenth_of_a_face() -> None:
    one, speed = Steady(0.0), 60.0  # a face width a second
    behind = [tick * 0.1 * speed - one.follow(tick * 0.1 * speed, 0.1, 60.0) for tick in range(1, 40)]
    assert max(behind[20:]) < 6.0


def test_steady_two_short_times_are_like_a_long_one_of_a_constant() -> None:
    short, long = Steady(0.0), Steady(0.0)
    for _ in range(40):
        short.follow(10.0, 0.05, 60.0)
    for _ in range(20):
        long.follow(10.0, 0.1, 60.0)
    assert abs(short.value - long.value) < 0.5
