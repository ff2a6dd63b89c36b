"""Make a trained network's scores mean something: temperatures, and where an answer is `unknown`.

Fitted on the `tune` part, which is neither learned from nor reported.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from streamfuse.model.spec import HeadSpec

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]
COLDEST, HOTTEST = 1e-3, 1e2
"""A network that learned for a moment says what is right with logits of a hundredth."""
WANTED_RIGHT = 0.8
"""Answers that are given should be right this often ..."""
LEAST_GIVEN = 0.75
"""... but no more than the rest may be withheld for it."""


def softmax(logits: npt.NDArray[np.floating]) -> F64:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(odds / odds.sum(-1, keepdims=True), np.float64)


def softmax_loss(logits: F64, truth: Ints, weight: F64) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    normal = np.log(np.exp(shifted).sum(1))
    return float(((normal - shifted[np.arange(len(truth)), truth]) * weight).sum() / weight.sum())


def sigmoid_loss(logits: F64, truth: F64, weight: F64) -> float:
    loss = np.logaddexp(0.0, logits) - truth * logits
    return float((loss.mean(1) * weight).sum() / weight.sum())


def doubt_of(answers: float) -> float:
    """How unlike its label the next answer may be, after so many: what was right each time is no proof,
    and without doubt the best temperature of a network that is always right would be 0 (Platt, 1999)."""
    return 1.0 / (answers + 2.0)


def _loss_of_any(logits: F64, weight: F64) -> float:
    """The mean log loss were each class as likely to be the right one."""
    shifted = logits - logits.max(1, keepdims=True)
    normal = np.log(np.exp(shifted).sum(1))
    return float(((normal - shifted.mean(1)) * weight).sum() / weight.sum())


def fit_temperature(
    logits: npt.NDArray[np.floating], truth: npt.NDArray[np.generic], weight: F64 | None = None
) -> float:
    """The T > 0 at which logits / T has the least log loss, found by golden section over log T.

    logits  (N, classes); truth (N,) of classes, or (N, classes) of 0 and 1 for several at once
    weight  (N,) of each answer, adding up to the number of those that are independent; the loss has one
            minimum in T, so nothing can be missed

    """
    logits64 = np.asarray(logits, np.float64)
    weights = np.ones(len(logits64)) if weight is None else weight

    doubt = doubt_of(float(weights.sum()))

    def loss(log_t: float) -> float:
        cooled = logits64 / np.exp(log_t)
        if truth.ndim == 1:
            right = softmax_loss(cooled, truth.astype(np.int64), weights)
            return (1.0 - doubt) * right + doubt * _loss_of_any(cooled, weights)
        return sigmoid_loss(cooled, truth.astype(np.float64) * (1.0 - 2.0 * doubt) + doubt, weights)

    return best_temperature(loss)


def best_temperature(loss: Callable[[float], float]) -> float:
    """The T > 0 at which `loss` of log T is least, by golden section."""
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    low, high = np.log(COLDEST), np.log(HOTTEST)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-4:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2.0))


def unknown_threshold(
    probabilities: npt.NDArray[np.floating], truth: Ints, weight: F64 | None = None
) -> float:
    """The least score at which the answers above it are right often enough, of those that may be withheld.

    weight  (N,) of each answer, as for fit_temperature()
    """
    weights = np.ones(len(truth)) if weight is None else weight
    sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    order = np.argsort(-sure)
    given = np.cumsum(weights[order])
    good = np.cumsum((right * weights)[order]) / given
    least = 1.0 / probabilities.shape[1]
    allowed = given >= LEAST_GIVEN * given[-1]
    enough = np.flatnonzero(allowed & (good >= WANTED_RIGHT))
    # As many answers as can be right often enough; where none can, as few as may be.
    last = int(enough[-1]) if len(enough) else int(np.argmax(allowed))
    return float(np.clip(sure[order[last]] if last + 1 < len(order) else least, least, 0.9))


def fitted_head(
    head: HeadSpec, logits: npt.NDArray[np.floating], truth: npt.NDArray[np.generic], weight: F64
) -> HeadSpec:
    """The head with the temperature and threshold that suit these answers; see fit_temperature()."""
    temperature = fit_temperature(logits, truth, weight)
    cooled = logits / temperature
    if head.kind == "softmax":
        threshold = unknown_threshold(softmax(cooled), truth.astype(np.int64), weight)
    else:
        threshold = said_threshold(1.0 / (1.0 + np.exp(-cooled)), truth.astype(np.int64))
    return msgspec.structs.replace(head, temperature=round(temperature, 6), threshold=round(threshold, 3))


def said_threshold(probabilities: npt.NDArray[np.floating], truth: Ints) -> float:
    """For several labels at once: the one threshold with the best F1 over all of them."""
    scores, there = probabilities.ravel(), truth.ravel() > 0
    order = np.argsort(-scores)
    hits = np.cumsum(there[order])
    f1 = 2.0 * hits / (np.arange(1, len(order) + 1) + max(int(there.sum()), 1))
    best = int(np.argmax(f1))
    below = scores[order[best + 1]] if best + 1 < len(order) else 0.0
    return float(np.clip((scores[order[best]] + below) / 2.0, 0.05, 0.95))
