"""Answers of all sources become labels and events: smoothed, written, sent to whoever subscribes.

python -m streamfuse.services.publish --config RUN/run.json
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import RunConfig
from streamfuse.errors import StreamfuseError
from streamfuse.model.inspect import inspect_model
from streamfuse.model.spec import ModelSpec
from streamfuse.services.loop import ANSWER_NS, Reporter, State, Stop, serve
from streamfuse.services.outputs import SourceOutput, live_sinks
from streamfuse.services.patience import WaitForRoom
from streamfuse.services.process import load_run, run
from streamfuse.services.recordings import RecordingsService
from streamfuse.services.status import Status
from streamfuse.services.unfinished import Unfinished, sources_left_open
from streamfuse.types import NS, Answer, Event, Label, SessionStart, Still
from streamfuse.view.history import Report, Roster
from streamfuse.view.pictures import Pictures
from streamfuse.wire.broadcast import Publisher, Subscriber
from streamfuse.wire.headers import End, Progress, Shutdown
from streamfuse.wire.keys import Keys
from streamfuse.wire.link import Delivery, Inlet
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Socket, Wire

if TYPE_CHECKING:
    from streamfuse.services.alerts import Alerts
    from streamfuse.view.live import LiveView

log = logging.getLogger(__name__)

TURN_MESSAGES = 64
BACK_NS = 10 * NS
"""For sources whose events a process before us began to come back, or those events end without them."""
LOOK_NS = 2 * NS
"""Between looks at which sources the run has."""
LAST_NOTICES_NS = 3 * NS
"""At the end, for receivers that have not taken everything yet."""


class PublishService:
    """The loop's service for live sources."""

    def __init__(
        self,
        config: RunConfig,
        spec: ModelSpec,
        answers: Inlet,
        world: Publisher,
        status: Status,
        *,
        clock: Clock = SYSTEM,
        stills: Subscriber | None = None,
        view: LiveView | None = None,
        read_again: Callable[[], RunConfig] | None = None,
    ) -> None:
        self._read_again = read_again or (lambda: config)
        self._config, self._spec, self._clock = config, spec, clock
        self._stills, self._view = stills, view
        self.alerts: Alerts | None = None
        """Set before the first answer, where someone is told of events or their pictures are kept."""
        if view is not None:
            status.listen(self._show_report)
        self.pictures = Pictures()
        """Of live sources, where the run makes any."""
        self._answers, self._world, self._status = answers, world, status
        self._look_ns = clock.monotonic_ns() + LOOK_NS
        self._outputs: dict[str, SourceOutput] = {}
        self._left_open = set(sources_left_open(Path(config.run_dir)))
        """Sources whose events a process before us began, until they are back."""
        self._patience_ns = clock.monotonic_ns() + BACK_NS
        self._counts: Counter[str] = Counter(labels=0, events=0, lines_lost=0)
        self._lost_before = 0
        """Lines that sources which have ended could not write."""
        self._deadline_ns: int | None = None
        self.state: State = "running"

    @property
    def finished(self) -> bool:
        if self._deadline_ns is None:
            return False
        # Analyzers that are still there wait for our word that their last answers are written.
        seen_off = not self._outputs and not self._answers.box.peers
        return seen_off or self._clock.monotonic_ns() >= self._deadline_ns

    @property
    def counters(self) -> dict[str, int]:
        view = {} if self._view is None else self._view.counters
        alerts = {} if self.alerts is None else self.alerts.counters
        return {**self._answers.counters, **self._counts, **view, **alerts}

    @property
    def gauges(self) -> dict[str, int]:
        view = {} if self._view is None else {"pages": self._view.pages}
        return {"streams": len(self._outputs), **view}

    def ports(self) -> Sequence[Socket | int]:
        stills = [] if self._stills is None else [self._stills.socket]
        return [self._answers.socket, self._answers.monitor, *self._status.ports(), *stills]

    def turn(self, now_ns: int) -> int:
        self._answers.handle_monitor()
        self._status.turn()
        self._count_lost_lines()
        self._take_stills()
        if self._view is not None and now_ns >= self._look_ns:
            self._look_ns = now_ns + LOOK_NS
            self._follow_sources(self._view)
        if self.alerts is not None:
            self.alerts.turn(now_ns)
        if self._left_open and now_ns >= self._patience_ns:
            self._end_what_was_left_open()
        for _ in range(TURN_MESSAGES):
            delivery = self._answers.receive()
            if delivery is None:
                return now_ns + ANSWER_NS
            self._take_in(delivery)
        return now_ns

    def stop(self, now_ns: int) -> None:
        self._status.stop()
        self._deadline_ns = now_ns + round(self._config.wire.drain_s * NS)

    def close(self) -> None:
        """End every source that has not ended: what is open is flushed, and its files are not complete."""
        self._end_what_was_left_open()
        for name in list(self._outputs):
            self._end(name, End(source=name, complete=False, reason="stopped"))

    def _count_lost_lines(self) -> None:
        lost = self._lost_before + sum(output.lost for output in self._outputs.values())
        if lost == self._counts["lines_lost"]:
            return
        self._counts["lines_lost"] = lost
        for name, output in self._outputs.items():
            self._status.unwritten(name, output.lost)

    def _take_stills(self) -> None:
        while self._stills is not None and (message := self._stills.receive()) is not None:
            if isinstance(message.body, Still):
                self.pictures.push(message.body)
                if self._view is not None:
                    self._view.offer(message.body)

    def _show_report(self, report: Progress) -> None:
        if self._view is not None and report.service == "decode":
            self._view.offer(Report(report.source, report.state, report.counters, report.error))

    def _take_in(self, delivery: Delivery) -> None:
        name, body = delivery.message.source, delivery.message.body
        if isinstance(body, Answer):
            self._publish(name, body)
        elif isinstance(body, SessionStart):
            self._begin(name, body)
        elif isinstance(body, End):
            self._end(name, body)
        self._answers.done(delivery)
        if isinstance(body, Shutdown):
            self._answers.box.leave(delivery.peer)

    def _begin(self, name: str, start: SessionStart) -> None:
        if name in self._outputs:
            self._refresh()
            if self._outputs[name].labels != self._config.of(name).labels:
                # The process that read it was killed on its way out, so that no end came.
                self._end(name, End(source=name, complete=False, reason="it was configured otherwise"))
        if name not in self._outputs:
            self._open(name)
        self._status.session(name, start)
        if self._view is not None:
            self._view.offer((name, start))

    def _open(self, name: str) -> SourceOutput:
        self._refresh()
        sinks = live_sinks(self._config.live, name)
        attach = None if self.alerts is None else self.alerts.attach
        self._left_open.discard(name)
        unfinished = Unfinished(Path(self._config.run_dir), name)
        output = SourceOutput(name, self._config, self._spec, sinks, self._clock, attach, unfinished)
        self._outputs[name] = output
        self._status.unwritten(name, output.lost)
        return output

    def _refresh(self) -> None:
        """A source may have been added, or changed, since we began."""
        try:
            self._config = self._read_again()
        except StreamfuseError as error:  # a file that a person is writing
            log.warning("the configuration stays as it was: %s", error)

    def _follow_sources(self, view: LiveView) -> None:
        """The page shows the sources that the run has, also one that has never been reached."""
        self._refresh()
        names = (*self._config.sources, *self._outputs)  # what still sends is not over yet
        view.offer(Roster(names, frozenset(self._config.paused)))

    def _end_what_was_left_open(self) -> None:
        """Of sources that have not come back: whoever was told of a beginning is told of the end."""
        for name in list(self._left_open):
            self._open(name)
            self._end(name, End(source=name, complete=False, reason="publish was restarted"))

    def _publish(self, name: str, answer: Answer) -> None:
        output = self._outputs.get(name) or self._open(name)
        for told in output.push(answer, self._clock.monotonic_ns()):
            self._tell(told)

    def _end(self, name: str, end: End) -> None:
        output = self._outputs.get(name)
        if output is not None:
            for told in output.flush():
                self._tell(told)
            output.close(end.complete)
            self._count_lost_lines()
            self._lost_before += output.lost
            del self._outputs[name]
        self._status.ended(name)
        if self.alerts is not None:
            self.alerts.ended(name)

    def _tell(self, told: Label | Event) -> None:
        if isinstance(told, Label):
            self._counts["labels"] += 1
            self._world.publish(told.head.source, told)
        else:
            self._counts["events"] += 1
            self._world.publish(told.source, told)
        self._status.told(told)
        if self.alerts is not None:
            self.alerts.tell(told)
        if self._view is not None:
            self._view.offer(told)


def main(arguments: argparse.Namespace) -> None:
    stop = Stop()
    config = load_run(arguments.config)
    wire = Wire(None if config.wire.keys is None else Keys(Path(config.wire.keys)))
    reporter = Reporter(
        wire, (config.endpoint("progress"), config.endpoint("status")), "publish", "publish", SYSTEM
    )
    with reporter.last_words():
        answers = Inlet(
            wire,
            config.endpoint("answers"),
            mode=config.mode,
            topic=TOPICS["answer"],
            accepts=("answer", "carried", "start", "end", "shutdown"),
        )
        reporter.report("starting")
        world = Publisher(wire, topic=TOPICS["label"], bind=config.endpoint("labels"))
        seen = Subscriber(wire, topics=["progress"], bind=config.endpoint("status"))
        model = inspect_model(config.model.path, sha256=config.model.sha256)
        status = Status(config, seen, model=model.spec.name)
        with closing(status), ExitStack() as ends:
            if config.mode == "recorded":
                patience = WaitForRoom(reporter, stop)
                recordings = RecordingsService(
                    config, model, answers, world, status, patience=patience, allow=reporter.allow
                )
                ends.callback(recordings.close)
                serve(recordings, wire, reporter, stop, SYSTEM)
            else:
                live = _live(arguments.config, config, model.spec, answers, world, status, wire, ends)
                serve(live, wire, reporter, stop, SYSTEM)
                ends.close()  # what it took to end is in the last report
                reporter.report("done", live.counters, live.gauges)
    wire.close(within_ms=500)


def _live(
    file: Path,
    config: RunConfig,
    spec: ModelSpec,
    answers: Inlet,
    world: Publisher,
    status: Status,
    wire: Wire,
    ends: ExitStack,
) -> PublishService:
    """The service with what this run wants beside files; `ends` closes them after it."""
    view = None
    if config.view.address is not None:
        from streamfuse.view.live import LiveView  # a web server, for the runs that have a page

        view = LiveView(config.view, spec, list(config.sources))
        ends.callback(view.close)
    stills = None
    if config.wants_pictures:
        stills = Subscriber(wire, topics=["picture"], bind=config.endpoint("pictures"))
    service = PublishService(
        config, spec, answers, world, status, stills=stills, view=view, read_again=partial(load_run, file)
    )
    if config.notify.wanted:
        from streamfuse.services.alerts import Alerts  # MQTT and HTTP, for the runs that tell of events

        service.alerts = Alerts(config, spec, service.pictures, status)
        ends.callback(service.alerts.close, LAST_NOTICES_NS)
    ends.callback(service.close)
    return service


def begin() -> None:
    """The whole life of this process, its command line in sys.argv."""
    run(main, private=False)


if __name__ == "__main__":
    begin()
