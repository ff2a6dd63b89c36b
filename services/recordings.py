"""Recordings in publish: answers become labels and events in files, and checkpoints that speak of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from streamfuse.checkpoint.plan import look
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import RunConfig
from streamfuse.errors import OutputError, SourceError
from streamfuse.model.inspect import ModelFile
from streamfuse.services.loop import ANSWER_NS, State
from streamfuse.services.recording_output import RecordingOutput, identity_of
from streamfuse.services.results import Results
from streamfuse.services.status import Status
from streamfuse.sinks.durable import Patience
from streamfuse.types import MS, NS, Answer, Carried, Event, Label, SessionStart
from streamfuse.wire.broadcast import Publisher
from streamfuse.wire.headers import End, Shutdown
from streamfuse.wire.link import Delivery, Inlet
from streamfuse.wire.transport import Socket

log = logging.getLogger(__name__)

TURN_NS = 200 * MS
"""A turn ends after so much work, so that reports go out in time: an overlay takes 0.1 s for one answer."""
SETTLE_MS = 60_000
"""How long opening or closing a recording may take: its files go to disk, and a disk may be slow."""
LAST_WORD_NS = NS
"""So much longer than an analyzer we wait: its state, without which there is no checkpoint, may come last."""
GETS_ON_NS = NS
"""Between words that opening gets on: an overlay is made again from its beginning then."""


class RecordingsService:
    """The loop's service for recordings: finished when every one of the run has ended.

    patience  what is done on a full disk
    allow     told how many milliseconds the next step may take
    """

    def __init__(
        self,
        config: RunConfig,
        model: ModelFile,
        answers: Inlet,
        world: Publisher,
        status: Status,
        *,
        patience: Patience | None = None,
        allow: Callable[[int], None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._config, self._model, self._clock = config, model, clock
        self._answers, self._world, self._status = answers, world, status
        self._patience, self._allow = patience, allow
        self._outputs: dict[str, RecordingOutput] = {}
        self._results = Results(Path(config.run_dir))
        self._left = {name for name in config.sources if not self._results.known(name)}
        self._unwritten: set[str] = set()
        self._counts: Counter[str] = Counter(labels=0, events=0, orphans=0)
        self._deadline_ns: int | None = None
        self._word_ns = 0
        """When it is said again that opening gets on."""
        self.state: State = "running"
        self._find_finished()

    @property
    def finished(self) -> bool:
        if self._deadline_ns is None:
            return False
        # Analyzers that are still there wait for our word that their last answers are written.
        seen_off = not self._outputs and not self._answers.box.peers
        return seen_off or self._clock.monotonic_ns() >= self._deadline_ns

    @property
    def counters(self) -> dict[str, int]:
        return {**self._answers.counters, **self._counts}

    @property
    def gauges(self) -> dict[str, int]:
        return {"streams": len(self._outputs)}

    def ports(self) -> Sequence[Socket | int]:
        return [self._answers.socket, self._answers.monitor, *self._status.ports()]

    def turn(self, now_ns: int) -> int:
        self._answers.handle_monitor()
        self._status.turn()
        if not self._left and self._deadline_ns is None:
            self.stop(now_ns)
        while (delivery := self._answers.receive()) is not None:
            self._take_in(delivery)
            if self._clock.monotonic_ns() - now_ns >= TURN_NS:
                return now_ns
        return now_ns + ANSWER_NS

    def stop(self, now_ns: int) -> None:
        self._status.stop()
        self._deadline_ns = now_ns + round(self._config.wire.drain_s * NS) + LAST_WORD_NS

    def close(self) -> None:
        """Leave every recording that has not ended to the next run."""
        for name in list(self._outputs):
            with suppress(OutputError):
                self._outputs.pop(name).leave()

    def _find_finished(self) -> None:
        """What an earlier publisher had only to close, or to tell of."""
        for name in sorted(self._left):
            output = self._config.sources[name].output
            if output is None:
                continue
            with suppress(OutputError):  # told when the recording begins
                found = look(Path(output), identity_of(name, self._config, self._model))
                if found is not None and found.phase == "done":
                    self._results.done(name, found.result, list(found.sizes))
                    self._left.discard(name)

    def _take_in(self, delivery: Delivery) -> None:
        name, body = delivery.message.source, delivery.message.body
        try:
            if isinstance(body, Answer):
                self._publish(name, body)
            elif isinstance(body, Carried):
                if name in self._outputs:
                    self._outputs[name].carry(body)
            elif isinstance(body, SessionStart):
                self._begin(name, body)
            elif isinstance(body, End):
                self._end(name, body)
        except (OutputError, SourceError) as error:
            self._give_up(name, error)
        self._answers.done(delivery)
        if isinstance(body, Shutdown):
            self._answers.box.leave(delivery.peer)

    def _begin(self, name: str, start: SessionStart) -> None:
        """A session begins: for the first one that is heard of, the files are opened."""
        if name in self._left and name not in self._unwritten and name not in self._outputs:
            self._allow(SETTLE_MS)
            self._outputs[name] = RecordingOutput(
                name, self._config, self._model, self._patience, self._clock, self._gets_on
            )
        self._status.session(name, start)

    def _gets_on(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._word_ns:
            self._word_ns = now_ns + GETS_ON_NS
            self._allow(SETTLE_MS)

    def _publish(self, name: str, answer: Answer) -> None:
        output = self._outputs.get(name)
        if output is None:  # of a decode process that died: it begins anew
            self._counts["orphans"] += 1
            return
        for told in output.push(answer, self._clock.monotonic_ns()):
            self._tell(told)

    def _end(self, name: str, end: End) -> None:
        output = self._outputs.pop(name, None)
        if output is not None:
            self._close(output, end)
        elif end.complete and name not in self._unwritten:  # its beginning was told to one that died
            self._counts["orphans"] += 1
            return
        elif name in self._left and name not in self._unwritten:
            self._results.failed(name, end.reason)
        self._left.discard(name)
        self._status.ended(name)

    def _close(self, output: RecordingOutput, end: End) -> None:
        try:
            self._allow(SETTLE_MS)
            if end.complete:
                for told in output.flush():
                    self._tell(told)
                sizes = output.finish(end)
                self._results.done(output.name, output.result(end), list(sizes))
            else:
                output.leave()
                self._results.failed(output.name, end.reason)
        except (OutputError, SourceError) as error:
            self._outputs[output.name] = output
            self._give_up(output.name, error)

    def _give_up(self, name: str, error: OutputError | SourceError) -> None:
        """A recording whose results cannot be kept is over; the others go on."""
        log.error("%s: %s", name, error)
        self._unwritten.add(name)
        output = self._outputs.pop(name, None)
        if output is not None:
            with suppress(OutputError):
                output.leave()
        self._results.unwritten(name, error)

    def _tell(self, told: Label | Event) -> None:
        if isinstance(told, Label):
            self._counts["labels"] += 1
            self._world.publish(told.head.source, told)
        else:
            self._counts["events"] += 1
            self._world.publish(told.source, told)
        self._status.told(told)
