"""The model's probabilities become labels: smoothed over time, and `unknown` where they are not sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamfuse.config import LabelConfig
from streamfuse.errors import ModelError, StageError
from streamfuse.model.spec import HeadSpec
from streamfuse.types import F32, MS, NS, Answer, HeadLabel, Label, Presence, TickHead

UNKNOWN = "unknown"
TOP = 5
"""So many labels of a head are told."""

RESERVED = frozenset(
    {"schema", "source", "session", "tick", "time", "start_s", "end_s"}
    | {"modalities", "face", "partial", "warm", "dropped", "latency"}
)
"""Keys of a label line beside the heads: no head may be called so."""

MODALITY = {"frame": "video"}
"""A label says `video` for the view of the whole picture; the other views keep their names."""


@dataclass(slots=True)
class LabellerState:
    """What goes from one tick to the next: plain data, so that a checkpoint can hold it."""

    session: int | None = None
    means: dict[str, list[float]] = field(default_factory=dict)


class Labeller:
    """Stage[Answer, Label]: exponential mean over each head's probabilities, then label and score.

    mean += (1 - exp(-dt / smoothing_s)) * (new - mean), dt being the time since the last answer, dropped
    ticks included. The mean begins with the first answer of a session, and with the first one after
    more than `max_gap_ms` of dropped ticks, where the model's state begins anew too.

    raises  ModelError for heads that a label line cannot hold; StageError for an answer that does not
            fit the heads or is not finite (the analysis never gives such a one)
    """

    def __init__(self, heads: Sequence[HeadSpec], config: LabelConfig, *, max_gap_ms: int = 2000) -> None:
        for head in heads:
            if head.name in RESERVED:
                raise ModelError("a head may not be called like a field of a label", got=head.name)
        self._heads, self._config, self._max_gap_ns = tuple(heads), config, max_gap_ms * MS
        self.reset()

    def reset(self) -> None:
        self.state = LabellerState()
        self._flushed = False

    def push(self, answer: Answer) -> list[Label]:
        if self._flushed:
            raise StageError("no push() after flush(), reset() first", where=answer.head.source)
        head, state = answer.head, self.state
        if head.session != state.session or head.dropped * head.hop_ns > self._max_gap_ns:
            state.session, state.means = head.session, {}
        labels = {}
        for spec in self._heads:
            new = _row(answer, spec)
            mean = self._smooth(spec.name, new, head)
            labels[spec.name] = self._label(spec, new, mean)
        modalities: dict[str, Presence] = {MODALITY.get(v, v): p for v, p in answer.views.items()}
        return [Label(head, labels, modalities, answer.warm, face=answer.face)]

    def flush(self) -> list[Label]:
        self._flushed = True
        return []

    def _smooth(self, name: str, new: list[float], head: TickHead) -> list[float]:
        mean = self.state.means.get(name)
        smoothing_s = self._config.head(name).smoothing_s
        if mean is None or smoothing_s == 0:
            mean = new
        else:
            weight = -math.expm1(-(head.dropped + 1) * head.hop_ns / (smoothing_s * NS))
            mean = [m + weight * (n - m) for m, n in zip(mean, new, strict=True)]
        self.state.means[name] = mean
        return mean

    def _label(self, spec: HeadSpec, new: list[float], mean: list[float]) -> HeadLabel:
        threshold = self._config.head(spec.name).threshold
        if threshold is None:
            threshold = spec.threshold
        # Stable: of equal scores the model's first label is the better one.
        ranked = sorted(zip(spec.labels, mean, strict=True), key=lambda pair: -pair[1])
        raw = dict(zip(spec.labels, new, strict=True)) if self._config.raw else None
        top, scores = tuple(ranked[:TOP]), dict(ranked)
        if spec.kind == "sigmoid":
            said = tuple(pair for pair in ranked if pair[1] >= threshold)
            return HeadLabel(None, None, said, top, raw, scores)
        label, score = ranked[0]
        return HeadLabel(label if score >= threshold else UNKNOWN, score, None, top, raw, scores)


def _row(answer: Answer, spec: HeadSpec) -> list[float]:
    where = f"{answer.head.source} tick {answer.head.index}"
    row: F32 | None = answer.probabilities.get(spec.name)
    if row is None or row.shape != (len(spec.labels),):
        got = "none" if row is None else row.shape
        raise StageError(f"head {spec.name} must have {len(spec.labels)} probabilities", got=got, where=where)
    values: list[float] = row.tolist()
    if not all(0.0 <= value <= 1.0 for value in values):
        raise StageError(f"probabilities of head {spec.name} must be in 0..1", got=values, where=where)
    return values
