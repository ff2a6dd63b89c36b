from __future__ import annotations

import numpy as np
import pytest

from streamfuse.model.network import build_network
from streamfuse.model.spec import HeadSpec
from streamfuse.training.certainty import (
    LEAST_CLIPS,
    Heard,
    clip_means,
    fit_certainty,
    set_certainty,
    situation_of,
)
from streamfuse.training.metrics import calibration_error
from streamfuse.training.trials import Trial
from tests.model.networks import small_spec

HEAD = HeadSpec("emotion", ("a", "b", "c"))
FOUND = np.zeros((1, 2, 2), np.float32)


def clips(count: int, boast: dict[int, float], seed: int = 0) -> Heard:
    """Truth drawn from softmax(logits); what is told is the logits times how much each situation boasts."""
    rng = np.random.default_rng(seed)
    situation = np.repeat(list(boast), count)
    honest = rng.normal(0.0, 1.5, (len(situation), 3))
    odds = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in odds])
    told = [
        np.repeat((row * boast[int(s)])[None], 8, 0).astype(np.float32)
        for row, s in zip(honest, situation, strict=True)
    ]
    return Heard(told, truth, np.ones(len(truth)), situation)


def test_certainty_of_each_situation_undoes_its_boast() -> None:
    heard = clips(3000, {1: 4.0, 2: 0.5})
    certainty = fit_certainty(heard, HEAD, 4)
    assert certainty[1] == pytest.approx(1 / 4.0, rel=0.1)
    assert certainty[2] == pytest.approx(1 / 0.5, rel=0.1)
    assert certainty[[0, 3]].tolist() == [1.0, 1.0]


def test_certainty_makes_scores_mean_what_they_say() -> None:
    fitted = fit_certainty(clips(3000, {1: 4.0, 2: 0.5}), HEAD, 4)
    fresh = clips(3000, {1: 4.0, 2: 0.5}, seed=1)
    before = clip_means(fresh, HEAD, np.ones(len(fresh.truth)))
    after = clip_means(fresh, HEAD, fitted[fresh.situation])
    assert calibration_error(before, fresh.truth) > 0.1
    assert calibration_error(after, fresh.truth) < 0.03


def test_certainty_of_few_clips_is_left_alone() -> None:
    assert fit_certainty(clips(LEAST_CLIPS - 1, {1: 4.0}), HEAD, 4).tolist() == [1.0] * 4


def test_certainty_of_several_labels_at_once() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0.0, 1.5, (3000, 2))
    truth = (rng.random((3000, 2)) < 1.0 / (1.0 + np.exp(-honest))).astype(np.int64)
    told = [np.repeat(3.0 * row[None], 4, 0).astype(np.float32) for row in honest]
    head = HeadSpec("sound", ("rain", "wind"), "sigmoid")
    certainty = fit_certainty(Heard(told, truth, np.ones(3000), np.ones(3000, np.int64)), head, 4)
    assert certainty[1] == pytest.approx(1 / 3.0, rel=0.1)


def test_situation_bits_are_those_of_the_network() -> None:
    spec = small_spec(views=("frame", "face"))
    sound = np.zeros((10, 40), np.float32)
    shown = [
        Trial(1, picture=FOUND),
        Trial(1, sound=sound),
        Trial(1, picture=FOUND, face=FOUND),
        Trial(1, picture=FOUND, face=FOUND, sound=sound),
    ]
    assert [situation_of(one, spec) for one in shown] == [1, 4, 3, 7]
    network = build_network(spec)
    set_certainty(network, 1, np.arange(8.0))
    assert network.certainty[1].tolist() == list(range(8))
    assert network.certainty[0].tolist() == [1.0] * 8
