"""Answers and labels for the label room's tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from streamfuse.config import HeadConfig, LabelConfig
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.model.spec import HeadSpec
from streamfuse.types import MS, Answer, Event, Label, TickHead

HOP_NS = 100 * MS
SCENE = HeadSpec("scene", ("street", "indoor", "forest"), "softmax", 1.0, 0.5)
SOUND = HeadSpec("sound", ("rain", "music", "speech"), "sigmoid", 1.0, 0.5)


def tick_head(index: int = 0, session: int = 0, dropped: int = 0, offset_ns: int = 0) -> TickHead:
    return TickHead("cam", session, index, offset_ns, HOP_NS, "ok", "ok", dropped=dropped)


def answer(head: TickHead, **rows: Sequence[float]) -> Answer:
    probabilities = {name: np.asarray(row, np.float32) for name, row in rows.items()}
    return Answer(head, probabilities, {"frame": "ok", "face": "missing", "audio": "held"}, warm=True)


def plain(**settings: Any) -> LabelConfig:
    """No smoothing, so that scores are what the test says, unless it says otherwise."""
    return LabelConfig(**({"smoothing_s": 0} | settings))


def label_all(
    rows: Iterable[Sequence[float]], head: HeadSpec = SCENE, config: LabelConfig | None = None
) -> list[Label]:
    labeller = Labeller([head], config or plain())
    made = [labeller.push(answer(tick_head(i), **{head.name: row})) for i, row in enumerate(rows)]
    return [label for labels in made for label in labels]


def events_of(labels: Iterable[Label], head: HeadSpec = SCENE, **settings: Any) -> list[Event]:
    tracker = EventTracker([head], plain(**settings))
    return [event for label in labels for event in tracker.push(label)] + tracker.flush()


def head_config(**settings: Any) -> dict[str, HeadConfig]:
    return {"scene": HeadConfig(**settings)}
