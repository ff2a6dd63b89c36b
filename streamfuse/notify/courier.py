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
    """How one kind of target is told. One thread sends; another one closes, maybe while that one does."""

    def send(self, notice: Notice) -> None:
        """Return when the receiver has it. Raises NotTaken; its text holds no secrets."""
        ...

    def close(self) -> None:
        """Let go of everything, a notice that is under way included."""
        ...


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
        self._busy = self._over = False
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
            left, self._over = self.waiting, True
            self._queue.clear()
            self.counts["dropped"] += left
        if left:
            log.warning("%s: %d notices were not delivered", self.name, left)
        self._sender.close()

    def _run(self) -> None:
        while (notice := self._next()) is not None:
            outcome = self._deliver(notice)
            with self._changed:
                self._busy = False
                # What was under way when the run was over is counted as dropped already.
                self.counts[outcome] += not self._over

    def _next(self) -> Notice | None:
        with self._changed:
            while not self._queue and self._closed_until_ns is None:
                self._changed.wait()
            if not self._queue or self._is_late():
                return None
            self._busy = True
            return self._queue.popleft()

    def _is_late(self) -> bool:
        return self._closed_until_ns is not None and self._clock.monotonic_ns() >= self._closed_until_ns

    def _deliver(self, notice: Notice) -> str:
        """Send it until it is taken, refused, or the run is over; return what became of it."""
        pause_s, failures = FIRST_PAUSE_S, 0
        while True:
            try:
                self._sender.send(notice)
            except NotTaken as error:
                if self._over:
                    return "dropped"
                if not error.again:
                    log.error("%s: %s", self.name, error)
                    return "failed"
                if not failures:
                    log.warning("%s: %s; it is sent again until it is taken", self.name, error)
                failures += 1
                wanted_s = pause_s * self._rng.uniform(0.5, 1) if error.after_s is None else error.after_s
                if not self._pause(min(wanted_s, self._retry_max_s)):
                    return "dropped"
                pause_s = min(2 * pause_s, self._retry_max_s)
            except Exception:
                # A slip of ours in one kind of target must not end its thread without a word.
                log.exception("%s: sending failed", self.name)
                return "failed"
            else:
                if failures:
                    log.info("%s: taken after %d failures", self.name, failures)
                return "sent"

    def _pause(self, pause_s: float) -> bool:
        """Wait before the next try; False: the run is over first."""
        until_ns = self._clock.monotonic_ns() + round(pause_s * NS)
        with self._changed:
            while (now_ns := self._clock.monotonic_ns()) < until_ns and not self._is_late():
                end_ns = until_ns if self._closed_until_ns is None else min(until_ns, self._closed_until_ns)
                self._changed.wait(max(0, end_ns - now_ns) / NS)
            return not self._is_late()
