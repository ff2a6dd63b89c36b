"""From the network's inputs to labels and events."""

from __future__ import annotations

import os

from streamfuse.analysis import Inputs, Stepper
from streamfuse.config import LabelConfig, TickConfig
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.model.runtime import Model, load_model
from streamfuse.types import Answer, Event, Label


class Interpreter:
    """Stage[Inputs, Label | Event]: a step of the network, smoothing, events.

    A tick's label comes first, then the events that it begins or ends; flush() ends the open events.
    """

    def __init__(self, model: Model, labels: LabelConfig, ticks: TickConfig) -> None:
        self.stepper = Stepper(model, ticks.max_gap_ms)
        self.labeller = Labeller(model.spec.heads, labels, max_gap_ms=ticks.max_gap_ms)
        self.events = EventTracker(model.spec.heads, labels, max_gap_ms=ticks.max_gap_ms)

    def push(self, inputs: Inputs) -> list[Label | Event]:
        return self._tell(self.stepper.push(inputs))

    def flush(self) -> list[Label | Event]:
        told = self._tell(self.stepper.flush())
        for label in self.labeller.flush():
            told += [label, *self.events.push(label)]
        return [*told, *self.events.flush()]

    def reset(self) -> None:
        self.stepper.reset()
        self.labeller.reset()
        self.events.reset()

    def _tell(self, answers: list[Answer]) -> list[Label | Event]:
        told: list[Label | Event] = []
        for answer in answers:
            for label in self.labeller.push(answer):
                told += [label, *self.events.push(label)]
        return told


def loaded_model(model: Model | str | os.PathLike[str] | None, device: str) -> Model:
    """The model itself, or the one in the file, or (None) the default one; ModelError where it is refused."""
    if model is None or isinstance(model, str | os.PathLike):
        return load_model(model, device=device)
    return model
