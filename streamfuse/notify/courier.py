"""One target's notices: a bounded queue, and a thread that sends them one by one until each is taken."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter, deque
from typing import Protocol

from streamfuse.clock import Clock
from streamfuse.errors import OutputError
from streamfuse.notify.rules import Notice
from streamfuse.types import NS

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0


class NotTaken(OutputError):
    """A receiver did not take a notice.

    again    sending it again may help
    after_s  the receiver's own wish; None: as the back-off says
    """

    def __init__(self, rule: str, *, got: object = None, again: bool, after_s: float | None = None) -> None:
        super().__init__(rule, got=got)
        self.again, self.after_s = again, after_s


class Sender(Protocol):
    """How one kind of target is told. Used by one thread alone."""

    def send(self, notice: Notice) -> None:
        """Return when the receiver has it. Raises NotTaken; its text holds no secrets."""
        ...

    def close(self) -> None: ...


class Courier:
    """Keeps what is offered until it is sent.

    counts  sent; failed: the receiver refused it for good; dropped: the queue was full, or the run ended
    """

    def __init__(
        self, name: str, sender: Sender, *, queue: int, retry_max_s: float, clock: Clock, rng: random.Random
    ) -> None:
        self.name, self._sender, self._clock, self._rng = name, sender, clock, rng
        self._limit, self._retry_max_s = queue, retry_max_s
        self._queue: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._closed_until_ns: int | None = None
        """Set once nothing more is taken in: when to give up what is left."""
        self._busy = False
        self.counts: Counter[str] = Counter(sent=0, failed=0, dropped=0)
        self._thread = threading.Thread(target=self._run, name=f"notify-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._queue) + self._busy

    def offer(self, notice: Notice) -> None:
        """Take a notice in, never waiting; a full queue loses its oldest."""
        with self._changed:
            if self._closed_until_ns is not None:
                self.counts["dropped"] += 1
                return
            self._queue.append(notice)
            if len(self._queue) > self._limit:
                self._queue.popleft()
                self.counts["dropped"] += 1
                if self.counts["dropped"] % 100 == 1:
                    log.warning("%s: its queue is full, notices are dropped", self.name)
            self._changed.notify_all()

    def close(self, deadline_ns: int) -> None:
        """Send what waits, until then (monotonic); the rest is dropped, counted and told."""
        with self._changed:
            self._closed_until_ns = deadline_ns
            self._changed.notify_all()
        self._thread.join(max(0, deadline_ns - self._clock.monotonic_ns()) / NS)
        with self._changed:
            left = self.waiting
            self._queue.clear()
            self.counts["dropped"] += left
        if left:
            log.warning("%s: %d notices were not delivered", self.name, left)
        if not self._thread.is_alive():
            self._sender.close()

    def _run(self) -> None:
        while (notice := self._next()) is not None:
            self._deliver(notice)
            self._busy = False

    def _next(self) -> Notice | None:
        with self._changed:
            while not self._queue and self._closed_until_ns is None:
                self._changed.wait()
            if not self._queue:
                return None
            self._busy = True
            return self._queue.popleft()

    def _deliver(self, notice: Notice) -> None:
        pause_s, failures = FIRST_PAUSE_S, 0
        while True:
            try:
                self._sender.send(notice)
            except NotTaken as error:
                if not error.again:
                    self.counts["failed"] += 1
                    log.error("%s: %s", self.name, error)
                    return
                if not failures:
                    log.warning("%s: %s; it is sent again until it is taken", self.name, error)
                failures += 1
                wanted_s = pause_s * self._rng.uniform(0.5, 1) if error.after_s is None else error.after_s
                if not self._pause(min(wanted_s, self._retry_max_s)):
                    return
                pause_s = min(2 * pause_s, self._retry_max_s)
            except Exception:
                # A slip of ours in one kind of target must not end its thread without a word.
                self.counts["failed"] += 1
                log.exception("%s: sending failed", self.name)
                return
            else:
                self.counts["sent"] += 1
                if failures:
                    log.info("%s: taken after %d failures", self.name, failures)
                return

    def _pause(self, pause_s: float) -> bool:
        """Wait before the next try; False: the run ends first."""
        until_ns = self._clock.monotonic_ns() + round(pause_s * NS)
        with self._changed:
            while (now_ns := self._clock.monotonic_ns()) < until_ns:
                if self._closed_until_ns is not None and now_ns >= self._closed_until_ns:
                    return False
                end_ns = until_ns if self._closed_until_ns is None else min(until_ns, self._closed_until_ns)
                self._changed.wait((end_ns - now_ns) / NS)
        return self._closed_until_ns is None or self._clock.monotonic_ns() < self._closed_until_ns
