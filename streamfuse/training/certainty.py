"""How sure answers are, by what they rest on: a temperature for each head and each set of modalities.

One temperature for all can not be right: a voice alone is a far weaker witness of a feeling than a face,
and a picture of a place a better one than its sound. Fitted on what is told: the mean over a clip, for
labels are means over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from streamfuse.model.network import Network
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.training.calibrate import best_temperature, doubt_of
from streamfuse.training.trials import Trial

F64 = npt.NDArray[np.float64]
LEAST_CLIPS = 30
"""Of a head and a situation; with fewer there is nothing to be fitted."""


@dataclass(frozen=True)
class Heard:
    """Clips whose answer to one head is known.

    logits     (ticks, classes) of each clip, without the ticks before it settles
    truth      (N,) classes, or (N, classes) of 0 and 1
    weight     (N,)
    situation  (N,): bit m where modality m was there
    """

    logits: Sequence[npt.NDArray[np.float32]]
    truth: npt.NDArray[np.int64]
    weight: F64
    situation: npt.NDArray[np.int64]


def situation_of(trial: Trial, spec: ModelSpec) -> int:
    """The bits of the modalities that a trial shows, as Network.certain() counts them."""
    shown = [trial.face if view == "face" else trial.picture for view in spec.views]
    return sum(1 << m for m, one in enumerate((*shown, trial.sound)) if one is not None)


def clip_means(heard: Heard, head: HeadSpec, certainty: F64) -> F64:
    """The mean probabilities (N, classes) of each clip, its logits times certainty (N,)."""
    means = []
    for logits, sure in zip(heard.logits, certainty, strict=True):
        scaled = logits.astype(np.float64) * sure
        if head.kind == "softmax":
            odds = np.exp(scaled - scaled.max(1, keepdims=True))
            means.append((odds / odds.sum(1, keepdims=True)).mean(0))
        else:
            means.append((0.5 * (1.0 + np.tanh(0.5 * scaled))).mean(0))
    return np.stack(means)


def fit_certainty(heard: Heard, head: HeadSpec, situations: int) -> F64:
    """The certainty (situations,) of one head: 1 / temperature, 1 where there is too little to fit."""
    found = np.ones(situations)
    for situation in np.unique(heard.situation):
        kept = np.flatnonzero(heard.situation == situation)
        if len(kept) < LEAST_CLIPS:
            continue
        some = Heard(
            [heard.logits[int(n)] for n in kept], heard.truth[kept], heard.weight[kept], heard.situation[kept]
        )

        def loss(log_t: float, some: Heard = some) -> float:
            means = clip_means(some, head, np.full(len(some.logits), np.exp(-log_t)))
            return _log_loss(means, some.truth, some.weight, doubt_of(len(some.logits)))

        found[situation] = 1.0 / best_temperature(loss)
    return found


def _log_loss(means: F64, truth: npt.NDArray[np.int64], weight: F64, doubt: float) -> float:
    means = np.clip(means, 1e-9, 1.0 - 1e-9)
    if truth.ndim == 1:
        each = -np.log(means)
        losses = (1.0 - doubt) * each[np.arange(len(truth)), truth] + doubt * each.mean(1)
    else:
        wanted = truth * (1.0 - 2.0 * doubt) + doubt
        losses = -(wanted * np.log(means) + (1 - wanted) * np.log(1.0 - means)).mean(1)
    return float((losses * weight).sum() / weight.sum())


def set_certainty(network: Network, head: int, certainty: F64) -> None:
    with torch.no_grad():
        network.certainty[head] = torch.from_numpy(certainty).float()
