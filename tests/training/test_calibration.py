"""Measures against hand-made cases, and calibration against a known temperature."""

from __future__ import annotations

import numpy as np
import pytest

from streamfuse.training.calibrate import fit_temperature, said_threshold, softmax, unknown_threshold
from streamfuse.training.metrics import (
    calibration_error,
    confusion,
    log_loss,
    macro_f1,
    recalls,
    unweighted_recall,
)


def drawn(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too sure of labels drawn from their softmax."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0.0, 1.5, (count, 4))
    odds = softmax(logits)
    truth = (odds.cumsum(1) > rng.random((count, 1))).argmax(1)
    return logits * temperature, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_fit_temperature_finds_the_known_one_and_calibrates(temperature: float) -> None:
    logits, truth = drawn(temperature)
    found = fit_temperature(logits, truth)
    # 20,000 draws: the estimate's own spread is about 1 %.
    assert found == pytest.approx(temperature, rel=0.05)
    assert calibration_error(softmax(logits / found), truth) < 0.02


def test_fit_temperature_for_several_labels_at_once() -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(0.0, 2.0, (5000, 6))
    truth = (rng.random((5000, 6)) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    assert fit_temperature(2.5 * logits, truth) == pytest.approx(2.5, rel=0.06)


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("count", [10, 200])
def test_a_network_that_is_always_right_becomes_as_sure_as_so_many_answers_allow(
    size: float, count: int
) -> None:
    """After a few steps of learning the logits are hundredths, and may still be right every time."""
    truth = np.arange(count) % 4
    logits = size * np.eye(4)[truth]
    sure = softmax(logits / fit_temperature(logits, truth)).max(1)
    # Of N + 2 answers one is not its label, and three quarters of that are other classes.
    assert sure == pytest.approx(1.0 - 0.75 / (count + 2), abs=2e-3)
    assert calibration_error(softmax(logits / fit_temperature(logits, truth)), truth) < 0.07
    several = np.eye(4)[truth].astype(np.int64)
    found = fit_temperature(size * (2 * several - 1), several)
    told = 1 / (1 + np.exp(-size * (2 * several - 1) / found))
    assert told[several > 0] == pytest.approx(1.0 - 1.0 / (count + 2), abs=2e-3)


def test_fit_temperature_weights_count() -> None:
    logits, truth = drawn(2.0)
    both = np.concatenate([logits, 7.0 * logits]), np.concatenate([truth, truth])
    weight = np.concatenate([np.ones(len(truth)), np.zeros(len(truth))])
    assert fit_temperature(*both, weight) == pytest.approx(fit_temperature(logits, truth), rel=1e-3)


def test_unknown_threshold_gives_all_when_all_are_right_and_withholds_the_unsure() -> None:
    right = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    assert unknown_threshold(right, np.array([0, 1, 0])) == 0.5
    sure = np.linspace(0.99, 0.5, 100)
    scores = np.stack([sure, 1 - sure], 1)
    truth = (np.arange(100) >= 75).astype(int)  # right for the first 75, wrong after
    found = unknown_threshold(scores, truth)
    kept = sure >= found
    assert 0.8 <= (truth[kept] == 0).mean() <= 0.82
    assert kept.sum() >= 75
    # With all weight on the right ones nothing has to be withheld.
    assert unknown_threshold(scores, truth, (truth == 0) + 1e-9) == 0.5


def test_said_threshold_separates() -> None:
    scores = np.array([[0.9, 0.2], [0.1, 0.8], [0.3, 0.25]])
    found = said_threshold(scores, np.array([[1, 0], [0, 1], [0, 0]]))
    assert 0.3 < found < 0.8


def test_measures_of_a_hand_made_table() -> None:
    table = confusion(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), 3)
    assert table.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(recalls(table), [2 / 3, 1 / 2, np.nan])
    assert unweighted_recall(table) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert macro_f1(table) == pytest.approx((4 / 6 + 2 / 4) / 2)


def test_calibration_error_and_log_loss_by_hand() -> None:
    odds = np.array([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [1.0, 0.0]])
    truth = np.array([0, 1, 1, 0])
    # bins: two at 0.8 of which half are right, one at 0.6 right, one at 1 right
    assert calibration_error(odds, truth) == pytest.approx(0.5 * 0.3 + 0.25 * 0.4)
    assert log_loss(odds, truth) == pytest.approx(-np.log([0.8, 0.2, 0.6, 1.0]).mean())
