"""The one loop of every service: wait, take a turn, say how things are, stop when asked."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Literal, Protocol, runtime_checkable

from streamfuse.clock import Clock
from streamfuse.errors import SourceRefused, StreamfuseError
from streamfuse.supervise.child import RESTARTS, SPARE
from streamfuse.supervise.systemd import Pulse, Systemd
from streamfuse.types import MS, NS
from streamfuse.wire.broadcast import Publisher
from streamfuse.wire.codec import printable
from streamfuse.wire.headers import Progress
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Socket, Wire, wait

REPORT_NS = 500 * MS
"""Twice a second: the supervisor calls a process dead that has been silent for three seconds."""
ANSWER_NS = 100 * MS
"""The longest wait in one turn, so that nothing depends on a wake-up that was missed."""

State = Literal["starting", "standby", "running", "waiting", "draining", "done", "failed", "refused"]
Kind = Literal["decode", "analyze", "publish"]


class Service(Protocol):
    """What a service does in a turn. Everything about media, models and files is behind this."""

    def ports(self) -> Sequence[Socket | int]:
        """What to wait for."""
        ...

    def turn(self, now_ns: int) -> int:
        """Do what can be done without waiting; return when to come again at the latest (monotonic ns)."""
        ...

    def stop(self, now_ns: int) -> None:
        """Take nothing new in; `finished` turns true when what is under way has been seen off."""
        ...

    @property
    def finished(self) -> bool: ...
    @property
    def state(self) -> State: ...
    @property
    def counters(self) -> dict[str, int]: ...
    @property
    def gauges(self) -> dict[str, int]: ...


@runtime_checkable
class Troubled(Protocol):
    """A service that says why it waits, or has failed."""

    @property
    def trouble(self) -> str:
        """In words, without secrets; empty: nothing is wrong."""
        ...


class Wake:
    """A file descriptor that another thread or a signal makes readable."""

    def __init__(self) -> None:
        self._handle = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._handle

    def set(self) -> None:
        os.eventfd_write(self._handle, 1)

    def clear(self) -> None:
        try:
            os.eventfd_read(self._handle)
        except BlockingIOError:
            return


class Stop:
    """SIGINT and SIGTERM: the first asks, the second ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self.wake = Wake()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True
        self.wake.set()


class Reporter:
    """Sends a service's progress to those who watch it."""

    def __init__(self, wire: Wire, endpoints: Iterable[str], kind: Kind, name: str, clock: Clock) -> None:
        self._publisher = Publisher(wire, topic=TOPICS["progress"], connect=list(endpoints))
        self._kind, self._name, self._clock = kind, name, clock
        self._restarts = int(os.environ.get(RESTARTS) or 0)
        self._spare = bool(os.environ.get(SPARE))
        self.device = ""
        """Where an analyzer's model runs, once it knows."""
        self._counter = 0
        self._due_ns = 0
        self._last_state: State | None = None

    @property
    def due_ns(self) -> int:
        return self._due_ns

    def report(
        self,
        state: State,
        counters: dict[str, int] | None = None,
        gauges: dict[str, int] | None = None,
        *,
        error: str = "",
        allowance_ms: int = 0,
    ) -> None:
        """Count a turn; send it where it is time, or the state is another than last time."""
        self._counter += 1
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._due_ns and state == self._last_state and not error:
            return
        self._due_ns, self._last_state = now_ns + REPORT_NS, state
        body = Progress(
            source=self._name,
            service=self._kind,
            pid=os.getpid(),
            counter=self._counter,
            allowance_ms=allowance_ms,
            state=state,
            counters=counters or {},
            gauges={"rss_bytes": rss_bytes(), "cpu_ns": cpu_ns(), **(gauges or {})},
            error=error,
            restarts=self._restarts,
            spare=self._spare,
            device=self.device,
        )
        self._publisher.publish(self._name, body)

    def follow(self, service: Service, state: State) -> None:
        """Count a turn; gather what the service counts only where a report is due."""
        if self._clock.monotonic_ns() < self._due_ns and state == self._last_state:
            self._counter += 1
            return
        away = state in ("waiting", "failed", "refused")
        trouble = service.trouble if away and isinstance(service, Troubled) else ""
        self.report(state, service.counters, service.gauges, error=printable(trouble))

    def allow(self, allowance_ms: int) -> None:
        """Say at once that the next step may take so long."""
        self._due_ns = 0
        self.report(self._last_state or "running", allowance_ms=allowance_ms)

    @contextmanager
    def last_words(self) -> Iterator[None]:
        """Say what ends the process, where an error does."""
        try:
            yield
        except StreamfuseError as error:
            state: State = "refused" if isinstance(error, SourceRefused) else "failed"
            self.report(state, error=printable(str(error)))
            raise


def serve(service: Service, wire: Wire, reporter: Reporter, stop: Stop, clock: Clock) -> None:
    """Turn until the service has finished. Its errors come out as they are."""
    asked = False
    checked_ns = turns = 0
    pulse = Pulse(Systemd.from_environment())
    while not service.finished:
        now_ns = clock.monotonic_ns()
        turns += 1
        if asked:
            pulse.stopping(now_ns)
        else:
            pulse.beat(now_ns, turns)
        if stop.asked and not asked:
            asked = True
            service.stop(now_ns)
        if now_ns - checked_ns >= NS:
            checked_ns = now_ns
            wire.check()
        due_ns = service.turn(now_ns)
        state: State = "draining" if asked else service.state
        reporter.follow(service, state)
        if not service.finished:
            until_ns = min(due_ns, reporter.due_ns, now_ns + ANSWER_NS)
            wait([*service.ports(), stop.wake.fileno()], until_ns - clock.monotonic_ns())
            if stop.asked:
                stop.wake.clear()
    if service.state not in ("failed", "refused"):
        reporter.report("done", service.counters, service.gauges)


def cpu_ns() -> int:
    """Processor time that this process has used, in all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round((used.ru_utime + used.ru_stime) * NS)


def rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  twice a second, without a Path
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
