"""The analyze service on a GPU: ticks wait for company, and are done with when they are answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamfuse.batch import BatchAnalyzer, BatchStepper, recorded_batch
from streamfuse.clock import Clock
from streamfuse.config import RunConfig
from streamfuse.model.runtime import Model
from streamfuse.model.spec import ModelSpec
from streamfuse.services.streams import Answered
from streamfuse.types import Answer, Picture, Tick, TickHead
from streamfuse.wire.link import Delivery

if TYPE_CHECKING:
    from streamfuse.faces.view import FaceView


@dataclass(frozen=True, slots=True)
class Lane:
    """One stream of the batch, as a checkpoint wants to see it (recorded_stream.Analyzing)."""

    stepper: BatchStepper
    faces: FaceView | None


class Batches:
    """Streams (streams.Streams) that are stepped together on one device.

    The wire's window bounds how many ticks of a stream wait here.
    """

    def __init__(self, analyzer: BatchAnalyzer, clock: Clock) -> None:
        self._analyzer, self._clock = analyzer, clock
        self._waiting: dict[str, deque[tuple[Delivery, int]]] = {}
        self._begun_ns: deque[int] = deque()

    @property
    def counters(self) -> dict[str, int]:
        return self._analyzer.counters

    def __len__(self) -> int:
        return len(self._analyzer.streams)

    def __contains__(self, source: object) -> bool:
        return source in self._waiting

    def ports(self) -> Sequence[int]:
        return ()

    def begin(self, source: str, max_gap_ms: int) -> Lane:
        stepper = BatchStepper(self._analyzer, source, max_gap_ms)
        self._waiting[source] = deque()
        return Lane(stepper, self._analyzer.faces(source))

    def take(self, delivery: Delivery, tick: Tick) -> None:
        now_ns = self._clock.monotonic_ns()
        self._analyzer.add(tick, now_ns)
        self._waiting[tick.head.source].append((delivery, now_ns))

    def due_ns(self) -> int | None:
        return self._analyzer.due_ns()

    def advance(self, *, more: bool) -> Sequence[Answered] | None:
        due_ns = self.due_ns()
        if due_ns is not None and due_ns <= self._clock.monotonic_ns():
            return self._step()
        if self._analyzer.under_way and not more:
            return self._collect()
        return None

    def rest(self, source: str) -> list[Answered]:
        answered = []
        while self._analyzer.waits(source):
            answered += self._collect() if self.due_ns() is None else self._step()
        return answered

    def forget(self, source: str) -> None:
        self._analyzer.forget(source)
        self._waiting.pop(source, None)

    def forget_all(self) -> None:
        for source in list(self._waiting):
            self.forget(source)

    def _step(self) -> list[Answered]:
        """Begin a batch; the answers of the one before, which was computed while this one was packed."""
        self._begun_ns.append(self._clock.monotonic_ns())
        self._analyzer.begin()
        return self._collect() if self._analyzer.under_way > 1 else []

    def _collect(self) -> list[Answered]:
        """The answers of the batch that was begun first, waited for; one must be under way."""
        begun_ns = self._begun_ns.popleft()
        return [self._answered(answer, begun_ns) for answer in self._analyzer.collect()]

    def _answered(self, answer: Answer, begun_ns: int) -> Answered:
        delivery, received_ns = self._waiting[answer.head.source].popleft()
        return Answered([answer], delivery, received_ns, begun_ns)


def stepped_together(model: Model, config: RunConfig) -> BatchAnalyzer | None:
    """On a GPU streams are stepped together; else each alone (DESIGN, "Identity of results")."""
    batch = config.model
    if config.mode == "recorded":
        return recorded_batch(model, batch, streams=min(len(config.sources), batch.max_streams))
    if model.device.kind == "cpu":
        return None
    return BatchAnalyzer(
        model,
        streams=batch.max_streams,
        max_batch=batch.max_batch,
        max_wait_ms=batch.max_batch_wait_ms,
        mode="live",
        graphs=batch.cuda_graphs,
    )


def first_tick(spec: ModelSpec) -> Tick:
    """For compiling what is compiled at its first call, before the first camera waits for it."""
    side = 2 * spec.video.picture.size
    planes = tuple(np.zeros((n, n), np.uint8) for n in (side, side // 2, side // 2))
    samples = np.zeros(spec.audio.context_samples + spec.hop_samples, np.float32)
    head = TickHead("warm-up", 0, 0, 0, spec.video.hop_ns, "ok", "ok")
    return Tick(head, Picture(planes), samples)
