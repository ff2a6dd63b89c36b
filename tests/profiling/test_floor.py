"""The floor is what the stages themselves do with a change that is sudden and certain."""

from __future__ import annotations

import numpy as np
import pytest

from streamfuse.config import AppConfig, LabelConfig, TickConfig
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.model.spec import HeadSpec, ModelSpec, VideoSpec
from streamfuse.profiling.floor import floor_of
from streamfuse.types import MS, Answer, TickHead

BEFORE = 200
SPEC = ModelSpec(name="made", heads=(HeadSpec("scene", ("a", "b"), threshold=0.0),))


def measured(config: LabelConfig, hop_ms: int) -> tuple[float, float]:
    """Milliseconds from the change to the end of the tick that says b first, and that tells its event."""
    labeller, events = Labeller(SPEC.heads, config), EventTracker(SPEC.heads, config)
    said = told = 0.0
    for index in range(BEFORE + 400):
        probability = np.array([0.0, 1.0] if index >= BEFORE else [1.0, 0.0], np.float32)
        head = TickHead("cam", 0, index, 0, hop_ms * MS, "ok", "ok")
        for label in labeller.push(Answer(head, {"scene": probability}, {"frame": "ok"}, True)):
            since = (index + 1 - BEFORE) * hop_ms
            if not said and label.scene.label == "b":
                said = since
            for event in events.push(label):
                if event.kind == "new" and event.label == "b":
                    told = since
    return said, told


@pytest.mark.parametrize("hop_ms", [50, 100, 200])
@pytest.mark.parametrize(
    ("smoothing_s", "enter", "dwell_s"),
    [(1.0, 0.6, 0.5), (0.2, 0.7, 0.1), (0.0, 0.6, 0.0), (0.0, 0.6, 0.25), (3.0, 0.9, 1.0), (0.5, 0.5, 0.05)],
)
def test_floor_is_what_labeller_and_events_do(
    hop_ms: int, smoothing_s: float, enter: float, dwell_s: float
) -> None:
    labels = LabelConfig(smoothing_s=smoothing_s, enter=enter, min_dwell_s=dwell_s)
    spec = ModelSpec(name="made", heads=SPEC.heads, video=VideoSpec(hop_ms=hop_ms))
    (head,) = floor_of(AppConfig(labels=labels), spec).heads
    assert (head.half_ms, head.event_ms) == measured(labels, hop_ms)


def test_score_that_is_never_reached_begins_no_event() -> None:
    (head,) = floor_of(AppConfig(labels=LabelConfig(enter=1.0)), SPEC).heads
    assert head.event_ms is None


def test_times_come_from_model_and_configuration() -> None:
    floor = floor_of(AppConfig(ticks=TickConfig(max_wait_ms=70)), SPEC)
    assert (floor.hop_ms, floor.mean_wait_ms, floor.window_ms) == (100, 50, 100)
    assert (floor.mfcc_window_ms, floor.late_track_ms) == (32, 70)
    assert floor_of(AppConfig(), SPEC).late_track_ms is None
