"""What the analyze process does in a turn: ticks of all sources come in, and their answers go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import RunConfig
from streamfuse.errors import StageError
from streamfuse.services.loop import ANSWER_NS, State
from streamfuse.services.recorded_stream import RecordedStream
from streamfuse.services.streams import Answered, Streams
from streamfuse.trace import stamped
from streamfuse.types import NS, Answer, SessionStart, Tick
from streamfuse.wire.headers import End, Shutdown
from streamfuse.wire.link import Delivery, Inlet, Outlet
from streamfuse.wire.transport import Socket

log = logging.getLogger(__name__)

TURN_MESSAGES = 16
"""Messages handled before the loop looks at signals and reports again: 50 ms of a busy CPU."""


class AnalyzeService:
    """The loop's service: takes ticks in, has them stepped (`streams`), sends the answers on."""

    def __init__(
        self,
        name: str,
        config: RunConfig,
        streams: Streams,
        ticks: Inlet,
        answers: Outlet,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._name, self._config, self._streams = name, config, streams
        self._ticks, self._answers, self._clock = ticks, answers, clock
        self._recorded: dict[str, RecordedStream] = {}
        self._analysed = self._refused = 0
        self._deadline_ns: int | None = None
        self._busy_since_ns: int | None = None
        """Since when there was no wait for work; None: we are waiting."""
        self._said_goodbye = False
        self._ends: list[Delivery] = []
        """Ends of recordings whose last answers are not written yet: until then their reader waits."""
        self.state: State = "running"

    @property
    def finished(self) -> bool:
        return self._said_goodbye and (self._answers.box.settled or self._is_late())

    @property
    def counters(self) -> dict[str, int]:
        link = {f"link_{name}": count for name, count in self._answers.box.counters.items()}
        own = {"analysed": self._analysed, "refused": self._refused}
        return {**self._ticks.counters, **link, **own, **self._streams.counters}

    @property
    def gauges(self) -> dict[str, int]:
        return {"streams": len(self._streams), "waiting": self._answers.box.waiting}

    def ports(self) -> Sequence[Socket | int]:
        # Not read while there is no room: they would wake us again and again.
        always = [self._answers.socket, self._ticks.monitor]
        return always if self._answers.box.full else [*always, self._ticks.socket, *self._streams.ports()]

    def turn(self, now_ns: int) -> int:
        if self._answers.handle():
            self._lose_the_publisher()
        self._see_off()
        self._ticks.handle_monitor()
        self._busy_since_ns = self._busy_since_ns or now_ns
        busy = True
        for _ in range(TURN_MESSAGES):
            if self._answers.box.full:
                break
            delivery = self._ticks.receive()
            if delivery is None:
                busy = False
                break
            self._take_in(delivery)
        busy |= self._step(more=busy)
        may_leave = self._deadline_ns is not None and (not self._streams or self._is_late())
        if may_leave and not self._said_goodbye:
            for source in list(self._recorded):  # whose reader was killed before it could say that it stops
                self._carry(source, last=True)
            self._answers.offer(self._name, Shutdown(source=self._name))
            self._said_goodbye = True
        answers_ns = self._answers.poll() or now_ns
        if busy and not self._answers.box.full:
            return now_ns
        self._busy_since_ns = None
        step_ns = None if self._answers.box.full else self._streams.due_ns()
        return min(now_ns + ANSWER_NS, answers_ns, step_ns or answers_ns)

    def stop(self, now_ns: int) -> None:
        """See the sources off that are there: their ends come, or the time is up."""
        self._deadline_ns = now_ns + round(self._config.wire.drain_s * NS)

    def _is_late(self) -> bool:
        return self._deadline_ns is not None and self._clock.monotonic_ns() >= self._deadline_ns

    def _take_in(self, delivery: Delivery) -> None:
        match delivery.message.body:
            case Tick() as tick:
                self._take_tick(delivery, tick)
            case SessionStart() as start:
                self._take_start(delivery.message.source, start)
                self._ticks.done(delivery)
            case End() as end:
                self._take_end(delivery, end)
            case _:
                self._ticks.done(delivery)

    def _take_start(self, source: str, start: SessionStart) -> None:
        if self._config.mode == "live":
            self._forget(source)
        elif source in self._streams:
            self._tell(self._streams.rest(source))
        if source in self._streams or self._may_begin(source):
            self._answers.offer(source, start)

    def _take_end(self, delivery: Delivery, end: End) -> None:
        source = delivery.message.source
        if not end.complete:
            self._carry(source, last=True)
        self._forget(source)
        self._answers.offer(source, end)
        self._ends.append(delivery)
        if self._config.mode == "live":
            self._see_off(wait=False)

    def _see_off(self, *, wait: bool = True) -> None:
        """Let sources go that have ended, recordings once everything of theirs is written.

        A reader that has gone could not begin again, were the publisher to die with the last answers.
        """
        held = [d for d in self._ends if wait and self._answers.box.holds(d.message.source)]
        for delivery in self._ends:
            if delivery not in held:
                self._ticks.done(delivery)
                self._ticks.box.leave(delivery.peer)
        self._ends = held

    def _refuse(self, error: StageError) -> None:
        """A decode process out of order: live, it may spoil its own stream, never another's."""
        if self._config.mode == "recorded":
            raise error
        self._refused += 1
        log.warning("tick refused (%d so far): %s", self._refused, error)

    def _take_tick(self, delivery: Delivery, tick: Tick) -> None:
        try:
            if tick.head.source not in self._streams:  # its start was in the hands of a process that died
                self._begin(tick.head.source)
            if self._admits(tick):
                self._streams.take(delivery, tick)
                return
        except StageError as error:
            self._refuse(error)
        self._ticks.done(delivery)

    def _admits(self, tick: Tick) -> bool:
        """A recording's ticks: each once."""
        recorded = self._recorded.get(tick.head.source)
        return recorded is None or recorded.admits(tick)

    def _step(self, *, more: bool) -> bool:
        """Have stepped what is due, and tell what is answered. Whether there was anything.

        more  messages are there to be read, while what is being computed is not waited for
        """
        stepped = False
        while not self._answers.box.full:
            answered = self._streams.advance(more=more)
            if answered is None:
                break
            stepped = True
            self._tell(answered)
            for one in answered:
                self._carry(one.delivery.message.source)
        return stepped

    def _tell(self, answered: Sequence[Answered]) -> None:
        for one in answered:
            if one.refused is not None:
                self._refuse(one.refused)
            for answer in one.answers:
                told = self._stamped(answer, one.received_ns, one.begun_ns)
                self._answers.offer(answer.head.source, told)
                self._analysed += 1
            self._ticks.done(one.delivery)

    def _stamped(self, answer: Answer, received_ns: int, begun_ns: int) -> Answer:
        """With our stamp. What was sent while we were busy with others waited for us, wherever it lay."""
        if not self._config.trace:
            return answer
        stamps = answer.head.trace.stamps
        waited_from_ns = max(self._busy_since_ns or received_ns, stamps[-1].end_ns if stamps else 0)
        done_ns = self._clock.monotonic_ns()
        enqueue_ns = min(waited_from_ns, received_ns)
        return replace(answer, head=stamped(answer.head, "analyze", enqueue_ns, begun_ns, done_ns))

    def _carry(self, source: str, *, last: bool = False) -> None:
        """A recording: now and then, and before it is left, what publish needs for a checkpoint."""
        recorded = self._recorded.get(source)
        if recorded is None or not (last or recorded.is_due):
            return
        self._tell(self._streams.rest(source))
        carried = recorded.carried()
        if carried is not None:
            self._answers.offer(source, carried)

    def _may_begin(self, source: str) -> bool:
        """Begin a stream, unless the device is full: then its ticks are refused, and counted."""
        try:
            self._begin(source)
        except StageError as error:
            self._refuse(error)
            return False
        return True

    def _begin(self, source: str) -> None:
        chosen = self._config.sources.get(source)
        ticks = self._config.of(source).ticks
        analyzer = self._streams.begin(source, ticks.max_gap_ms)
        if self._config.mode == "live":
            return
        base = None if chosen is None or chosen.output is None else Path(chosen.output)
        every_s = self._config.outputs.checkpoint_s
        self._recorded[source] = RecordedStream(source, analyzer, base, every_s, self._clock)

    def _forget(self, source: str) -> None:
        """A stream ends; what of it waits to be stepped is answered before."""
        if source in self._streams:
            self._tell(self._streams.rest(source))
            self._streams.forget(source)
        self._recorded.pop(source, None)

    def _lose_the_publisher(self) -> None:
        """Its smoothing and open events are gone: as if we had died too, live sources begin anew and
        recordings at their checkpoints.
        """
        log.warning("the publisher was restarted: all sources begin anew")
        if self._config.mode == "recorded":
            self._answers.box.forget()
            self._ends.clear()
        else:
            self._answers.drop_waiting()
        self._streams.forget_all()
        self._recorded.clear()
        self._ticks.renew()
