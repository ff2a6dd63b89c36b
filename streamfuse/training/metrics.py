"""Measures of answers against the truth. All take plain arrays, so that an outside judge can check them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
ECE_BINS = 15


def confusion(truth: Ints, guess: Ints, classes: int) -> npt.NDArray[np.int64]:
    """Counts (classes, classes): row the truth, column the answer."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, guess), 1)
    return table


def recalls(table: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The share of each class that was found; NaN where the class does not occur."""
    occurs = table.sum(1)
    return np.where(occurs > 0, np.diag(table) / np.maximum(occurs, 1), np.nan)


def unweighted_recall(table: npt.NDArray[np.int64]) -> float:
    """The mean recall over the classes that occur (UAR, balanced accuracy); NaN where none does."""
    found = recalls(table)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def macro_f1(table: npt.NDArray[np.int64]) -> float:
    """The mean F1 over the classes that occur."""
    right = np.diag(table).astype(np.float64)
    f1 = 2.0 * right / np.maximum(table.sum(0) + table.sum(1), 1)
    occurs = table.sum(1) > 0
    return float(f1[occurs].mean()) if occurs.any() else float("nan")


def log_loss(probabilities: Floats, truth: Ints) -> float:
    """The mean of -log p(truth), p cut at 1e-12."""
    chosen = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def calibration_error(probabilities: Floats, truth: Ints, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the winner, L1 over equal bins (Guo et al., arXiv 1706.04599)."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    # (0, 1/bins], (1/bins, 2/bins], ...: a winner of exactly 1 belongs into the last bin.
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    gaps = [
        abs(float(sure[place == b].mean()) - float(right[place == b].mean())) * float((place == b).mean())
        for b in range(bins)
        if (place == b).any()
    ]
    return float(np.sum(gaps))


def average_precision(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """The area under precision over recall, as steps (no interpolation); NaN where the label never holds."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    # Of equal scores only the last has a meaning: they are said together or not at all.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
