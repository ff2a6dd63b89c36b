"""The analyze service on a CPU: each stream is stepped alone, several streams at once.

A stream without company is stepped in the service's own thread. From the second one on, threads step them:
the kernels, the network and the face finder run without the GIL, so as many processors are used as there are.
A stream has one tick with a thread at a time, so no result depends on how many threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from streamfuse.analysis import TickAnalyzer
from streamfuse.clock import Clock
from streamfuse.errors import StageError
from streamfuse.model.runtime import Model
from streamfuse.services.loop import Wake
from streamfuse.services.streams import Answered
from streamfuse.types import MS, Answer, Tick
from streamfuse.wire.link import Delivery

PATIENCE_NS = 300 * MS
"""A step that takes longer holds the service up, as if it were its own: the supervisor, which counts the
service's turns, has to notice one that never ends."""


@dataclass(eq=False)
class _Stream:
    """waiting  its ticks, the oldest first, without the one that is under way"""

    analyzer: TickAnalyzer
    waiting: deque[_Step] = field(default_factory=deque)
    under_way: _Step | None = None


@dataclass(eq=False)
class _Step:
    """One tick of one stream. `future`: what a thread makes of it; None: it is for our own."""

    stream: _Stream
    delivery: Delivery
    tick: Tick
    received_ns: int
    begun_ns: int = 0
    future: Future[list[Answer]] | None = None

    def run(self, clock: Clock) -> list[Answer]:
        self.begun_ns = clock.monotonic_ns()
        return self.stream.analyzer.push(self.tick)

    def answers(self, clock: Clock) -> list[Answer]:
        """Made here or waited for. StageError: the tick is not one of its stream."""
        return self.run(clock) if self.future is None else self.future.result()

    @property
    def is_ready(self) -> bool:
        return self.future is None or self.future.done()


class Alone:
    """Streams (streams.Streams) that are stepped each alone, at most `threads` of them at once."""

    def __init__(self, model: Model, threads: int, clock: Clock) -> None:
        self._model, self._clock = model, clock
        self._threads = ThreadPoolExecutor(threads, "step") if threads > 1 else None
        self._streams: dict[str, _Stream] = {}
        self._under_way: deque[_Step] = deque()
        """Of all streams, those first that were first."""
        self._wake = Wake()
        self._bad_answers = 0
        """Of streams that have ended."""

    @property
    def counters(self) -> dict[str, int]:
        open_ones = sum(stream.analyzer.counters["bad_answers"] for stream in self._streams.values())
        return {"bad_answers": self._bad_answers + open_ones}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, source: object) -> bool:
        return source in self._streams

    def ports(self) -> Sequence[int]:
        return [self._wake.fileno()]

    def begin(self, source: str, max_gap_ms: int) -> TickAnalyzer:
        self.forget(source)
        stream = self._streams[source] = _Stream(TickAnalyzer(self._model, max_gap_ms=max_gap_ms))
        return stream.analyzer

    def take(self, delivery: Delivery, tick: Tick) -> None:
        stream = self._streams[tick.head.source]
        stream.waiting.append(_Step(stream, delivery, tick, self._clock.monotonic_ns()))
        self._go_on(stream)

    def due_ns(self) -> int | None:
        """What a thread has done is told by ports(), and what is for our own thread was done at once."""
        return None

    def advance(self, *, more: bool) -> Sequence[Answered] | None:  # noqa: ARG002  nothing here is waited for
        self._wake.clear()
        self._wait_for_the_slow()
        ready = next((step for step in self._under_way if step.is_ready), None)
        return None if ready is None else self._finish(ready)

    def rest(self, source: str) -> list[Answered]:
        answered: list[Answered] = []
        while (step := self._streams[source].under_way) is not None:
            answered += self._finish(step)
        return answered

    def forget(self, source: str) -> None:
        stream = self._streams.pop(source, None)
        if stream is not None:
            stream.waiting.clear()
            self._bad_answers += stream.analyzer.counters["bad_answers"]

    def forget_all(self) -> None:
        for source in list(self._streams):
            self.forget(source)

    def _go_on(self, stream: _Stream) -> None:
        """Its next tick, where none is under way."""
        if stream.under_way is not None or not stream.waiting:
            return
        step = stream.under_way = stream.waiting.popleft()
        self._under_way.append(step)
        if self._threads is not None and len(self._streams) > 1:
            step.future = self._threads.submit(step.run, self._clock)
            step.future.add_done_callback(lambda _: self._wake.set())

    def _finish(self, step: _Step) -> list[Answered]:
        """Its answers, made or waited for; nothing where the stream was forgotten meanwhile."""
        answers: list[Answer] = []
        refused = None
        try:
            answers = step.answers(self._clock)
        except StageError as error:
            refused = error
        self._under_way.remove(step)
        stream = step.stream
        stream.under_way = None
        if self._streams.get(step.tick.head.source) is not stream:
            return []
        self._go_on(stream)
        return [Answered(answers, step.delivery, step.received_ns, step.begun_ns, refused)]

    def _wait_for_the_slow(self) -> None:
        late_ns = self._clock.monotonic_ns() - PATIENCE_NS
        for step in self._under_way:
            if step.future is not None and 0 < step.begun_ns < late_ns:
                wait([step.future])
