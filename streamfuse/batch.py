"""Ticks of many streams in one step: what a GPU is for. On a CPU every stream is stepped alone.

Dynamic batching: a batch goes when every stream that is open has a tick in it, when it is full, or when
its oldest tick has waited `max_wait_ms`. Each stream has one tick in a batch, its oldest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamfuse.analysis import MAX_GAP_MS, Course, Preparer, Seen
from streamfuse.errors import StageError
from streamfuse.kernels.tick_batch import tick_batch
from streamfuse.model.runtime import Model
from streamfuse.model.slots import SlotStepper
from streamfuse.types import F32, MS, Answer, Mode, Tick


def buckets(max_batch: int, mode: Mode) -> tuple[int, ...]:
    """The batch sizes that are stepped, smallest first.

    Live, powers of two up to max_batch; recorded, max_batch alone: there a result must not depend on
    how many streams there are (DESIGN, "Identity of results").
    """
    if mode == "recorded":
        return (max_batch,)
    return (*(1 << k for k in range((max_batch - 1).bit_length())), max_batch)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A tick whose turn comes: `anew`, the state begins with it; `warm`, the answer may be believed."""

    tick: Tick
    seen: Seen
    anew: bool
    warm: bool
    since_ns: int


@dataclass(eq=False)
class _Stream:
    slot: int
    preparer: Preparer
    max_gap_ms: int
    course: Course = field(default_factory=Course)
    waiting: deque[_Waiting] = field(default_factory=deque)
    spoilt: bool = False
    """The last answer was not finite: the state begins anew with the next tick that is stepped."""


class BatchAnalyzer:
    """Ticks of many streams in, answers out, stepped together.

    streams      the most that are open at once; each holds its state on the device
    max_wait_ms  how long the oldest tick waits for company
    counters     `bad_answers`: answers that were not finite, given as zero probabilities (labels:
                 `unknown`), not warm
    """

    def __init__(self, model: Model, *, streams: int, max_batch: int, max_wait_ms: float, mode: Mode) -> None:
        spec = self._spec = model.spec
        self._model = model
        self._kernels = tick_batch(spec.video.picture, spec.audio, model.device)
        sizes = buckets(max_batch, mode)
        self._stepper = SlotStepper(model, streams, sizes, stream=self._kernels.stream)
        self._max_wait_ns = round(max_wait_ms * MS)
        self._streams: dict[str, _Stream] = {}
        self.counters = {"bad_answers": 0}

    def warm_up(self, tick: Tick) -> None:
        """Compile the kernels and record the step of every batch size now, on a tick of nobody's."""
        for size in self._stepper.sizes:
            self._stepper.bucket(size)
        self.open(tick.head.source)
        self.add(tick, 0)
        self.step()
        self.forget(tick.head.source)

    def open(self, source: str, *, max_gap_ms: int = MAX_GAP_MS) -> None:
        """Begin a stream; one of this name that is open is forgotten. StageError where no slot is free."""
        self.forget(source)
        preparer = Preparer(self._spec, max_gap_ms=max_gap_ms)
        self._streams[source] = _Stream(self._stepper.states.open(), preparer, max_gap_ms)

    def forget(self, source: str) -> None:
        """End a stream; its ticks that wait are not stepped: step() first where they matter."""
        stream = self._streams.pop(source, None)
        if stream is not None:
            self._stepper.states.close(stream.slot)

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self._streams)

    def add(self, tick: Tick, now_ns: int) -> None:
        """Let a tick of an open stream wait for its batch.

        raises  StageError: no such stream, or its ticks are out of order
        """
        stream = self._streams.get(tick.head.source)
        if stream is None:
            raise StageError("a tick must be of an open stream", got=tick.head.source, where="batch")
        anew = stream.course.advance(tick.head, stream.max_gap_ms)
        warm = stream.course.stepped >= self._spec.warm_ticks
        stream.waiting.append(_Waiting(tick, stream.preparer.look(tick), anew, warm, now_ns))

    def due_ns(self) -> int | None:
        """When step() is due: 0, at once; None, nothing waits."""
        ready = [stream.waiting[0] for stream in self._streams.values() if stream.waiting]
        if not ready:
            return None
        if len(ready) == len(self._streams) or len(ready) >= self._stepper.largest:
            return 0
        return min(one.since_ns for one in ready) + self._max_wait_ns

    def waits(self, source: str) -> int:
        """Ticks of a stream that wait."""
        stream = self._streams.get(source)
        return len(stream.waiting) if stream else 0

    def step(self) -> list[Answer]:
        """One batch: the oldest tick of each stream that has one, those first that have waited longest."""
        ready = [stream for stream in self._streams.values() if stream.waiting]
        ready.sort(key=lambda stream: stream.waiting[0].since_ns)
        rows = [(stream, stream.waiting.popleft()) for stream in ready[: self._stepper.largest]]
        if not rows:
            return []
        logits = self._run(rows)
        found = self._model.probabilities([one[: len(rows)] for one in logits])
        return [self._answer(*row, {n: p[i] for n, p in found.items()}) for i, row in enumerate(rows)]

    def _run(self, rows: Sequence[tuple[_Stream, _Waiting]]) -> list[F32]:
        bucket = self._stepper.bucket(len(rows))
        views = len(self._spec.views)
        numbers = np.array([self._stepper.padding()] * bucket.size, np.int32)
        pictures, samples = [], []
        for row, (stream, one) in enumerate(rows):
            numbers[row] = [stream.slot, one.anew or stream.spoilt, *one.seen.present]
            pictures += [(row * views + v, p) for v, p in enumerate(one.seen.pictures) if p is not None]
            samples.append(one.tick.samples)
            stream.spoilt = False
        self._kernels.fill(pictures, samples, numbers, bucket.inputs)
        return self._stepper.step(bucket)

    def _answer(self, stream: _Stream, one: _Waiting, found: dict[str, F32]) -> Answer:
        warm = one.warm
        if not all(np.isfinite(row).all() for row in found.values()):
            stream.spoilt, stream.course.stepped, warm = True, 0, False
            found = {name: np.zeros_like(row) for name, row in found.items()}
            self.counters["bad_answers"] += 1
        return Answer(one.tick.head, found, one.seen.views, warm, one.seen.face)
