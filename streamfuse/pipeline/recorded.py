"""A recording on its way through: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

from streamfuse.batch import BatchAnalyzer, recorded_batch, stages
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import AppConfig
from streamfuse.media.probe import SourceInfo
from streamfuse.media.source import Source
from streamfuse.model.runtime import Model
from streamfuse.pipeline.interpret import Interpreter
from streamfuse.pipeline.names import source_name
from streamfuse.pipeline.on_gpu import stays_on
from streamfuse.pipeline.ticks import RecordedTicks
from streamfuse.prefetch import Prefetch
from streamfuse.ticks.resume import RecentTicks, ResumePoint
from streamfuse.types import Event, Label, Tick

AHEAD_TICKS = 8
"""Ticks that decoding may be ahead of the network: enough to bridge a group of pictures' uneven cost."""


class Processing:
    """One recording; iterate once for its labels and events, in order.

    Decoding, resampling and the CPU's kernels run in a second thread while the network steps in this one
    (threaded=False: all in this one); the results are the same.

    together     on CUDA: the batch in which it is stepped, which others may be stepped in as well; None: one
                 of its own. On the CPU it is stepped alone
    resume       the point after which to go on; interpreter and position have to be set to what they were
    should_stop  asked between ticks, five times a second: once True, the iteration ends after the tick that
                 is under way, and nothing is flushed
    info         what is in the source
    position_ns  media time analysed so far, from the start of the file
    counters     what was made, dropped, filled and wrong, by name
    truncated    the file ends before it should
    stopped      should_stop() ended the iteration
    raises       SourceError when opened, or in its place between the labels
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        config: AppConfig,
        *,
        name: str,
        span: tuple[int, int | None] | None = None,
        threaded: bool = True,
        resume: ResumePoint | None = None,
        should_stop: Callable[[], bool] | None = None,
        together: BatchAnalyzer | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        spec = model.spec
        self._threaded, self._should_stop = threaded, should_stop
        self._ticks = RecordedTicks(
            source,
            spec,
            name=name,
            decode=config.decode,
            ticks=config.ticks,
            span=span,
            resume=resume,
            clock=clock,
            keep_on=stays_on(config.decode, model.device),
        )
        together = together or recorded_batch(model, config.model)
        self._preparer, stepper = stages(model, name, max_gap_ms=config.ticks.max_gap_ms, together=together)
        self._recent = RecentTicks(ahead=AHEAD_TICKS + 2)
        self.interpreter = Interpreter(stepper, config.labels, config.ticks)
        self.position_ns = 0
        self.ticks = 0
        self.stopped = False

    @property
    def info(self) -> SourceInfo:
        return self._ticks.info

    @property
    def counters(self) -> dict[str, int]:
        return {**self._ticks.counters, **self.interpreter.stepper.counters}

    @property
    def truncated(self) -> bool:
        return self._ticks.truncated

    def __iter__(self) -> Iterator[Label | Event]:
        for told in self.by_tick():
            yield from told

    def by_tick(self) -> Iterator[list[Label | Event]]:
        """What each tick brought, and at last what the end brought: between two of them, `point` and the
        interpreter's state belong together.
        """
        inputs = self._inputs()
        ahead = Prefetch(inputs, ahead=AHEAD_TICKS, should_stop=self._should_stop) if self._threaded else None
        with ahead or nullcontext():
            for item in inputs if ahead is None else ahead:
                told = self.interpreter.push(item)
                self.position_ns = max(self.position_ns, item.head.end_ns)
                self.ticks += 1
                yield told
                if self._asked_to_stop():
                    break
        self.stopped = self._asked_to_stop()
        if not self.stopped:
            yield self.interpreter.flush()

    def point(self) -> ResumePoint:
        """The point after the last tick that by_tick() gave."""
        course = self.interpreter.stepper.course
        return self._recent.point(course.session or 0, course.index)

    def carried_faces(self) -> bytes:
        """What the face view carries on after the same tick; nothing where the model has none."""
        course = self.interpreter.stepper.course
        return self._recent.faces(course.session or 0, course.index)

    def take_up_faces(self, carried: bytes) -> None:
        """Before the iteration: what carried_faces() gave to an earlier run."""
        if self._preparer.faces is not None:
            self._preparer.faces.restore(carried)

    def close(self) -> None:
        self._ticks.close()
        self.interpreter.stepper.close()

    def __enter__(self) -> Processing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked_to_stop(self) -> bool:
        return self._should_stop is not None and self._should_stop()

    def _inputs(self) -> Iterator[Any]:
        try:
            for item in self._ticks:
                if isinstance(item, Tick):
                    inputs = self._preparer.push(item)
                    faces = self._preparer.faces
                    self._recent.push(item, b"" if faces is None else faces.stored())
                    yield from inputs
        finally:
            self._ticks.close()


def process_source(
    source: Source,
    model: Model,
    config: AppConfig | None = None,
    *,
    name: str | None = None,
    span: tuple[int, int | None] | None = None,
    threaded: bool = True,
    resume: ResumePoint | None = None,
    should_stop: Callable[[], bool] | None = None,
    together: BatchAnalyzer | None = None,
) -> Processing:
    """Open a recording for analysis; see Processing.

    name   `source` of its labels; unset: what the source calls itself, without path or secrets
    span   (from, to) in nanoseconds of file time; to None is the end
    """
    return Processing(
        source,
        model,
        config or AppConfig(),
        name=name or source_name(source),
        span=span,
        threaded=threaded,
        resume=resume,
        should_stop=should_stop,
        together=together,
    )
