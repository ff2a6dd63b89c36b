"""Ticks of many streams in one step: what a GPU is for. On a CPU every stream is stepped alone.

Dynamic batching: a batch goes when every stream that is open has a tick in it, when it is full, or when
its oldest tick has waited `max_wait_ms`. Each stream has one tick in a batch, its oldest. While a batch is
computed, the next one may be packed: begin() and collect() are apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from streamfuse.analysis import (
    MAX_GAP_MS,
    Course,
    Looker,
    Preparer,
    Preparing,
    Seen,
    Sight,
    Stepper,
    Stepping,
    StepState,
    refuse_after_flush,
)
from streamfuse.config import ModelConfig
from streamfuse.errors import StageError
from streamfuse.kernels.tick_batch import tick_batch
from streamfuse.model.runtime import Model
from streamfuse.model.slots import AT_ONCE, SlotStepper, Step, clips_of, with_clips
from streamfuse.types import F32, MS, Answer, Mode, Tick

if TYPE_CHECKING:
    from streamfuse.faces.view import FaceView


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
    """A tick whose turn comes; `anew`: the state begins with it."""

    tick: Tick
    seen: Seen
    anew: bool
    since_ns: int


@dataclass(eq=False)
class _Stream:
    """course    of the ticks that were added
    stepped   of those that were answered, since the state was new
    restored  the state begins anew with the next tick, as the one that was put back had no tick yet
    """

    slot: int
    looker: Looker
    max_gap_ms: int
    course: Course = field(default_factory=Course)
    waiting: deque[_Waiting] = field(default_factory=deque)
    under_way: int = 0
    stepped: int = 0
    restored: bool = False
    counters: dict[str, int] = field(default_factory=lambda: {"bad_answers": 0})


_Rows = Sequence[tuple[_Stream, _Waiting]]


class BatchAnalyzer:
    """Ticks of many streams in, answers out, stepped together.

    streams      the most that are open at once; each holds its state on the device
    max_wait_ms  how long the oldest tick waits for company
    graphs       on CUDA, the step is captured as a graph
    counters     `bad_answers`: answers that were not finite, given as zero probabilities (labels:
                 `unknown`), not warm
    """

    def __init__(
        self,
        model: Model,
        *,
        streams: int,
        max_batch: int,
        max_wait_ms: float,
        mode: Mode,
        graphs: bool = True,
    ) -> None:
        spec = self._spec = model.spec
        self.model = model
        self._kernels = tick_batch(spec.video.picture, spec.audio, model.device)
        sizes = buckets(max_batch, mode)
        self._stepper = SlotStepper(model, streams, sizes, stream=self._kernels.stream, graphs=graphs)
        self._max_wait_ns = round(max_wait_ms * MS)
        self._streams: dict[str, _Stream] = {}
        self._under_way: deque[tuple[_Rows, Step]] = deque()
        self.counters = {"bad_answers": 0}

    def warm_up(self, tick: Tick) -> None:
        """Compile the kernels, record the step of every batch size and take the memory of a full one now,
        on a tick of nobody's.
        """
        buckets = [self._stepper.bucket(size) for size in self._stepper.sizes]
        full = buckets[-1]
        (sight,) = Looker(self._spec).push(tick)
        whole = [] if tick.picture is None else [tick.picture] * full.size * len(sight.seen.pictures)
        numbers = np.array([self._stepper.padding()] * full.size, np.int32)
        self._kernels.fill(list(enumerate(whole)), [tick.samples] * full.size, numbers, full.inputs)
        self._stepper.step(full)

    def open(self, source: str, *, max_gap_ms: int = MAX_GAP_MS) -> dict[str, int]:
        """Begin a stream; one of this name that is open is forgotten. StageError where no slot is free.

        returns  its own counters, which go on counting
        """
        self.forget(source)
        looker = Looker(self._spec, max_gap_ms=max_gap_ms)
        stream = self._streams[source] = _Stream(self._stepper.states.open(), looker, max_gap_ms)
        return stream.counters

    def forget(self, source: str) -> None:
        """End a stream; its ticks that wait are not answered: step() first where they matter."""
        stream = self._streams.pop(source, None)
        if stream is not None:
            self._stepper.states.close(stream.slot)

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self._streams)

    def faces(self, source: str) -> FaceView | None:
        """What follows the stream's face, for a model that reads faces."""
        return self._streams[source].looker.faces

    def course(self, source: str) -> Course:
        """How far an open stream is, with the ticks that wait."""
        return self._streams[source].course

    def state(self, source: str) -> StepState:
        """What an open stream carries on after its last tick. StageError where a tick is not answered yet."""
        stream = self._streams[source]
        if self.waits(source):
            raise StageError("a state is that between two ticks", got="a tick that waits", where=source)
        rows = self._stepper.take(stream.slot) if stream.stepped else self.model.init_state(1)
        model, clips = clips_of(rows, self._spec)
        course = stream.course
        return StepState(course.session, course.index, stream.stepped, model=model, clips=clips)

    def restore(self, source: str, state: StepState) -> None:
        """An open stream goes on from what state() gave."""
        stream = self._streams[source]
        stream.course = Course(state.session, state.index, state.stepped)
        stream.stepped, stream.restored = state.stepped, state.stepped == 0
        if state.stepped:
            self._stepper.put(stream.slot, with_clips(state.model, state.clips, self._spec))

    def add(self, tick: Tick, now_ns: int, seen: Seen | None = None) -> None:
        """Let a tick of an open stream wait for its batch.

        seen    what there is to see in it, where somebody has looked already
        raises  StageError: no such stream, its ticks are out of order, or the tick is none that the
                kernels take. It is not kept then, and costs nobody else anything
        """
        stream = self._streams.get(tick.head.source)
        if stream is None:
            raise StageError("a tick must be of an open stream", got=tick.head.source, where="batch")
        self._check(tick)
        anew = stream.course.advance(tick.head, stream.max_gap_ms)
        if seen is None:
            (sight,) = stream.looker.push(tick)
            seen = sight.seen
        stream.waiting.append(_Waiting(tick, seen, anew, now_ns))

    def due_ns(self) -> int | None:
        """When begin() is due: 0, at once; None, nothing waits."""
        ready = [stream.waiting[0] for stream in self._streams.values() if stream.waiting]
        if not ready:
            return None
        if len(ready) == len(self._streams) or len(ready) >= self._stepper.largest:
            return 0
        return min(one.since_ns for one in ready) + self._max_wait_ns

    def waits(self, source: str) -> int:
        """Ticks of a stream that are not answered."""
        stream = self._streams.get(source)
        return len(stream.waiting) + stream.under_way if stream else 0

    @property
    def under_way(self) -> int:
        """Batches that were begun and not collected."""
        return len(self._under_way)

    def step(self) -> list[Answer]:
        """begin(), and collect() all that is under way."""
        self.begin()
        return [answer for _ in range(self.under_way) for answer in self.collect()]

    def begin(self) -> None:
        """One batch: the oldest tick of each stream that has one, those first that have waited longest.

        raises  StageError: a second batch that is under way must be collected before a third is begun
        """
        if self.under_way == AT_ONCE:
            raise StageError(f"at most {AT_ONCE} batches may be under way", got="one more", where="batch")
        ready = [stream for stream in self._streams.values() if stream.waiting]
        ready.sort(key=lambda stream: stream.waiting[0].since_ns)
        rows = [(stream, stream.waiting.popleft()) for stream in ready[: self._stepper.largest]]
        if rows:
            self._under_way.append((rows, self._run(rows)))

    def collect(self) -> list[Answer]:
        """The answers of the batch that was begun first, waited for; none where none is under way.

        A stream that was forgotten meanwhile gets none.
        """
        if not self._under_way:
            return []
        rows, step = self._under_way.popleft()
        logits = [one[: len(rows)] for one in self._stepper.collect(step)]
        found = self.model.probabilities(logits)
        return [
            self._answer(stream, one, {name: p[row] for name, p in found.items()})
            for row, (stream, one) in enumerate(rows)
            if self._streams.get(one.tick.head.source) is stream
        ]

    def _check(self, tick: Tick) -> None:
        """One tick that is none would cost a whole batch its answers."""
        spec, samples = self._spec, tick.samples
        wanted = (spec.audio.context_samples + spec.hop_samples,)
        if samples.shape != wanted or samples.dtype != np.float32:
            got = f"{samples.dtype} {samples.shape}"
            raise StageError(f"samples must be float32 {wanted}", got=got, where=tick.head.source)
        if tick.picture is not None:
            self._kernels.check(tick.picture)

    def _run(self, rows: _Rows) -> Step:
        bucket = self._stepper.bucket(len(rows))
        views = len(self._spec.views)
        numbers = np.array([self._stepper.padding()] * bucket.size, np.int32)
        pictures, samples = [], []
        for row, (stream, one) in enumerate(rows):
            numbers[row] = [stream.slot, one.anew or stream.restored, *one.seen.present]
            pictures += [(row * views + v, p) for v, p in enumerate(one.seen.pictures) if p is not None]
            samples.append(one.tick.samples)
            stream.restored = False
            stream.under_way += 1
        self._kernels.fill(pictures, samples, numbers, bucket.inputs)
        return self._stepper.begin(bucket)

    def _answer(self, stream: _Stream, one: _Waiting, found: dict[str, F32]) -> Answer:
        stream.under_way -= 1
        stream.stepped = 1 if one.anew else stream.stepped + 1
        warm = stream.stepped >= self._spec.warm_ticks
        if not all(np.isfinite(row).all() for row in found.values()):
            stream.stepped, warm = 0, False  # the slot begins anew by itself (SlotStates.spoilt)
            found = {name: np.zeros_like(row) for name, row in found.items()}
            stream.counters["bad_answers"] += 1
            self.counters["bad_answers"] += 1
        return Answer(one.tick.head, found, one.seen.views, warm, one.seen.face)


class BatchStepper:
    """Stage[Sight, Answer]: one stream of a batch, with the face that Stepper has for one alone.

    Its row is padded to the batch's size with others' or nobody's, which changes no bit of it.
    """

    def __init__(self, together: BatchAnalyzer, source: str, max_gap_ms: int = MAX_GAP_MS) -> None:
        self.model = together.model
        self._together, self._source, self._max_gap_ms = together, source, max_gap_ms
        self.reset()

    @property
    def course(self) -> Course:
        return self._together.course(self._source)

    @property
    def state(self) -> StepState:
        return self._together.state(self._source)

    @state.setter
    def state(self, state: StepState) -> None:
        self._together.restore(self._source, state)

    def push(self, sight: Sight) -> list[Answer]:
        refuse_after_flush(self._flushed)
        self._together.add(sight.tick, 0, sight.seen)
        return self._together.step()

    def flush(self) -> list[Answer]:
        self._flushed = True
        return []

    def reset(self) -> None:
        self._flushed = False
        self.counters = self._together.open(self._source, max_gap_ms=self._max_gap_ms)

    def close(self) -> None:
        self._together.forget(self._source)


def recorded_batch(model: Model, config: ModelConfig, streams: int = 1) -> BatchAnalyzer | None:
    """What steps recordings on CUDA, in one padded batch size however many they are: the bytes of a recording
    must not depend on its company. None on the CPU, where each is stepped alone.
    """
    if str(model.device) == "cpu":
        return None
    return BatchAnalyzer(
        model,
        streams=streams,
        max_batch=config.recorded_batch,
        max_wait_ms=config.max_batch_wait_ms,
        mode="recorded",
        graphs=config.cuda_graphs,
    )


def stages(
    model: Model, source: str, *, max_gap_ms: int = MAX_GAP_MS, together: BatchAnalyzer | None
) -> tuple[Preparing, Stepping]:
    """The two stages of one stream: of a batch where there is one (recorded_batch), else alone."""
    if together is None:
        return Preparer(model.spec, max_gap_ms=max_gap_ms), Stepper(model, max_gap_ms)
    looker = Looker(model.spec, max_gap_ms=max_gap_ms)
    return looker, BatchStepper(together, source, max_gap_ms)
