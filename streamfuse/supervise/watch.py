"""When a process is kept, killed, started again or given up: decisions only, time comes as an argument.

Health is progress, not liveness: a stopped process (SIGSTOP) and one that hangs in a busy loop are both
alive. A process reports a counter that grows with its work; one whose counter stands still past its
deadline is dead.

    waiting --START--> starting --progress--> running --exit or KILL--> waiting ... --> finished | given up
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from streamfuse.errors import StageError
from streamfuse.types import NS


class Verdict(Enum):
    KEEP = "keep"
    START = "start"
    KILL = "kill"
    GIVE_UP = "give up"


State = Literal["waiting", "starting", "running", "finished", "given up"]


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """The deadlines and the restart budget of one process.

    start_ns     from start to the first progress; imports of torch and warm-up are in it
    silence_ns   without progress while running. A report is due every 0.5 s, so that with one look
                 every 0.1 s a stopped process is noticed within 3.5 s. Recordings get 20 s (cli.launch):
                 nobody waits for their next label, and being killed costs work done
    restarts     at most this many within window_ns, as Erlang/OTP's supervisors count them
    cap_ns       pause between restarts once the budget is spent, where the cause is outside
    outside      True: the cause may lie outside (a hostile camera), keep trying at the cap;
                 False: it is the program's own, give up
    """

    start_ns: int = 60 * NS
    silence_ns: int = 3 * NS
    restarts: int = 5
    window_ns: int = 60 * NS
    cap_ns: int = 30 * NS
    outside: bool = False


@dataclass(slots=True)
class Watch:
    """The watch over one process, from its first start to its end."""

    limits: WatchLimits = field(default_factory=WatchLimits)
    state: State = "waiting"
    restarts: int = 0
    reason: str = ""
    """Why the process was last found dead, for the log and the final error."""
    _counter: int = -1
    _deadline_ns: int = 0
    _not_before_ns: int = 0
    _failures: deque[int] = field(default_factory=deque)

    def started(self, now_ns: int) -> None:
        """The process was just started."""
        if self.state != "waiting":
            raise StageError("a process is started only while it is waited for", got=self.state)
        self.state = "starting"
        self._counter = -1
        self._deadline_ns = now_ns + self.limits.start_ns

    def progressed(self, now_ns: int, counter: int, allowance_ns: int = 0) -> None:
        """The process reported its counter; `allowance_ns` is how long its next step may rightly take."""
        if self.state not in ("starting", "running") or counter <= self._counter:
            return
        self.state = "running"
        self._counter = counter
        self._deadline_ns = now_ns + max(self.limits.silence_ns, allowance_ns)

    def finished(self) -> None:
        """The process ended because its work was done."""
        self.state = "finished"

    def failed(self, now_ns: int, reason: str) -> None:
        """The process died or was killed: count it, and decide when it may start again."""
        self.reason = reason
        while self._failures and self._failures[0] <= now_ns - self.limits.window_ns:
            self._failures.popleft()
        self._failures.append(now_ns)
        spent = len(self._failures) > self.limits.restarts
        if spent and not self.limits.outside:
            self.state = "given up"
            return
        self.restarts += 1
        self.state = "waiting"
        self._not_before_ns = now_ns + (self.limits.cap_ns if spent else 0)

    def verdict(self, now_ns: int) -> Verdict:
        """What to do with the process now."""
        if self.state == "given up":
            return Verdict.GIVE_UP
        if self.state == "waiting":
            return Verdict.START if now_ns >= self._not_before_ns else Verdict.KEEP
        if self.state in ("starting", "running") and now_ns >= self._deadline_ns:
            return Verdict.KILL
        return Verdict.KEEP
