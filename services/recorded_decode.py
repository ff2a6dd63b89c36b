"""A recording becomes ticks: read from where its checkpoint left it, assembled beside the loop, sent on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from streamfuse.checkpoint.record import CheckpointFile, decode_analysed
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import RunConfig
from streamfuse.errors import ConfigError, SourceLost, SourceRefused, StreamfuseError, WireError
from streamfuse.media.source import parse_source
from streamfuse.model.inspect import inspect_model
from streamfuse.model.spec import ModelSpec
from streamfuse.pipeline.ticks import RecordedTicks
from streamfuse.services.loop import ANSWER_NS, Reporter, State, Stop, serve
from streamfuse.services.process import CpuAllowance
from streamfuse.services.reader import Finished, Reader
from streamfuse.ticks.resume import ResumePoint
from streamfuse.types import NS, SessionStart, Tick
from streamfuse.wire.headers import End
from streamfuse.wire.link import Outlet
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Socket, Wire

SILENCE_NS = 120 * NS
"""The longest that reading may stay within the decoding library."""


class RecordedDecode:
    """The loop's service: ticks of the reader -> the link, as fast as it takes them.

    gets_on  called again and again while reading is not stuck in the decoding library
    raises   SourceLost where reading hangs; WireError where the analyzer was restarted: this process has to
             be started again, and goes on at the checkpoint
    """

    def __init__(
        self,
        name: str,
        reader: Reader[SessionStart | Tick],
        link: Outlet,
        *,
        drain_ns: int,
        gets_on: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._name, self._reader, self._link = name, reader, link
        self._drain_ns, self._gets_on, self._clock = drain_ns, gets_on, clock
        self._next: SessionStart | Tick | End | None = None
        """Waits for room in the link."""
        self._session, self._reached_ns = -1, 0
        self._passed, self._passed_ns = 0, 0
        """Sessions and time of the passes before, where a file is looped."""
        self._stopping = self._ended = False
        self._deadline_ns: int | None = None
        self.error: StreamfuseError | None = None
        """What ended the recording, where it did not end by itself."""

    @property
    def finished(self) -> bool:
        if self._ended and self._next is None and self._link.box.settled:
            return True
        return self._deadline_ns is not None and self._clock.monotonic_ns() >= self._deadline_ns

    @property
    def final_error(self) -> StreamfuseError:
        """The error as whoever restarts processes should see it: a recording that failed has failed."""
        error = self.error or SourceLost("a source must end by itself", where=self._name)
        if isinstance(error, SourceRefused):
            return error
        return SourceRefused(error.rule, got=error.got, where=error.where, hint=error.hint)

    @property
    def state(self) -> State:
        return "running" if self.error is None else "refused"

    @property
    def counters(self) -> dict[str, int]:
        link = {f"link_{name}": count for name, count in self._link.box.counters.items()}
        return {**self._reader.counters, **link}

    @property
    def gauges(self) -> dict[str, int]:
        link = self._link.box
        return {**self._reader.gauges, "waiting": link.waiting, "under_way": link.under_way}

    def ports(self) -> Sequence[Socket | int]:
        # What the reader has read is not waited for while there is no room for it, or no use.
        wake = [] if self._next is not None or self._ended else [self._reader.wake.fileno()]
        return [self._link.socket, *wake]

    def turn(self, now_ns: int) -> int:
        if self._link.handle():
            hint = "the recording goes on at its checkpoint"
            raise WireError("one analyzer must see a recording through", where=self._name, hint=hint)
        if self._link.box.met:
            self._reader.start()
        if self._reader.gets_on(now_ns, self._name, SILENCE_NS):
            self._gets_on()
        while self._send() and not self._ended:
            item = self._reader.take()
            if item is None and not self._stopping:
                break
            self._take_in(item)
        return min(now_ns + ANSWER_NS, self._link.poll() or now_ns + ANSWER_NS)

    def stop(self, now_ns: int) -> None:
        """Read no more; what was read goes out, then the word that this was not the end."""
        self._stopping = True
        self._reader.stop()
        self._deadline_ns = now_ns + self._drain_ns

    def _take_in(self, item: SessionStart | Tick | Finished | None) -> None:
        if item is None or isinstance(item, Finished):
            self._finish(None if item is None else item.error)
        else:
            self._next = self._placed(item)

    def _placed(self, item: SessionStart | Tick) -> SessionStart | Tick:
        """The item after all that came before it, where a file that is looped has begun again."""
        if isinstance(item, SessionStart):
            if self._passed + item.session <= self._session:
                self._passed, self._passed_ns = self._session + 1, self._reached_ns
            self._session = self._passed + item.session
            return replace(item, session=self._session, offset_ns=self._passed_ns + item.offset_ns)
        offset_ns = self._passed_ns + item.head.offset_ns
        head = replace(item.head, session=self._passed + item.head.session, offset_ns=offset_ns)
        self._reached_ns = head.end_ns
        return replace(item, head=head)

    def _send(self) -> bool:
        """Send what waits; False: there is no room yet."""
        if self._next is not None:
            if self._link.box.full and isinstance(self._next, Tick):
                return False
            self._link.offer(self._name, self._next)
            self._next = None
        return True

    def _finish(self, error: StreamfuseError | None) -> None:
        self.error, self._ended = error, True
        self._next = self._reader.end(self._name, error, self._reader.counters, stopped=self._stopping)
        self._send()


def serve_recording(config: RunConfig, name: str, wire: Wire, reporter: Reporter, stop: Stop) -> None:
    """Read a recording of this run; nothing, where all of it is done already.

    raises  ConfigError, ModelError, SourceRefused; what the service raises
    """
    if name not in config.sources:
        known = ", ".join(sorted(config.sources))
        raise ConfigError("a decode process needs a source of the run", got=name, hint=f"known: {known}")
    spec = inspect_model(config.model.path, sha256=config.model.sha256).spec
    service = _recorded_service(config, name, spec, wire)
    if service is None:
        reporter.report("done")
        return
    serve(service, wire, reporter, stop, SYSTEM)
    if service.error is not None:
        raise service.final_error


def _recorded_service(
    config: RunConfig, name: str, spec: ModelSpec, wire: Wire, clock: Clock = SYSTEM
) -> RecordedDecode | None:
    """None: the recording is done."""
    chosen, own = config.sources[name], config.of(name)
    source = parse_source(chosen.input, allow_hls=chosen.allow_hls)
    point: ResumePoint | None = None
    found = None if chosen.output is None else CheckpointFile(Path(chosen.output)).read()
    if found is not None:
        if found.phase != "running":
            return None
        point = decode_analysed(found.analysed).point

    def open_ticks() -> RecordedTicks:
        return RecordedTicks(
            source,
            spec,
            name=name,
            decode=own.decode,
            ticks=own.ticks,
            span=chosen.span_ns,
            resume=point,
            stamps=config.trace,
            clock=clock,
        )

    reader = Reader(open_ticks, live=False, loop=chosen.loop, clock=clock, rng=random.Random())
    link = Outlet(
        wire,
        config.endpoint("ticks", chosen.analyzer),
        name=name,
        mode="recorded",
        topic=TOPICS["tick"],
        clock=clock,
    )
    drain_ns = round(config.wire.drain_s * NS)
    return RecordedDecode(name, reader, link, drain_ns=drain_ns, gets_on=CpuAllowance().renew, clock=clock)
