"""One recording in analyze: each tick once, in order, from its checkpoint on; and what it carries on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from streamfuse.analysis import Stepping
from streamfuse.checkpoint.carried import analysed, take_up
from streamfuse.checkpoint.record import CheckpointFile, decode_analysed, encode
from streamfuse.clock import Clock
from streamfuse.ticks.resume import RecentTicks
from streamfuse.types import NS, Carried, Tick
from streamfuse.wire.inbox import GapError

if TYPE_CHECKING:
    from streamfuse.faces.view import FaceView


class Analyzing(Protocol):
    """What a recording is analysed with: TickAnalyzer, or batches.Lane."""

    @property
    def stepper(self) -> Stepping: ...
    @property
    def faces(self) -> FaceView | None: ...


class RecordedStream:
    """Which ticks of a recording are analysed, each once and in order, and what a checkpoint carries on.

    Those that came before, of a reader that was started again, are passed over.

    base     folder and stem of the outputs, beside which the checkpoint is; None: there is none
    every_s  wall time between two states for the checkpoint
    raises   GapError where a tick is missing; OutputError where the checkpoint cannot be believed
    """

    def __init__(
        self, name: str, analyzer: Analyzing, base: Path | None, every_s: float, clock: Clock
    ) -> None:
        self._name, self._analyzer, self._clock = name, analyzer, clock
        self._every_ns = round(every_s * NS)
        self._due_ns = clock.monotonic_ns() + self._every_ns
        self._recent = RecentTicks()
        self._last = (0, -1)
        self._carried_at = self._last
        found = None if base is None else CheckpointFile(base).read()
        if found is not None and found.phase == "running":
            carried = decode_analysed(found.analysed)
            take_up(analyzer.stepper, carried)
            if analyzer.faces is not None:
                analyzer.faces.restore(carried.faces)
            self._last = self._carried_at = (carried.session, carried.index)

    @property
    def counters(self) -> dict[str, int]:
        return self._analyzer.stepper.counters

    def admits(self, tick: Tick) -> bool:
        """Whether it is the next one, to be analysed now; False: one that came before. GapError."""
        at = (tick.head.session, tick.head.index)
        if at <= self._last:
            return False
        session, index = self._last
        if at not in ((session, index + 1), (max(at[0], session + 1), 0)):
            got = f"tick {at[1]} of session {at[0]} after {index} of {session}"
            raise GapError("no tick of a recording may be missing", got=got, where=self._name)
        self._recent.push(tick)
        self._last = at
        return True

    @property
    def is_due(self) -> bool:
        """It is time for carried()."""
        return self._clock.monotonic_ns() >= self._due_ns

    def carried(self) -> Carried | None:
        """What is carried on after the last tick, which is answered; None where it was said already."""
        if self._last == self._carried_at:
            return None
        self._due_ns = self._clock.monotonic_ns() + self._every_ns
        self._carried_at = self._last
        faces = b"" if self._analyzer.faces is None else self._analyzer.faces.stored()
        state = analysed(self._analyzer.stepper, self._recent.point(*self._last), faces)
        return Carried(*self._last, encode(state))
