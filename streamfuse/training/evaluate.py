"""How good a model file is, on recordings of groups it has never met.

Every clip is played from a new state through the file itself. Per clip: the mean of the calibrated
probabilities over its ticks, without the first half second. Per tick: every answer after that.
`python -m streamfuse.training.evaluate --data DIR` is `streamfuse evaluate --data DIR`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from streamfuse.model.runtime import Model
from streamfuse.model.spec import HeadSpec, Quality
from streamfuse.training.datasets.recordings import Part, Recordings
from streamfuse.training.metrics import (
    calibration_error,
    confusion,
    log_loss,
    macro_f1,
    recalls,
    unweighted_recall,
)
from streamfuse.training.play import play
from streamfuse.training.trials import Suite, Trial, asked, build_suites, degraded

F32 = npt.NDArray[np.float32]
SETTLE_TICKS = 5
FIGURES = (
    "what", "data", "clips", "accuracy", "UAR", "F1", "per tick", "ECE", "answered", "right of those"
)  # fmt: skip
"""The columns of a table of scores, in a terminal and in a card."""
HEADINGS = {"accuracy": "right", "per tick": "per\ntick", "answered": "said", "right of those": "of\nthose"}
"""Narrow ones, so that the figures fit into 80 columns."""


@dataclass(frozen=True)
class Score:
    """What a suite measured. Shares in 0..1; `given`: the share of clips not answered `unknown`."""

    suite: str
    data: str
    head: str
    clips: int
    accuracy: float
    recall: float
    f1: float
    tick_accuracy: float
    loss: float
    calibration: float
    given: float
    accuracy_given: float
    labels: tuple[str, ...]
    recalls: tuple[float, ...]
    table: tuple[tuple[int, ...], ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """The figures of a row, in the order of FIGURES after its names."""
        several = (self.accuracy, self.recall, self.f1, self.tick_accuracy, self.calibration)
        return (*several, self.given, self.accuracy_given)


def clip_answer(probabilities: F32) -> npt.NDArray[np.float64]:
    """The mean over ticks (T, classes) without the first ones, (classes,)."""
    start = min(SETTLE_TICKS, len(probabilities) - 1)
    answer: npt.NDArray[np.float64] = probabilities[start:].mean(0, dtype=np.float64)
    return answer


def right_class(trial: Trial, head: HeadSpec) -> int:
    """The class that is right for this trial; of several sounds, the first."""
    if head.kind == "sigmoid":
        return head.labels.index((trial.sounds or ())[0])
    return trial.truth[head.name]


def score(suite: Suite, head: HeadSpec, answers: Sequence[F32]) -> Score:
    """Score the calibrated probabilities (ticks, classes) of each trial of the suite that was asked."""
    kept = asked(suite)
    truth = np.array([right_class(suite.trials[n], head) for n in kept])
    clips = np.stack([clip_answer(answers[n]) for n in kept])
    guess = clips.argmax(1)
    table = confusion(truth, guess, len(head.labels))
    ticks = [answers[n][min(SETTLE_TICKS, len(answers[n]) - 1) :] for n in kept]
    right = [float((one.argmax(1) == t).mean()) for one, t in zip(ticks, truth, strict=True)]
    given = clips.max(1) >= head.threshold
    exclusive = head.kind == "softmax"
    return Score(
        suite.name, suite.data, head.name, len(kept),
        float((guess == truth).mean()), unweighted_recall(table), macro_f1(table), float(np.mean(right)),
        log_loss(clips, truth) if exclusive else float("nan"),
        calibration_error(clips, truth) if exclusive else float("nan"),
        float(given.mean()),
        float((guess == truth)[given].mean()) if given.any() else float("nan"),
        head.labels, tuple(map(float, recalls(table))), tuple(tuple(map(int, row)) for row in table),
    )  # fmt: skip


def evaluate(
    model: Model,
    recordings: Recordings,
    part: Part = "test",
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Score]:
    """Play every suite of that part to the model, and degraded pictures besides; one Score each."""
    heads = {head.name: n for n, head in enumerate(model.spec.heads)}
    suites = [suite for suite in build_suites(recordings, part, model.spec) if suite.head in heads]
    noise = np.random.default_rng(0)
    for suite in [one for one in suites if one.name == "scene from picture"]:
        suites.append(degraded(suite, "dark", lambda x: x * np.float32(0.3), model.spec))
        suites.append(
            degraded(
                suite, "noisy", lambda x: x + noise.normal(0, 0.07, x.shape).astype(np.float32), model.spec
            )
        )
    scores: list[Score] = []
    played: dict[int, tuple[object, list[dict[str, F32]]]] = {}
    for done, suite in enumerate(suites):
        if progress is not None:
            progress(f"{suite.name}: {suite.data}", done, len(suites))
        # One playing answers all heads: suites of one source share their trials.
        key = id(suite.trials)
        if key not in played:
            answers = [model.probabilities(logits) for logits in play(model, suite.trials)]
            played[key] = (suite.trials, answers)
        scores.append(
            score(suite, model.spec.heads[heads[suite.head]], [one[suite.head] for one in played[key][1]])
        )
    return scores


COMMAND = "streamfuse evaluate --data DIR"


def qualities(scores: Sequence[Score], command: str = COMMAND) -> tuple[Quality, ...]:
    """The figures that a model file carries: one per suite, the recall where classes are uneven."""
    found = []
    for one in scores:
        several = sum(share == share for share in one.recalls) > 1  # NaN is a class that does not occur
        measure, value = ("unweighted recall", one.recall) if several else ("accuracy", one.accuracy)
        data = f"{one.data}: {one.clips} clips of held-out groups"
        found.append(Quality(f"{one.suite}: {measure}", round(value, 4), data, command))
    return tuple(found)


def show(scores: Sequence[Score], console: Console) -> None:
    """The scores as a table, and each confusion below."""
    table = Table(title="held-out groups, the model file as shipped", box=SIMPLE, padding=(0, 1, 0, 0))
    # Names fold where a terminal is narrow, figures never.
    for name in FIGURES[:2]:
        table.add_column(name, overflow="fold")
    for name in FIGURES[2:]:
        table.add_column(HEADINGS.get(name, name), justify="right", no_wrap=True)
    for one in scores:
        table.add_row(one.suite, one.data, str(one.clips), *(f"{100 * share:.1f}" for share in one.shares))
    console.print(table)
    for one in scores:
        lines = [
            f"  {label:<9}{100 * share:5.1f} %  {' '.join(f'{count:4d}' for count in row)}"
            for label, share, row in zip(one.labels, one.recalls, one.table, strict=True)
            if share == share
        ]
        console.print(
            f"{one.suite} ({one.data}); answers: {', '.join(one.labels)}", *lines, sep="\n", markup=False
        )
