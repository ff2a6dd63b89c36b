"""A recording as ticks: decoded, assembled, and taken up again after a checkpoint. Needs no model to run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.errors import SourceRefused
from streamfuse.media.decode import Decoder, open_decoder
from streamfuse.media.device_frames import Gpu
from streamfuse.media.probe import SourceInfo
from streamfuse.media.source import Pacing, Source
from streamfuse.model.spec import ModelSpec
from streamfuse.ticks.assemble import Assembler
from streamfuse.ticks.resume import ResumePoint, tick_digest
from streamfuse.trace import DECODE, stamped
from streamfuse.types import NS, SessionStart, Tick

LEAD_NS = 2 * NS
"""Pictures are decoded from a key frame at least so long before the first tick that is compared."""


class RecordedTicks:
    """Iterate once: the start of each session, then its ticks.

    resume    nothing of before this point is given out. The ticks just before it are made again and compared:
              first from pictures decoded from a key frame not long before, and where they are not the
              same, from the beginning of the recording
    stamps    say in each tick's trace how long it took to be made
    keep_on   the GPU on which pictures stay (open_decoder)
    info         what is in the source
    position_ns  media time read, from 0
    counters     what was made, dropped, filled and wrong, by name
    truncated    the file ends before it should
    pacing       nobody waits for their time
    raises    SourceError when opened, or in its place; SourceRefused where the recording does not decode to
              what it did before the checkpoint
    """

    pacing: Pacing = "read"

    def __init__(
        self,
        source: Source,
        spec: ModelSpec,
        *,
        name: str,
        decode: DecodeConfig,
        ticks: TickConfig,
        span: tuple[int, int | None] | None = None,
        resume: ResumePoint | None = None,
        stamps: bool = False,
        clock: Clock = SYSTEM,
        keep_on: Gpu | None = None,
    ) -> None:
        self._source, self._resume = source, resume
        self._stamps, self._clock = stamps, clock
        self._end_ns = None if span is None else span[1]
        self._open_decoder = partial(
            open_decoder,
            source,
            decode=decode,
            ticks=ticks,
            mode="recorded",
            picture_side=spec.picture_side,
            clock=clock,
            span=span,
            keep_on=keep_on,
        )
        self._new_assembler = partial(
            Assembler,
            name,
            ticks,
            mode="recorded",
            hop_ns=spec.video.hop_ns,
            context_samples=spec.audio.context_samples,
            resume=(0, 0) if resume is None else resume.first_checked,
        )
        self._tries = [0] if resume is None else _video_starts(resume, spec.video.hop_ns)
        self._open()

    @property
    def info(self) -> SourceInfo:
        return self._decoder.info

    @property
    def position_ns(self) -> int:
        return self._decoder.position_ns

    @property
    def truncated(self) -> bool:
        return self._decoder.truncated

    @property
    def counters(self) -> dict[str, int]:
        return {**self._decoder.counters, **self._assembler.counters}

    def __iter__(self) -> Iterator[SessionStart | Tick]:
        return self._timed() if self._stamps else self._all()

    def _timed(self) -> Iterator[SessionStart | Tick]:
        began_ns = self._clock.monotonic_ns()
        for item in self._all():
            if isinstance(item, Tick):
                head = stamped(item.head, DECODE, began_ns, began_ns, self._clock.monotonic_ns())
                item = replace(item, head=head)
            yield item
            began_ns = self._clock.monotonic_ns()  # not before the reader wants more

    def _all(self) -> Iterator[SessionStart | Tick]:
        if self._resume is None:
            yield from self._items()
            return
        while True:
            items = self._items()
            start = _go_to(self._resume, items)
            if start is not None:
                yield start
                yield from items
                return
            self._decoder.close()
            if not self._tries:
                hint = "is it the same recording? --no-resume begins anew"
                rule = "a recording must decode to what it was before the checkpoint"
                raise SourceRefused(rule, got="other pictures or sound", where=self._source, hint=hint)
            self._open()

    def close(self) -> None:
        self._decoder.close()

    def _open(self) -> None:
        self._decoder: Decoder = self._open_decoder(video_from_ns=self._tries.pop(0))
        self._assembler = self._new_assembler()

    def _items(self) -> Iterator[SessionStart | Tick]:
        for item in self._decoder:
            yield from self._wanted(self._assembler.push(item))
            if isinstance(item, SessionStart):  # after the last ticks of the session before
                yield item
        yield from self._wanted(self._assembler.flush())

    def _wanted(self, ticks: list[Tick]) -> list[Tick]:
        if self._end_ns is None:
            return ticks
        # The last frame before the end of the span may be shown for longer than that.
        return [tick for tick in ticks if tick.head.start_ns < self._end_ns]


def _video_starts(resume: ResumePoint, hop_ns: int) -> list[int]:
    """File times from which pictures are decoded, in the order in which they are tried."""
    from_ns = resume.start_ns - len(resume.digests) * hop_ns - LEAD_NS
    # In a later session the time stamps may lie anywhere, and both tracks are needed to find its beginning.
    return [from_ns, 0] if resume.session == 0 and from_ns > 0 else [0]


def _go_to(point: ResumePoint, items: Iterator[SessionStart | Tick]) -> SessionStart | None:
    """Compare the ticks up to the point; return its session's start, or None: they are others."""
    start: SessionStart | None = None
    left = list(point.digests)
    for item in items:
        if isinstance(item, SessionStart):
            start = item
        elif tick_digest(item) != left.pop(0):
            return None
        if not left:
            return start
    return None
