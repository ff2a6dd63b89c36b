"""From the network's inputs to labels and events."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from streamfuse.analysis import Stepping
from streamfuse.config import LabelConfig, TickConfig
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import ModelSpec
from streamfuse.ticks.assemble import Assembler
from streamfuse.types import Answer, Event, Label, Mode


class Interpreter:
    """Stage[what the stepper takes, Label | Event]: a step of the network, smoothing, events.

    A tick's label comes first, then the events that it begins or ends; flush() ends the open events.

    finish  what a label gets before events are made of it: live, its date (live.dated)
    """

    def __init__(
        self,
        stepper: Stepping,
        labels: LabelConfig,
        ticks: TickConfig,
        finish: Callable[[Label], Label] | None = None,
    ) -> None:
        self.stepper, heads = stepper, stepper.model.spec.heads
        self.labeller = Labeller(heads, labels, max_gap_ms=ticks.max_gap_ms)
        self._finish = finish
        self.events = EventTracker(heads, labels, max_gap_ms=ticks.max_gap_ms)

    def push(self, inputs: Any) -> list[Label | Event]:
        return self._tell(self.stepper.push(inputs))

    def flush(self) -> list[Label | Event]:
        told = self._tell(self.stepper.flush())
        return [*told, *self._with_events(self.labeller.flush()), *self.events.flush()]

    def reset(self) -> None:
        self.stepper.reset()
        self.labeller.reset()
        self.events.reset()

    def _tell(self, answers: list[Answer]) -> list[Label | Event]:
        return [item for answer in answers for item in self._with_events(self.labeller.push(answer))]

    def _with_events(self, labels: list[Label]) -> list[Label | Event]:
        told: list[Label | Event] = []
        for label in labels:
            final = label if self._finish is None else self._finish(label)
            told += [final, *self.events.push(final)]
        return told


def new_assembler(name: str, config: TickConfig, spec: ModelSpec, mode: Mode) -> Assembler:
    """The ticks that a model wants of a source called `name`."""
    return Assembler(
        name,
        config,
        mode=mode,
        hop_ns=spec.video.hop_ns,
        context_samples=spec.audio.context_samples,
    )


def loaded_model(model: Model | str | os.PathLike[str] | None, device: str) -> Model:
    """The model itself, or the one in the file, or (None) the default one; ModelError where it is refused."""
    if model is None or isinstance(model, str | os.PathLike):
        return load_model(model, device=device)
    return model
