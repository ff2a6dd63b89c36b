"""Ticks of all sources become answers: kernels and one step of the model each, on one device.

python -m streamfuse.services.analyze --config RUN/run.json --name 0 [--standby]
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from streamfuse.analysis import TickAnalyzer
from streamfuse.batch import BatchAnalyzer
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import RunConfig
from streamfuse.errors import ModelError, StageError
from streamfuse.model.runtime import Model, load_model
from streamfuse.services.batches import Answered, Batches, first_tick, stepped_together
from streamfuse.services.loop import ANSWER_NS, Reporter, State, Stop, serve
from streamfuse.services.process import deadline, load_run, run
from streamfuse.services.recorded_stream import Analyzing, RecordedStream
from streamfuse.trace import stamped
from streamfuse.types import MS, NS, Answer, SessionStart, Tick
from streamfuse.wire.endpoints import EndpointLock
from streamfuse.wire.headers import End, Shutdown
from streamfuse.wire.keys import Keys
from streamfuse.wire.link import Delivery, Inlet, Outlet
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Socket, Wire, wait

log = logging.getLogger(__name__)

TURN_MESSAGES = 16
"""Messages handled before the loop looks at signals and reports again: 50 ms of a busy CPU."""
DRY_RUN_S = 50
"""For loading a model and its first steps: less than the supervisor gives a process to start."""
STANDS_BY = "warm; stands by"
STANDBY_NS = 50 * MS
"""How often a warm spare looks whether it is needed."""


class AnalyzeService:
    """The loop's service: each source has its own state.

    together  on a GPU: steps the ticks of all sources in batches; None: each is stepped alone,
              whatever company it has
    """

    def __init__(
        self,
        name: str,
        model: Model,
        config: RunConfig,
        ticks: Inlet,
        answers: Outlet,
        *,
        together: BatchAnalyzer | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._batches = None if together is None else Batches(together, clock)
        self._name, self._model, self._config = name, model, config
        self._ticks, self._answers, self._clock = ticks, answers, clock
        self._streams: dict[str, TickAnalyzer] = {}
        """Those that are stepped alone."""
        self._recorded: dict[str, RecordedStream] = {}
        self._analysed = self._refused = self._bad_answers = 0
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
        bad = self._bad_answers + sum(s.counters["bad_answers"] for s in self._streams.values())
        bad += self._batches.counters["bad_answers"] if self._batches else 0
        own = {"analysed": self._analysed, "refused": self._refused, "bad_answers": bad}
        return {**self._ticks.counters, **link, **own}

    @property
    def gauges(self) -> dict[str, int]:
        return {"streams": self._open, "waiting": self._answers.box.waiting}

    @property
    def _open(self) -> int:
        return len(self._streams) if self._batches is None else self._batches.streams

    def ports(self) -> Sequence[Socket | int]:
        inputs = [] if self._answers.box.full else [self._ticks.socket]
        return [self._answers.socket, self._ticks.monitor, *inputs]

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
        batch_ns = self._step_batches(more=busy)
        may_leave = self._deadline_ns is not None and (not self._open or self._is_late())
        if may_leave and not self._said_goodbye:
            self._answers.offer(self._name, Shutdown(source=self._name))
            self._said_goodbye = True
        due_ns = min(self._answers.poll() or now_ns, batch_ns)
        if busy and not self._answers.box.full:
            return now_ns
        self._busy_since_ns = None
        return min(now_ns + ANSWER_NS, due_ns)

    def stop(self, now_ns: int) -> None:
        """See the sources off that are there: their ends come, or the time is up."""
        self._deadline_ns = now_ns + round(self._config.wire.drain_s * NS)

    def _is_late(self) -> bool:
        return self._deadline_ns is not None and self._clock.monotonic_ns() >= self._deadline_ns

    def _take_in(self, delivery: Delivery) -> None:
        source, body = delivery.message.source, delivery.message.body
        if isinstance(body, Tick):
            if self._batches is not None:
                self._let_wait(self._batches, delivery, body)
                return
            self._step(body)
        elif isinstance(body, SessionStart):
            if self._config.mode == "live":
                self._forget(source)
            elif self._batches is not None:
                self._tell(self._batches.rest(source))
            if not self._knows(source) and not self._may_begin(source):
                self._ticks.done(delivery)
                return
            self._answers.offer(source, body)
        elif isinstance(body, End):
            if not body.complete:
                self._carry(source, last=True)
            self._forget(source)
            self._answers.offer(source, body)
        if not isinstance(body, End):
            self._ticks.done(delivery)
            return
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

    def _step(self, tick: Tick) -> None:
        received_ns = self._clock.monotonic_ns()
        source = tick.head.source
        if source not in self._streams:  # its start was in the hands of a process that died
            self._begin(source)
        try:
            answers = self._streams[source].push(tick) if self._admits(tick) else []
        except StageError as error:
            if self._config.mode == "recorded":
                raise
            self._refuse(error)
            return
        for answer in answers:
            self._answers.offer(source, self._stamped(answer, received_ns, received_ns))
            self._analysed += 1
        self._carry(source)

    def _refuse(self, error: StageError) -> None:
        """A decode process out of order: it may spoil its own stream, never another's."""
        self._refused += 1
        log.warning("tick refused (%d so far): %s", self._refused, error)

    def _let_wait(self, batches: Batches, delivery: Delivery, tick: Tick) -> None:
        try:
            if not batches.knows(tick.head.source):
                self._begin(tick.head.source)
            if self._admits(tick):
                batches.take(delivery, tick)
                return
        except StageError as error:
            if self._config.mode == "recorded":
                raise
            self._refuse(error)
        self._ticks.done(delivery)

    def _admits(self, tick: Tick) -> bool:
        """A recording's ticks: each once."""
        recorded = self._recorded.get(tick.head.source)
        return recorded is None or recorded.admits(tick)

    def _step_batches(self, *, more: bool) -> int:
        """Step what is due; return when the next batch is, at the latest (monotonic ns).

        more  messages are there to be read while the last batch is computed: it is not waited for
        """
        while self._batches is not None and not self._answers.box.full:
            now_ns, due_ns = self._clock.monotonic_ns(), self._batches.due_ns()
            if due_ns is not None and due_ns <= now_ns:
                answered = self._batches.step()
            elif self._batches.under_way and not more:
                answered = self._batches.collect()
            else:
                return due_ns or now_ns + ANSWER_NS
            self._tell(answered)
            for one in answered:
                self._carry(one.answer.head.source)
        return self._clock.monotonic_ns() + ANSWER_NS

    def _tell(self, answered: Sequence[Answered]) -> None:
        for one in answered:
            source = one.answer.head.source
            self._answers.offer(source, self._stamped(one.answer, one.received_ns, one.begun_ns))
            self._ticks.done(one.delivery)
            self._analysed += 1

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
        if self._batches is not None:
            self._tell(self._batches.rest(source))
        carried = recorded.carried()
        if carried is not None:
            self._answers.offer(source, carried)

    def _knows(self, source: str) -> bool:
        return source in self._streams or (self._batches is not None and self._batches.knows(source))

    def _may_begin(self, source: str) -> bool:
        """Begin a stream, unless the device is full: then its ticks are refused, and counted."""
        try:
            self._begin(source)
        except StageError as error:
            if self._config.mode == "recorded":
                raise
            self._refuse(error)
            return False
        return True

    def _begin(self, source: str) -> None:
        chosen = self._config.sources.get(source)
        ticks = (chosen.ticks if chosen else None) or self._config.ticks
        analyzer: Analyzing
        if self._batches is not None:
            analyzer = self._batches.begin(source, ticks.max_gap_ms)
        else:
            analyzer = self._streams[source] = TickAnalyzer(self._model, max_gap_ms=ticks.max_gap_ms)
        if self._config.mode == "live":
            return
        base = None if chosen is None or chosen.output is None else Path(chosen.output)
        every_s = self._config.outputs.checkpoint_s
        self._recorded[source] = RecordedStream(source, analyzer, base, every_s, self._clock)

    def _forget(self, source: str) -> None:
        """A stream ends; what of it waits for its batch is answered before."""
        if self._batches is not None and self._batches.knows(source):
            self._tell(self._batches.rest(source))
            self._batches.forget(source)
        self._recorded.pop(source, None)
        stream = self._streams.pop(source, None)
        if stream is not None:
            self._bad_answers += stream.counters["bad_answers"]

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
        if self._batches is not None:
            self._batches.forget_all()
        for source in [*self._streams, *self._recorded]:
            self._forget(source)
        self._ticks.renew()


def main(arguments: argparse.Namespace) -> None:
    stop = Stop()
    config = load_run(arguments.config)
    wire = Wire(None if config.wire.keys is None else Keys(Path(config.wire.keys)))
    name: str = arguments.name
    endpoint = config.endpoint("ticks", name)
    watchers = (config.endpoint("progress"), config.endpoint("status"))
    reporter = Reporter(wire, watchers, "analyze", name, SYSTEM)
    with reporter.last_words():
        lock = EndpointLock(endpoint)
        if not arguments.standby:
            lock.acquire()
        reporter.report("starting")
        endless = ModelError(
            "a model must answer", got=f"no answer within {DRY_RUN_S} s", where=config.model.path
        )
        with deadline(DRY_RUN_S, endless):
            model = load_model(
                config.model.path,
                device=config.device(name),
                sha256=config.model.sha256,
                threads=config.model.threads,
            )
            model.warm_up()
        reporter.device = str(model.device)
        together = stepped_together(model, config)
        if together is None:
            TickAnalyzer(model).push(first_tick(model.spec))
        else:
            together.warm_up(first_tick(model.spec))
        if not _is_needed(lock, reporter, stop):
            return
        ticks = Inlet(
            wire,
            endpoint,
            mode=config.mode,
            topic=TOPICS["tick"],
            accepts=("tick", "start", "end", "shutdown"),
            own_only=True,
            lock=lock,
        )
        answers = Outlet(
            wire,
            config.endpoint("answers"),
            name=f"analyze {name}",
            mode=config.mode,
            topic=TOPICS["answer"],
            clock=SYSTEM,
        )
        service = AnalyzeService(f"analyze {name}", model, config, ticks, answers, together=together)
        serve(service, wire, reporter, stop, SYSTEM)
    wire.close(within_ms=200)


def _is_needed(lock: EndpointLock, reporter: Reporter, stop: Stop) -> bool:
    """Wait, warm, until no other process serves the address; False: asked to stop first."""
    if lock.try_acquire():
        return True
    log.info(STANDS_BY)
    while not lock.try_acquire():
        if stop.asked:
            reporter.report("done")
            return False
        reporter.report("standby")
        wait([stop.wake.fileno()], STANDBY_NS)
    return True


if __name__ == "__main__":
    run(main, "name", "standby?")
