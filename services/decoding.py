"""What the decode process of a live source does in a turn: items of its reader -> ticks -> the link."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from streamfuse.clock import SYSTEM, Clock
from streamfuse.errors import BackendError, SourceLost, SourceRefused, StreamfuseError
from streamfuse.services.keeping import Keeping
from streamfuse.services.loop import ANSWER_NS, State
from streamfuse.services.reader import Finished, Reader
from streamfuse.services.sessions import LiveSessions
from streamfuse.services.stills import StillMaker
from streamfuse.ticks.assemble import Assembler
from streamfuse.ticks.drift import Drift
from streamfuse.trace import last_arrival_ns, stamped
from streamfuse.types import NS, MediaItem, SessionStart, Tick, VideoFrame
from streamfuse.wire.headers import End
from streamfuse.wire.link import Outlet
from streamfuse.wire.transport import Socket

DECODE_NS = 60 * NS
"""The longest that reading may stay within the decoding library beyond its own timeouts."""


class DecodeService:
    """The loop's service for live sources: items of the reader -> ticks -> the link.

    sessions  where sessions get their numbers
    gets_on   called again and again while reading is not stuck in the decoding library
    raises    SourceLost where reading hangs
    """

    def __init__(
        self,
        name: str,
        reader: Reader[MediaItem],
        assembler: Assembler,
        link: Outlet,
        *,
        hop_ns: int,
        sessions: LiveSessions,
        silence_ns: int = DECODE_NS,
        drain_ns: int = 5 * NS,
        trace: bool = True,
        gets_on: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM,
        stills: StillMaker | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._stills, self._trace = stills, trace
        self.keeping = keeping
        self._gets_on = gets_on
        self._name, self._reader, self._assembler, self._link = name, reader, assembler, link
        self._hop_ns, self._sessions = hop_ns, sessions
        self._silence_ns, self._drain_ns, self._clock = silence_ns, drain_ns, clock
        self._drift = Drift()
        self._made: deque[Tick | SessionStart | End] = deque()
        """Waits for the link, which has room always."""
        self._stopping = self._ended = False
        self._deadline_ns: int | None = None
        self.error: StreamfuseError | None = None
        """What ended the source, where it did not end by itself."""

    @property
    def finished(self) -> bool:
        if self._ended and not self._made and self._link.box.settled:
            return True
        return self._deadline_ns is not None and self._clock.monotonic_ns() >= self._deadline_ns

    @property
    def final_error(self) -> StreamfuseError:
        """The error as whoever restarts processes should see it."""
        return self.error or SourceLost("a source must end by itself", where=self._name)

    @property
    def state(self) -> State:
        if self.error is not None:
            return "refused" if isinstance(self.error, SourceRefused | BackendError) else "failed"
        return "running" if self._reader.connected else "waiting"

    @property
    def trouble(self) -> str:
        return self._reader.trouble if self.error is None else str(self.error)

    @property
    def counters(self) -> dict[str, int]:
        link = {f"link_{name}": count for name, count in self._link.box.counters.items()}
        stills = {} if self._stills is None else self._stills.counters
        kept = {} if self.keeping is None else self.keeping.counters
        return {**self._reader.counters, **self._assembler.counters, **link, **stills, **kept}

    @property
    def gauges(self) -> dict[str, int]:
        told = {"transport_ns": self._reader.transport_ns, "av_drift_ppb": self._drift.ppb}
        return {
            **{name: value for name, value in told.items() if value is not None},
            **self._reader.gauges,
            "waiting": self._link.box.waiting,
            "under_way": self._link.box.under_way,
        }

    def ports(self) -> Sequence[Socket | int]:
        # What the reader has read is not waited for while there is no room for it, or no use.
        wake = [] if self._made or self._ended else [self._reader.wake.fileno()]
        if self._stills is not None:
            wake.append(self._stills.wake.fileno())
        kept = () if self.keeping is None else self.keeping.ports()
        return [self._link.socket, *wake, *kept]

    def turn(self, now_ns: int) -> int:
        if self._link.handle():
            self._lose_the_analyzer()
        if self._link.box.met:  # before, an analyzer that is still warming up would miss the beginning
            self._reader.start()
        if self._reader.gets_on(now_ns, self._name, self._silence_ns):
            self._gets_on()
        if self._stills is not None:
            self._stills.send()
        if self.keeping is not None:
            self.keeping.turn()
        self._send()
        while not self._made and not self._ended:
            item = self._reader.take()
            if item is None and not self._stopping:
                break
            self._take_in(item)
            self._send()
        if not self._ended:
            self._make(self._assembler.poll(self._clock.monotonic_ns()), now_ns)
            self._send()
        due = (self._link.poll(), self._assembler.deadline_ns)
        return min([now_ns + ANSWER_NS, *(due_ns for due_ns in due if due_ns is not None)])

    def stop(self, now_ns: int) -> None:
        """Read no more; what was read goes out, then the source's end."""
        self._stopping = True
        self._reader.stop()
        self._deadline_ns = now_ns + self._drain_ns

    def _take_in(self, item: MediaItem | Finished | None) -> None:
        now_ns = self._clock.monotonic_ns()
        if item is None or isinstance(item, Finished):
            self._finish(None if item is None else item.error, now_ns)
            return
        if self._stills is not None and isinstance(item, VideoFrame):
            self._stills.offer(item)
        self._drift.push(item)
        self._make(self._assembler.push(item, now_ns), now_ns)
        if isinstance(item, SessionStart):  # after the last ticks of the session before
            start = self._sessions.begin(item, self._clock.wall_ns())
            if self._stills is not None:
                self._stills.session(start)
            if self.keeping is not None:
                self.keeping.session(start)
            self._made.append(start)

    def _make(self, ticks: list[Tick], began_ns: int) -> None:
        """Put stamps on new ticks and queue them for the link."""
        for tick in ticks:
            placed = self._dated(self._sessions.place(tick))
            if self._trace:
                arrived_ns = last_arrival_ns(placed.head.trace) or began_ns
                head = stamped(placed.head, "decode", arrived_ns, began_ns, self._clock.monotonic_ns())
                placed = replace(placed, head=head)
            self._made.append(placed)

    def _dated(self, tick: Tick) -> Tick:
        """The wall clock is read here alone, so that the run and its replay tell the same time."""
        now_ns = self._clock.monotonic_ns()
        arrived_ns = last_arrival_ns(tick.head.trace) or now_ns
        return replace(tick, head=replace(tick.head, wall_ns=self._clock.wall_ns() - (now_ns - arrived_ns)))

    def _send(self) -> None:
        while self._made:
            self._link.offer(self._name, self._made.popleft())

    def _finish(self, error: StreamfuseError | None, now_ns: int) -> None:
        self._make(self._assembler.flush(), now_ns)
        self.error, self._ended = error, True
        if error is not None and self._deadline_ns is None:
            self._deadline_ns = now_ns + self._drain_ns
        counters = {**self._reader.counters, **self._assembler.counters}
        self._made.append(self._reader.end(self._name, error, counters, stopped=self._stopping))

    def _lose_the_analyzer(self) -> None:
        """What it had, and its state of this source, are gone: a new session, and nothing of the old one."""
        self._link.drop_waiting()
        start = self._sessions.begin_again(self._hop_ns, "the analyzer was restarted")
        if start is not None and not self._ended:
            if self._stills is not None:
                self._stills.session(start)
            if self.keeping is not None:
                self.keeping.session(start)
            self._link.offer(self._name, start)
