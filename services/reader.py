"""The thread that reads a source: opens it, paces it where it has no pace of its own, opens it again.

The loop must never wait for a camera, and a camera may block for as long as it likes; so reading has a
thread of its own. It alone touches the decoder, which is closed where it is read (closing it elsewhere
while it demuxes is a use after free).
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

from streamfuse.clock import Clock
from streamfuse.errors import SourceError, SourceLost, SourceRefused, StreamfuseError
from streamfuse.media.probe import SourceInfo
from streamfuse.media.source import Pacing
from streamfuse.pipeline.live import Pacer, pacer_for
from streamfuse.services.backoff import Backoff
from streamfuse.services.loop import Wake
from streamfuse.types import NS, MediaItem
from streamfuse.wire.codec import printable
from streamfuse.wire.headers import End

log = logging.getLogger(__name__)

AHEAD_ITEMS = 16
"""Frames and chunks read ahead of the loop: 200 MB where the pictures are 4K."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing more comes: the input ended (error None), or the error that ends it."""

    error: StreamfuseError | None = None


Item = TypeVar("Item")
Given = TypeVar("Given", covariant=True)


class Opened(Protocol[Given]):
    """An opened source: a Decoder, or the RecordedTicks of a recording."""

    @property
    def info(self) -> SourceInfo: ...
    @property
    def position_ns(self) -> int: ...
    @property
    def pacing(self) -> Pacing: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def counters(self) -> dict[str, int]: ...
    def __iter__(self) -> Iterator[Given]: ...
    def close(self) -> None: ...


class Reader(Generic[Item]):
    """Items of a source, oldest first, for one reader; `wake` is readable when there are some.

    open_source  opens the source anew; raises SourceError
    live         lost sources are opened again, and those without a pace of their own are given one
    loop         what ends by itself begins again
    """

    def __init__(
        self,
        open_source: Callable[[], Opened[Item]],
        *,
        live: bool,
        loop: bool,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._open_source, self._live, self._loop, self._clock = open_source, live, loop, clock
        self._pacer: Pacer | None = None
        self._backoff = Backoff(rng)
        self.wake = Wake()
        self._items: deque[Item | Finished] = deque()
        self._room = threading.Condition()
        self._stopped = threading.Event()
        self._decoder: Opened[Item] | None = None
        self._past: Counter[str] = Counter(reconnects=0)
        self.truncated = False
        self.position_ns = 0
        self.duration_ns = 0
        """What the container says of its length; 0 where it does not."""
        self.transport_ns: int | None = None
        """Of the last picture, from the sender's wall clock to its arrival here, where it tells its time."""
        self.connected = False
        self.trouble = ""
        """Why the source is away: the last error, until something comes again."""
        self._waiting_until_ns: int | None = None
        self._moved_ns = clock.monotonic_ns()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._started = False

    def start(self) -> None:
        """Begin to read; again is nothing."""
        if not self._started:
            self._started = True
            self._thread.start()

    @property
    def counters(self) -> dict[str, int]:
        """Totals over all connections."""
        total, decoder = Counter(self._past), self._decoder
        if decoder is not None:
            total.update(decoder.counters)  # `+` would leave out what is zero
        return dict(total)

    @property
    def gauges(self) -> dict[str, int]:
        return {
            "source_up": int(self.connected),
            "position_ns": self.position_ns,
            "duration_ns": self.duration_ns,
        }

    def end(
        self, name: str, error: StreamfuseError | None, counters: dict[str, int], *, stopped: bool
    ) -> End:
        """What is said of the source once nothing more comes of it."""
        reason = str(error) if error is not None else "stopped" if stopped else ""
        return End(
            source=name,
            complete=error is None and not stopped,
            truncated=self.truncated,
            duration_ns=max(0, self.position_ns),
            container_ns=max(0, self.duration_ns),
            reason=printable(reason),
            counters=counters,
        )

    def take(self) -> Item | Finished | None:
        """The next item, or None: nothing has come."""
        with self._room:
            item = self._items.popleft() if self._items else None
            if not self._items:
                self.wake.clear()
            self._room.notify()
        return item

    def stop(self) -> None:
        """Read no more; what was read can still be taken."""
        self._stopped.set()
        with self._room:
            self._room.notify()

    def gets_on(self, now_ns: int, name: str, most_ns: int) -> bool:
        """Whether reading is not stuck in the decoding library. SourceLost where it has been for so long."""
        silent_ns = self.silent_ns(now_ns)
        if silent_ns > most_ns and not self._stopped.is_set():
            got = f"nothing for {most_ns // NS} s"
            raise SourceLost("reading must go on or fail", got=got, where=name)
        return silent_ns < NS

    def silent_ns(self, now_ns: int) -> int:
        """How long the thread has been in the hands of the decoding library."""
        if (
            not self._thread.is_alive()
            or self._waiting_until_ns is not None
            or len(self._items) >= AHEAD_ITEMS
        ):
            return 0
        return now_ns - self._moved_ns

    def _run(self) -> None:
        try:
            error: StreamfuseError | None = self._read_all()
        except StreamfuseError as raised:
            error = raised
        except Exception as raised:
            log.exception("reading failed")
            error = SourceLost("reading must not fail", got=type(raised).__name__)
        self._put(Finished(error))

    def _read_all(self) -> SourceError | None:
        while not self._stopped.is_set():
            began_ns = self._clock.monotonic_ns()
            lost: SourceLost | None = None
            first_ns: int | None = None
            try:
                first_ns = self._read_once()
            except SourceLost as error:
                lost, first_ns = error, self._first_ns
            except SourceRefused as error:
                # A camera that worked and now refuses is starting up; one that never worked is misconfigured.
                if not (self._live and self._backoff.has_worked):
                    raise
                lost = SourceLost(error.rule, got=error.got, where=error.where)
            if not (self._loop if lost is None else self._live):
                return lost
            self.trouble = "" if lost is None else str(lost)
            worked_ns = 0 if first_ns is None else max(1, self._clock.monotonic_ns() - began_ns)
            if lost is not None:
                if not self._wait(self._backoff.next_ns(worked_ns)):
                    break
                self._past["reconnects"] += 1
            else:  # a file that begins again was never away
                self._past["loops"] += 1
        return None

    def _read_once(self) -> int | None:
        """Open and read to the end; return when the first item came."""
        self._first_ns: int | None = None
        self._moved_ns = self._clock.monotonic_ns()
        self._decoder = decoder = self._open_source()
        self.duration_ns = decoder.info.duration_ns or 0
        self._pacer = pacer_for(decoder.pacing, self._clock) if self._live else None
        try:
            for item in decoder:
                if self._stopped.is_set():
                    break
                self._moved_ns = self._clock.monotonic_ns()
                self._first_ns = self._first_ns or self._moved_ns
                self.connected, self.trouble = True, ""
                self._put(self._in_time(item))
                self.position_ns = decoder.position_ns
                self.transport_ns = getattr(decoder, "transport_ns", None)  # a recording has none
        finally:
            self.connected = False
            decoder.close()
            self.truncated = decoder.truncated
            self._past.update(decoder.counters)
            self._decoder = None
        return self._first_ns

    def _in_time(self, item: Item) -> Item:
        """Live sources without a pace of their own, which are media, wait for their time."""
        if self._pacer is None:
            return item
        return cast(Item, self._pacer.pace(cast(MediaItem, item), self._stopped))

    def _put(self, item: Item | Finished) -> None:
        with self._room:
            while len(self._items) >= AHEAD_ITEMS and not self._stopped.is_set():
                self._room.wait()
            self._items.append(item)
            self.wake.set()
        self._moved_ns = self._clock.monotonic_ns()

    def _wait(self, pause_ns: int) -> bool:
        """Leave the source alone for so long; False: stopped meanwhile."""
        self._waiting_until_ns = self._clock.monotonic_ns() + pause_ns
        stopped = self._stopped.wait(pause_ns / NS)
        self._waiting_until_ns = None
        return not stopped
