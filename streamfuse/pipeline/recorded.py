"""A recording on its way through: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

from streamfuse.analysis import Inputs, Preparer
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import AppConfig
from streamfuse.media.decode import open_decoder
from streamfuse.media.probe import SourceInfo
from streamfuse.media.source import Source
from streamfuse.model.runtime import Model
from streamfuse.pipeline.interpret import Interpreter, new_assembler
from streamfuse.pipeline.names import source_name
from streamfuse.prefetch import Prefetch
from streamfuse.types import Event, Label, Tick

AHEAD_TICKS = 8
"""Ticks that decoding may be ahead of the network: enough to bridge a group of pictures' uneven cost."""


class Processing:
    """One recording; iterate once for its labels and events, in order.

    Decoding, resampling and the kernels run in a second thread while the network steps in this one
    (threaded=False: all in this one); the results are the same.

    info         what is in the source
    position_ns  media time analysed so far, from the start of the file
    counters     what was made, dropped, filled and wrong, by name
    truncated    the file ends before it should
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
        clock: Clock = SYSTEM,
    ) -> None:
        spec = model.spec
        self._threaded = threaded
        self._decoder = open_decoder(
            source,
            decode=config.decode,
            ticks=config.ticks,
            mode="recorded",
            picture_side=2 * spec.video.picture.size,
            clock=clock,
            span=span,
        )
        self.info: SourceInfo = self._decoder.info
        self._assembler = new_assembler(name, config.ticks, spec, "recorded")
        self._preparer = Preparer(spec)
        self.interpreter = Interpreter(model, config.labels, config.ticks)
        self._end_ns = None if span is None else span[1]
        self.position_ns = 0
        self.ticks = 0

    @property
    def counters(self) -> dict[str, int]:
        parts = (self._decoder.counters, self._assembler.counters, self.interpreter.stepper.counters)
        return {name: count for part in parts for name, count in part.items()}

    @property
    def truncated(self) -> bool:
        return self._decoder.truncated

    def __iter__(self) -> Iterator[Label | Event]:
        inputs = self._inputs()
        with Prefetch(inputs, ahead=AHEAD_TICKS) if self._threaded else nullcontext(inputs) as ahead:
            for item in ahead:
                yield from self.interpreter.push(item)
                self.position_ns = max(self.position_ns, item.head.end_ns)
                self.ticks += 1
        yield from self.interpreter.flush()

    def close(self) -> None:
        self._decoder.close()

    def __enter__(self) -> Processing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _inputs(self) -> Iterator[Inputs]:
        try:
            for tick in self._ticks():
                # The last frame before the end of the span may be shown for longer than that.
                if self._end_ns is not None and tick.head.start_ns >= self._end_ns:
                    return
                yield from self._preparer.push(tick)
        finally:
            self._decoder.close()

    def _ticks(self) -> Iterator[Tick]:
        for item in self._decoder:
            yield from self._assembler.push(item)
        yield from self._assembler.flush()


def process_source(
    source: Source,
    model: Model,
    config: AppConfig | None = None,
    *,
    name: str | None = None,
    span: tuple[int, int | None] | None = None,
    threaded: bool = True,
) -> Processing:
    """Open a recording for analysis.

    name   `source` of its labels; unset: what the source calls itself, without path or secrets
    span   (from, to) in nanoseconds of file time; to None is the end
    """
    config = config or AppConfig()
    return Processing(source, model, config, name=name or source_name(source), span=span, threaded=threaded)
