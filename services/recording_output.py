"""One recording in publish: its answers become labels and events in its files, and checkpoints of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from streamfuse.checkpoint.identity import Identity, identity
from streamfuse.checkpoint.keeper import Keeper
from streamfuse.checkpoint.outputs import RecordedOutputs
from streamfuse.checkpoint.plan import closing, finished, look
from streamfuse.checkpoint.record import CheckpointFile, decode_analysed, decode_told, encode
from streamfuse.clock import Clock
from streamfuse.config import RunConfig
from streamfuse.errors import OutputError
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.media.source import parse_source
from streamfuse.model.inspect import ModelFile
from streamfuse.sinks.durable import Patience
from streamfuse.trace import stamped
from streamfuse.types import Answer, Carried, Event, Label
from streamfuse.wire.headers import End
from streamfuse.wire.inbox import GapError


class RecordingOutput:
    """Answers of one recording, in order, each once -> labels and events in its files.

    Answers that came before, from an analyzer that went back to the checkpoint, are passed over.

    gets_on  called again and again while what was told before is told to outputs that are made anew
    raises   OutputError; SourceError where an output reads the recording too; GapError where an answer is
             missing
    """

    def __init__(
        self,
        name: str,
        config: RunConfig,
        model: ModelFile,
        patience: Patience | None,
        clock: Clock,
        gets_on: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self._config, self._clock = name, config, clock
        chosen, own = config.sources[name], config.of(name)
        gap_ms = own.ticks.max_gap_ms
        self._labeller = Labeller(model.spec.heads, own.labels, max_gap_ms=gap_ms)
        self._events = EventTracker(model.spec.heads, own.labels, max_gap_ms=gap_ms)
        self._last = (0, -1)
        self._waiting: Carried | None = None
        source = parse_source(chosen.input, allow_hls=chosen.allow_hls)
        self._base = None if chosen.output is None else Path(chosen.output)
        self._who: Identity = {}
        told = None
        if self._base is not None:
            self._who = identity_of(name, config, model)
            found = look(self._base, self._who)
            if found is not None:
                carried, told = decode_analysed(found.analysed), decode_told(found.told)
                self._labeller.state, self._events.state = told.labeller, told.events
                self._last = (carried.session, carried.index)
        self.outputs = RecordedOutputs(
            own,
            self._base,
            source=source,
            model=model.spec,
            span=chosen.span_ns,
            resume=told,
            patience=patience,
            gets_on=gets_on,
        )
        self._keeper = None
        if self._base is not None and self.outputs.resumable:
            every_s = config.outputs.checkpoint_s
            self._keeper = Keeper(CheckpointFile(self._base), self._who, every_s, clock)

    def push(self, answer: Answer, received_ns: int) -> Iterator[Label | Event]:
        at = (answer.head.session, answer.head.index)
        if at <= self._last:
            return
        session, index = self._last
        if at not in ((session, index + 1), (max(at[0], session + 1), 0)):
            got = f"tick {at[1]} of session {at[0]} after {index} of {session}"
            raise GapError("no answer of a recording may be missing", got=got, where=self.name)
        self._last = at
        for label in self._labeller.push(self._stamped(answer, received_ns)):
            yield self._write(label)
            for event in self._events.push(label):
                yield self._write(event)

    def carry(self, carried: Carried) -> None:
        """The state of the analysis after a tick: where it is the last one written, keep both."""
        if (carried.session, carried.index) == self._last and self._keeper is not None:
            self._waiting = carried
            if self._keeper.idle:
                self._keep(self._keeper)

    def flush(self) -> Iterator[Label | Event]:
        """The tail; open events end here."""
        for label in self._labeller.flush():
            yield self._write(label)
        for event in self._events.flush():
            yield self._write(event)

    def finish(self, end: End) -> dict[str, int]:
        """All is written: close, in steps of which each may be the last before a crash.

        returns  the names of the outputs, and their bytes
        """
        self._close_keeper()
        sizes, patience = self.outputs.settle(), self.outputs.patience
        file = None if self._base is None else CheckpointFile(self._base)
        closed = None if file is None else closing(file, self._who, sizes, self.result(end), patience)
        self.outputs.close(complete=True)
        if file is not None and closed is not None:
            finished(file, closed, patience)
        return sizes

    def leave(self) -> None:
        """Not the end: keep what can be kept; another run goes on."""
        try:
            if self._keeper is not None and self._waiting is not None:
                self._keep(self._keeper)
            self._close_keeper()
        finally:
            self.outputs.close(complete=False)

    def result(self, end: End) -> bytes:
        duration_ns = end.container_ns or None
        return self.outputs.result(
            duration_ns=duration_ns, truncated=end.truncated, counters=dict(end.counters)
        )

    def _stamped(self, answer: Answer, received_ns: int) -> Answer:
        if not self._config.trace:
            return answer
        head = stamped(answer.head, "publish", received_ns, received_ns, self._clock.monotonic_ns())
        return replace(answer, head=head)

    def _keep(self, keeper: Keeper) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and (waiting.session, waiting.index) == self._last:
            told = self.outputs.told(self._labeller.state, self._events.state)
            keeper.keep(self.outputs.sync, waiting.data, encode(told))

    def _close_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.close()

    def _write(self, told: Label | Event) -> Label | Event:
        self.outputs.write(told)
        return told


def identity_of(name: str, config: RunConfig, model: ModelFile) -> Identity:
    """What the recording's checkpoint says of this run. OutputError where the recording cannot be read."""
    chosen = config.sources[name]
    source = parse_source(chosen.input, allow_hls=chosen.allow_hls)
    device = config.model.device
    try:
        own = config.of(name)
        return identity(source, name, own, model_sha256=model.sha256, device=device, span=chosen.span_ns)
    except OSError as error:
        rule = "a recording must stay readable until it is done"
        raise OutputError(rule, got=error.strerror, where=source.display) from error
