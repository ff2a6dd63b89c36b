"""Measure a model file on clips: each played tick by tick under every condition, judged per tick and clip.

Raw answers and the labels that people are shown (smoothed, with `unknown`) are both judged over time.
DCASE: the mean of the probabilities of each second is one answer, the state begins anew with each clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from streamfuse.config import LabelConfig
from streamfuse.errors import StreamfuseError
from streamfuse.labels.smooth import UNKNOWN, Labeller
from streamfuse.model.runtime import Model
from streamfuse.model.spec import HeadSpec
from streamfuse.training import metrics
from streamfuse.training.datasets.clips import Clip
from streamfuse.training.takes import CONDITIONS, applies, played, take_of
from streamfuse.training.timelines import Steadiness, steadiness
from streamfuse.types import F32, NS, Answer, TickHead

CLEAN = "as recorded"
SETTLE_TICKS = 5
"""Half a second that a clip's answer leaves out; the answers per tick have all."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Played:
    """One clip under one condition. scores (T, classes) calibrated; truth (T, classes), NaN where not known;
    labels (T,): the smoothed answer, -1 for `unknown`."""

    clip: Clip
    condition: str
    head: str
    scores: F32
    truth: F32
    labels: Ints


@dataclass(frozen=True)
class Measures:
    """A head on a data set under a condition. Shares in 0..1; NaN is a measure that does not apply."""

    dataset: str
    head: str
    condition: str
    clips: int
    ticks: int
    tick: dict[str, float]
    clip: dict[str, float]
    second: dict[str, float] = field(default_factory=dict)
    raw: Steadiness | None = None
    shown: Steadiness | None = None
    labels: tuple[str, ...] = ()
    table: tuple[tuple[int, ...], ...] = ()
    reliability: tuple[tuple[float, float, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def assess(
    model: Model,
    clips: Sequence[Clip],
    *,
    conditions: Sequence[str] = tuple(CONDITIONS),
    labels: LabelConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    dropped: list[str] | None = None,
) -> list[Measures]:
    """Measures of every data set, head and condition; the clean ones have all, the others the main ones."""
    found: dict[tuple[str, str, str], list[Played]] = {}
    for done, clip in enumerate(clips):
        if progress is not None:
            progress(done, len(clips))
        try:
            for one in play_clip(model, clip, conditions, labels or LabelConfig()):
                found.setdefault((clip.dataset, one.head, one.condition), []).append(one)
        except StreamfuseError as error:
            if dropped is not None:
                dropped.append(f"{clip.name}: {error}")
    heads = {head.name: head for head in model.spec.heads}
    tick_s = model.spec.video.hop_ns / NS
    order = {name: n for n, name in enumerate(CONDITIONS)}
    return [
        measured(heads[head], dataset, condition, some, tick_s)
        for (dataset, head, condition), some in sorted(
            found.items(), key=lambda one: (one[0][0], list(heads).index(one[0][1]), order[one[0][2]])
        )
    ]


def play_clip(model: Model, clip: Clip, conditions: Sequence[str], labels: LabelConfig) -> list[Played]:
    """The clip under every condition that changes it, side by side, for the heads that its marks ask."""
    take = take_of(clip, model.spec)
    if take is None:
        return []
    names = [name for name in conditions if applies(name, take)]
    rng = np.random.default_rng(0)
    answers = played(model, [CONDITIONS[name](take, rng) for name in names])
    result = []
    for name, logits in zip(names, answers, strict=True):
        scores = model.probabilities(logits)
        smooth = smoothed(model, scores, labels)
        for head in model.spec.heads:
            truth = take.truth[head.name]
            if not np.isnan(truth).all():
                result.append(Played(clip, name, head.name, scores[head.name], truth, smooth[head.name]))
    return result


def smoothed(model: Model, scores: dict[str, F32], config: LabelConfig) -> dict[str, Ints]:
    """The labels that people are shown, (T,) of each softmax head: class, or -1 for `unknown`."""
    labeller = Labeller(model.spec.heads, config)
    hop_ns = model.spec.video.hop_ns
    said: dict[str, list[int]] = {head.name: [] for head in model.spec.heads}
    for tick in range(len(next(iter(scores.values())))):
        head = TickHead("clip", 0, tick, 0, hop_ns, "ok", "ok")
        answer = Answer(head, {name: one[tick] for name, one in scores.items()}, {}, warm=True)
        (label,) = labeller.push(answer)
        for spec in model.spec.heads:
            shown = label.heads[spec.name].label
            said[spec.name].append(-1 if shown in (None, UNKNOWN) else spec.labels.index(str(shown)))
    return {name: np.array(some, np.int64) for name, some in said.items()}


def measured(head: HeadSpec, dataset: str, condition: str, some: Sequence[Played], tick_s: float) -> Measures:
    """All measures of one head from its played clips."""
    ticks = sum(int((~np.isnan(one.truth[:, 0])).sum()) for one in some)
    if head.kind == "sigmoid":
        return Measures(dataset, head.name, condition, len(some), ticks, _several(head, some), {})
    classes = len(head.labels)
    truths = [_classes(one.truth) for one in some]
    scores = np.concatenate([one.scores[t >= 0] for one, t in zip(some, truths, strict=True)])
    right = np.concatenate([t[t >= 0] for t in truths])
    per_clip = [(_of_clip(one.scores), t[t >= 0][0], one.scores[-1]) for one, t in _uniform(some, truths)]
    clip: dict[str, float] = {}
    table = metrics.confusion(right, scores.argmax(1), classes)
    if per_clip:
        answers, true = np.stack([one[0] for one in per_clip]), np.array([one[1] for one in per_clip])
        clip = shares(answers, true, classes)
        clip["last_tick"] = float((np.stack([one[2] for one in per_clip]).argmax(1) == true).mean())
        table = metrics.confusion(true, answers.argmax(1), classes)
    clean = condition == CLEAN
    given = np.concatenate([one.labels[t >= 0] for one, t in zip(some, truths, strict=True)])
    tick = shares(scores, right, classes) | {"answered": float((given >= 0).mean())}
    return Measures(
        dataset, head.name, condition, len(some), ticks, tick, clip,
        _by_second(some, truths, classes, tick_s) if clean else {},
        steadiness([one.scores.argmax(1) for one in some], truths, tick_s),
        steadiness([one.labels for one in some], truths, tick_s),
        head.labels, tuple(tuple(map(int, row)) for row in table),
        reliability(scores, right) if clean else (),
    )  # fmt: skip


def _classes(truth: F32) -> Ints:
    """(T,) the true class, of shares the largest; -1 where nothing is known or two are even."""
    known = ~np.isnan(truth).any(1)
    filled = np.nan_to_num(truth)
    best = filled.max(1, keepdims=True)
    sure = known & ((filled == best).sum(1) == 1)
    return np.where(sure, filled.argmax(1), -1)


def _uniform(some: Sequence[Played], truths: Sequence[Ints]) -> list[tuple[Played, Ints]]:
    """The clips with one true label from beginning to end."""
    pairs = zip(some, truths, strict=True)
    return [(one, t) for one, t in pairs if (t >= 0).any() and len(np.unique(t[t >= 0])) == 1]


def _of_clip(scores: F32) -> npt.NDArray[np.float64]:
    start = min(SETTLE_TICKS, len(scores) - 1)
    return np.asarray(scores[start:].mean(0, dtype=np.float64))


def shares(scores: npt.NDArray[np.floating], truth: Ints, classes: int) -> dict[str, float]:
    """Accuracy, UAR, macro-F1, log loss, Brier score and ECE of probabilities (N, classes)."""
    table = metrics.confusion(truth, scores.argmax(1), classes)
    wanted = np.eye(classes)[truth]
    return {
        "accuracy": float((scores.argmax(1) == truth).mean()),
        "uar": metrics.unweighted_recall(table),
        "macro_f1": metrics.macro_f1(table),
        "log_loss": metrics.log_loss(scores, truth),
        "brier": float(((scores - wanted) ** 2).sum(1).mean()),
        "ece": metrics.calibration_error(scores, truth),
    }


def _by_second(
    some: Sequence[Played], truths: Sequence[Ints], classes: int, tick_s: float
) -> dict[str, float]:
    """DCASE's segments: each whole second of a clip is one answer, the mean of its ticks."""
    wide = max(1, round(1.0 / tick_s))
    answers, right = [], []
    for one, true in zip(some, truths, strict=True):
        for start in range(0, len(true) - wide + 1, wide):
            here = true[start : start + wide]
            if (here >= 0).all() and (here == here[0]).all():
                answers.append(one.scores[start : start + wide].mean(0, dtype=np.float64))
                right.append(here[0])
    return shares(np.stack(answers), np.array(right), classes) if answers else {}


def _several(head: HeadSpec, some: Sequence[Played]) -> dict[str, float]:
    """Several labels at once: mean average precision over the labels that occur, and micro-F1."""
    known = [~np.isnan(one.truth).any(1) for one in some]
    scores = np.concatenate([one.scores[k] for one, k in zip(some, known, strict=True)])
    truth = np.concatenate([one.truth[k] for one, k in zip(some, known, strict=True)]) > 0
    said = scores >= head.threshold
    precisions = [metrics.average_precision(scores[:, n], truth[:, n]) for n in range(len(head.labels))]
    hits = float((said & truth).sum())
    return {
        "map": float(np.nanmean(precisions)) if np.isfinite(precisions).any() else float("nan"),
        "micro_f1": 2 * hits / max(float(said.sum() + truth.sum()), 1.0),
    }


def reliability(scores: npt.NDArray[np.floating], truth: Ints) -> tuple[tuple[float, float, float], ...]:
    """(mean probability, share that is right, share of all) of the winners in each bin that is not empty."""
    sure, right = scores.max(1), scores.argmax(1) == truth
    place = np.clip(np.ceil(sure * metrics.ECE_BINS).astype(int) - 1, 0, metrics.ECE_BINS - 1)
    return tuple(
        (float(sure[place == b].mean()), float(right[place == b].mean()), float((place == b).mean()))
        for b in range(metrics.ECE_BINS)
        if (place == b).any()
    )
