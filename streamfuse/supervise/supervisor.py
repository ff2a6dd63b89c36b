"""Starts the processes, watches their progress, restarts what dies or hangs, and stops them in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streamfuse.clock import SYSTEM, Clock
from streamfuse.errors import StreamfuseError
from streamfuse.supervise.child import Child, Role, describe_exit
from streamfuse.supervise.reserve import Reserve
from streamfuse.supervise.watch import Verdict, Watch
from streamfuse.types import MS, NS
from streamfuse.wire.headers import Progress

STOP_NS = 9 * NS
"""From the wish to stop to SIGKILL: with a second to spare of the ten in which a run has to be over."""
LISTENING_NS = NS
"""From the wish to stop to the end of a process that does not work yet. Its report of having begun may be
under way, or was lost, and comes again within half a second: a reader that was killed instead would leave the
others waiting for its last word."""
LOOK_NS = 100 * MS
LAST_WORD_NS = 200 * MS
"""How long the last report of a process that has ended is waited for: on a busy machine its end is seen
before what it said."""
LAST_STATES = frozenset({"done", "failed", "refused"})

FINAL_CODES = {2, 3, 4, 5, 6}
"""Exits that another start would not change: configuration, model, source refused, address taken, no GPU."""

Wish = Literal["run", "pause", "restart", "remove"]
"""What is wanted of one process while the run goes on; a restart is wanted until the old one has ended."""

ReadProgress = Callable[[int], Iterable[Progress]]
"""Waits at most so many ns, then gives the reports that have come."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know about one process; `text` is one line."""

    kind: Literal["started", "restarted", "lost", "refused", "done", "given up", "stopped late", "paused"]
    role: Role
    text: str


@dataclass(slots=True)
class Slot:
    """A role, the watch over it, and its process while there is one."""

    role: Role
    watch: Watch
    child: Child | None = None
    report: Progress | None = None
    exit_code: int | None = None
    wish: Wish = "run"
    leave_by_ns: int | None = None
    """When a process that was asked to end is killed, although the run goes on."""

    @property
    def paused(self) -> bool:
        return self.wish == "pause"

    @property
    def over(self) -> bool:
        return self.watch.state in ("finished", "given up")

    @property
    def has_said_last(self) -> bool:
        return self.report is not None and self.report.state in LAST_STATES

    @property
    def is_loading(self) -> bool:
        return self.child is not None and (self.report is None or self.report.state == "starting")

    @property
    def has_begun(self) -> bool:
        """It does its work: it is past loading and warming up, and no spare."""
        return self.report is not None and self.report.state not in ("starting", "standby")


@dataclass
class Supervisor:
    """Keeps the roles running until the sources have ended, one process is lost for good, or stop() is asked.

    read_progress  where the children's reports come from
    notify         told of everything that a person should know
    reserve        takes the place of a reserved role's process that has died
    """

    roles: Sequence[Role]
    logs: Path
    read_progress: ReadProgress
    notify: Callable[[Notice], None]
    clock: Clock = SYSTEM
    reserve: Reserve | None = None
    failure: StreamfuseError | None = None
    slots: list[Slot] = field(init=False)
    _stop_at_ns: int | None = None

    def __post_init__(self) -> None:
        self.slots = [Slot(role, Watch(role.limits)) for role in self.roles]

    @property
    def stopping(self) -> bool:
        return self._stop_at_ns is not None

    def run(self, should_stop: Callable[[], bool], on_turn: Callable[[], None] = lambda: None) -> None:
        """Run until everything is over. On any way out no child is left.

        should_stop  asked every turn; once True, every child is asked to drain
        on_turn      called every turn, about ten times a second
        """
        try:
            while not all(slot.over for slot in self.slots):
                self._turn(should_stop())
                on_turn()
        finally:
            for slot in self.slots:
                if slot.child is not None:
                    slot.child.kill()
            if self.reserve is not None:
                self.reserve.close()

    def slot(self, service: str, name: str) -> Slot | None:
        """The slot of that role, which is no spare."""
        for slot in self.slots:
            if (slot.role.service, slot.role.name, slot.role.spare) == (service, name, False):
                return slot
        return None

    def change(self, roles: Sequence[Role]) -> None:
        """From now on these are the roles: new ones are started, those that are gone drain and leave."""
        wanted = {_key(role): role for role in roles}
        known = {_key(slot.role) for slot in self.slots}
        for slot in list(self.slots):
            if _key(slot.role) not in wanted:
                self.wish(slot, "remove")
        self.slots += [Slot(role, Watch(role.limits)) for key, role in wanted.items() if key not in known]

    def wish(self, slot: Slot, wish: Wish) -> None:
        """Pause, restart or remove one process, or let it run again; the others go on."""
        slot.wish = wish
        if wish == "run" or slot.leave_by_ns is not None or self.stopping:
            return
        if slot.child is None:
            self._left(slot)
        elif slot.has_begun:
            slot.child.ask_to_stop()
            slot.leave_by_ns = self.clock.monotonic_ns() + STOP_NS
        else:
            slot.child.kill()
            self._left(slot)

    def _left(self, slot: Slot) -> None:
        """The process has gone as it was wanted; what it had done wrong before is forgotten."""
        slot.child = slot.report = slot.exit_code = slot.leave_by_ns = None
        slot.watch = Watch(slot.role.limits)
        if slot.wish == "remove":
            self.slots.remove(slot)
        elif slot.wish == "restart":
            slot.wish = "run"
        elif slot.wish == "pause":
            self.notify(Notice("paused", slot.role, "is paused"))

    def _turn(self, stop: bool) -> None:
        now_ns = self.clock.monotonic_ns()
        if self._stop_at_ns is None and (stop or self.failure is not None or self._sources_over()):
            self._begin_stop(now_ns)
        for slot in list(self.slots):
            self._look(slot, now_ns)
        if self.reserve is not None:
            # It would take from those that load what they load with; a spare takes longer, and can wait.
            loads = any(slot.is_loading and not slot.role.spare for slot in self.slots)
            self.reserve.keep(start=not self.stopping and not loads)
        self._read(LOOK_NS)

    def _read(self, timeout_ns: int) -> None:
        for report in self.read_progress(timeout_ns):
            self._take(report, self.clock.monotonic_ns())

    def _sources_over(self) -> bool:
        sources = [slot for slot in self.slots if slot.role.service == "decode"]
        return bool(sources) and all(slot.over for slot in sources)

    def _begin_stop(self, now_ns: int) -> None:
        self._stop_at_ns = now_ns + STOP_NS
        for slot in self.slots:
            if slot.child is None:
                if not slot.over:
                    slot.watch.finished()
            elif slot.leave_by_ns is None:  # it was asked: a second time would mean at once
                slot.child.ask_to_stop()
        if self.reserve is not None:
            self.reserve.close()

    def _take(self, report: Progress, now_ns: int) -> None:
        for slot in self.slots:
            if slot.child is not None and slot.child.pid == report.pid:
                first = slot.report is None or slot.report.state == "starting"
                slot.report = report
                if report.state == "starting" or (first and report.state in ("failed", "refused")):
                    continue  # imports and warming up are one long step; one that fails in it never ran
                slot.watch.progressed(now_ns, report.counter, report.allowance_ms * MS)
                if first and slot.watch.state == "running":
                    again = slot.watch.restarts > 0
                    self.notify(Notice("restarted" if again else "started", slot.role, "is running"))

    def _look(self, slot: Slot, now_ns: int) -> None:
        if slot.child is not None and (code := slot.child.exit_code()) is not None:
            self._ended(slot, code, now_ns)
        if slot.over or (slot.wish == "remove" and slot.child is None):
            return
        if self._stop_at_ns is not None:
            self._hasten(slot, now_ns)
            return
        if slot.leave_by_ns is not None:
            if now_ns >= slot.leave_by_ns and slot.child is not None:
                slot.child.kill()
                self._left(slot)
            return
        if slot.paused:
            return
        verdict = slot.watch.verdict(now_ns)
        if verdict is Verdict.START and self._may_start(slot):
            slot.child = Child(slot.role, self.logs, slot.watch.restarts, self.reserve)
            slot.report = None
            slot.watch.started(now_ns)
        elif verdict is Verdict.KILL and slot.child is not None:
            slot.child.kill()
            slot.child = None
            self._failed(slot, "made no progress and was killed", now_ns)

    def _may_start(self, slot: Slot) -> bool:
        """One that takes turns waits for the one before it; a spare, until its first is warm."""
        turn = slot.role.turn
        if turn is not None and any(
            other.child is not None for other in self.slots if other.role.turn == turn
        ):
            return False
        if not slot.role.spare:
            return True
        return any(
            other.role.name == slot.role.name and other.report is not None and other.report.state == "running"
            for other in self.slots
            if other.role.service == slot.role.service and other is not slot
        )

    def _hasten(self, slot: Slot, now_ns: int) -> None:
        stop_at_ns = self._stop_at_ns or now_ns
        if slot.child is None:
            slot.watch.finished()
        elif not slot.has_begun and now_ns >= stop_at_ns - STOP_NS + LISTENING_NS:
            slot.child.kill()  # it holds nothing that could be lost, and may be seconds away from listening
            slot.child = None
            slot.watch.finished()
        elif now_ns >= stop_at_ns:
            slot.child.kill()
            slot.child = None
            slot.watch.finished()
            self.notify(
                Notice("stopped late", slot.role, f"did not stop within {STOP_NS // NS} s and was killed")
            )

    def _ended(self, slot: Slot, code: int, now_ns: int) -> None:
        self._read(0)  # its last report was sent before it went
        until_ns = self.clock.monotonic_ns() + LAST_WORD_NS
        # One that was killed had no time for it. Other ports end a wait early.
        while code >= 0 and not slot.has_said_last and (left_ns := until_ns - self.clock.monotonic_ns()) > 0:
            self._read(left_ns)
        words = slot.child.last_words() if slot.child is not None else ""
        slot.child, slot.exit_code = None, code
        if slot.leave_by_ns is not None and self._stop_at_ns is None:
            self._left(slot)
            return
        if code == 0 or self._stop_at_ns is not None:
            slot.watch.finished()
            if code == 0:
                self.notify(Notice("done", slot.role, "has ended"))
            elif slot.has_begun or self._stop_at_ns is None:
                self.notify(Notice("lost", slot.role, f"{describe_exit(code)} while stopping: {words}"))
        elif code in FINAL_CODES:
            slot.watch.finished()
            told = slot.report.error if slot.report is not None else ""
            reason = told or words or describe_exit(code)
            self.notify(Notice("refused", slot.role, reason))
            if slot.role.service != "decode":
                self._give_up(StreamfuseError(reason), exit_code=code if code in (2, 3) else 1)
        else:
            self._failed(slot, f"{describe_exit(code)}" + (f": {words}" if words else ""), now_ns)

    def _failed(self, slot: Slot, reason: str, now_ns: int) -> None:
        slot.watch.failed(now_ns, reason)
        self.notify(Notice("lost", slot.role, reason))
        if slot.watch.verdict(now_ns) is Verdict.GIVE_UP:
            limits = slot.role.limits
            text = f"died more than {limits.restarts} times within {limits.window_ns // NS} s, last: {reason}"
            self.notify(Notice("given up", slot.role, text))
            if slot.role.service != "decode":  # a recording that kills its reader costs the others nothing
                rule = "every process of a run has to stay up"
                self._give_up(StreamfuseError(rule, got=text, where=slot.role.title), exit_code=1)

    def _give_up(self, failure: StreamfuseError, exit_code: int) -> None:
        if self.failure is None:
            self.failure = failure
            self.failure.exit_code = exit_code


def _key(role: Role) -> tuple[str, str, bool]:
    return role.service, role.name, role.spare
