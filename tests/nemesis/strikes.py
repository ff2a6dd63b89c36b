"""What the nemesis does to a live run: to its cameras, to its processes, and to the machine under it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from streamfuse.clock import SYSTEM
from streamfuse.services.status import UNWRITTEN
from streamfuse.types import NS
from tests.faults.clocks import WallClock
from tests.faults.killer import afflict, is_dead, kill_all, wait_until_dead
from tests.integration.live import LiveRun
from tests.integration.proxy import Proxy
from tests.nemesis.history import (
    CAMERA_FAULTS,
    MACHINE_FAULTS,
    PROCESS_FAULTS,
    Fault,
    Unwritten,
    place_of,
)

CAMERAS = ("door", "yard", "hall")
ENDLESS = "yard"
"""The camera whose stream never ends by itself: its session changes only where something went wrong."""
DEADLINE_S = 90.0
"""What has not come back by then never will."""
LIMIT_BYTES = 20_000
CLOCK_STEPS_S = (-3600.0, 0.0, 3600.0)
CLOCK_TOLERANCE_S = 600.0
TAIL_BYTES = 100_000
"""Holds more than a second of one camera's lines."""
SHOWN_BEFORE = 300
"""Lines that are looked at before those that a full disk took: about three seconds of each camera."""


@dataclass
class Nemesis:
    """Faults by a seeded choice; what became of each is in `faults`.

    begin    starts the run again, in the same place, after all of it was killed
    full     the file that makes the disk of the run's outputs full
    opening  seconds that opening each camera takes
    machine  a third of it is done to the whole run, its disk or its clock
    """

    run: LiveRun
    begin: Callable[[], LiveRun]
    out: Path
    proxies: dict[str, Proxy]
    clock: WallClock
    full: Path
    opening: Mapping[str, float]
    rng: random.Random
    say: Callable[[str], None]
    machine: bool = False
    faults: list[Fault] = field(default_factory=list)
    unwritten: dict[str, list[Unwritten]] = field(default_factory=lambda: {name: [] for name in CAMERAS})
    problems: list[str] = field(default_factory=list)
    runs: list[LiveRun] = field(init=False)
    """Every run that was begun."""
    began_ns: int = field(default_factory=SYSTEM.monotonic_ns)
    _offset_s: float = 0.0

    def __post_init__(self) -> None:
        self.runs = [self.run]

    def now_s(self) -> float:
        return (SYSTEM.monotonic_ns() - self.began_ns) / NS

    def strike(self) -> Fault:
        """One fault, until what it hit is back."""
        share = self.rng.random() * (1.5 if self.machine else 1.0)
        if share < 0.5:
            fault = self._camera(self.rng.choice(CAMERA_FAULTS), self.rng.choice(CAMERAS))
        elif share < 1.0:
            target = self.rng.choice(("publish", "analyze", *(f"decode {name}" for name in CAMERAS)))
            fault = self._process(self.rng.choice(PROCESS_FAULTS), target)
        else:
            fault = self._machine(self.rng.choice(MACHINE_FAULTS))
        self.faults.append(fault)
        noticed = "" if fault.noticing_s is None else f"noticed after {fault.noticing_s:.1f} s, "
        self.say(f"{fault}: {noticed}back after {fault.return_s:.1f} s")
        return fault

    def _process(self, kind: str, target: str) -> Fault:
        service, _, name = target.partition(" ")
        names = (name,) if name else CAMERAS
        sessions, mark = {n: self._session(n) for n in names}, len(self.run.lines)
        fault = Fault(self.now_s(), kind, target, opening_s=self.opening.get(name, 0.0))
        victim = self.run.child(service, name)
        afflict(victim, kind)
        self._wait(lambda: is_dead(victim), f"{fault}: is noticed")
        fault = replace(fault, noticed_s=self.now_s())
        # The others may be between two of their clips: they come back, but say nothing of how soon.
        for one in sorted(names, key=lambda n: n != ENDLESS):
            self._wait(lambda n=one: self.run.first_label_ns(n, mark, sessions[n]), f"{fault}: {one}")
            if fault.back_s is None:
                fault = replace(fault, back_s=self.now_s())
        return fault

    def _camera(self, kind: str, name: str) -> Fault:
        session, proxy = self._session(name), self.proxies[name]
        fault = Fault(self.now_s(), kind, name)
        mild = kind in ("latency", "limit")  # not, or not for long, a loss
        {
            "stall": proxy.stall,
            "cut": proxy.cut,
            "reset": proxy.reset,
            "trickle": lambda: proxy.trickle(5),
            "limit": lambda: proxy.limit(LIMIT_BYTES),
            "latency": lambda: proxy.latency(0.3),
        }[kind]()
        if not mild:
            self._wait(
                lambda: self.run.metric("streamfuse_source_up", source=name) == 0, f"{fault}: is noticed"
            )
            fault = replace(fault, noticed_s=self.now_s())
        else:
            self._rest(self.rng.uniform(1, 3))
        proxy.heal()
        mark, healed_s = len(self.run.lines), self.now_s()
        floor = session if not mild else -1
        self._wait(lambda: self.run.first_label_ns(name, mark, floor), f"{fault}: comes back")
        return replace(fault, healed_s=healed_s, back_s=self.now_s())

    def _machine(self, kind: str) -> Fault:
        if kind in ("supervisor", "group"):
            return self._end_of_the_run(kind)
        session, family = self._session(ENDLESS), {p.pid for p in self.run.children()}
        fault = self._full_disk() if kind == "disk" else self._clock()
        if self._session(ENDLESS) != session:
            self.problems.append(f"{fault}: {ENDLESS} has begun a new session")
        if not family <= {p.pid for p in self.run.children()}:
            self.problems.append(f"{fault}: a process was replaced")
        return fault

    def _end_of_the_run(self, kind: str) -> Fault:
        """kill -9 of the supervisor, or of all at once; then the same command again."""
        sessions = {name: self._session(name) for name in CAMERAS}
        family, fault = self.run.children(), Fault(self.now_s(), "killed", kind)
        if kind == "group":
            kill_all(self.run.process.pid)
        else:
            self.run.process.kill()
        left = wait_until_dead(family, DEADLINE_S)
        fault = replace(fault, noticed_s=self.now_s())
        self.problems += [f"{fault}: an orphan: {process}" for process in left]
        self.run.wait()
        self.run = self.begin()
        self.runs.append(self.run)
        for name in CAMERAS:
            self._wait(lambda n=name: self.run.first_label_ns(n, 0, sessions[n]), f"{fault}: {name}")
        return replace(fault, back_s=self.now_s())

    def _full_disk(self) -> Fault:
        """Nothing can be written for a while: lines are lost and counted, until there is room again."""
        before, mark = self._lost(), len(self.run.lines)
        fault = Fault(self.now_s(), "full", "disk")
        self.full.touch()
        self._wait(lambda: self._lost() != before, f"{fault}: is counted")
        fault = replace(fault, noticed_s=self.now_s())
        self._rest(self.rng.uniform(1, 3))
        healed_s, healed = self.now_s(), len(self.run.lines)
        self.full.unlink()
        self._wait(lambda: any(self._is_written(n, healed) for n in CAMERAS), f"{fault}: is written again")
        fault = replace(fault, healed_s=healed_s, back_s=self.now_s())
        for name in CAMERAS:  # one may be between two of its clips
            self._wait(lambda n=name: self._is_written(n, healed), f"{fault}: {name} is written again")
        for name, lost in self._lost().items():
            shown = tuple(self.run.labels(name, after=max(0, mark - SHOWN_BEFORE)))
            self.unwritten[name].append(Unwritten(shown, lost - before[name]))
        return fault

    def _clock(self) -> Fault:
        """The time of day steps by an hour or two; only `time` moves."""
        self._offset_s = self.rng.choice([step for step in CLOCK_STEPS_S if step != self._offset_s])
        mark, fault = len(self.run.lines), Fault(self.now_s(), "stepped", "clock")
        self.clock.step(self._offset_s)
        self._wait(lambda: any(self._is_dated(n, mark) for n in CAMERAS), f"{fault}: is told")
        fault = replace(fault, back_s=self.now_s())
        for name in CAMERAS:
            self._wait(lambda n=name: self._is_dated(n, mark), f"{fault}: is told by {name}")
        return fault

    def _lost(self) -> dict[str, int]:
        """Lines that are counted as lost, by camera."""
        counts: dict[str, float | None] = {}

        def known() -> bool:
            for name in CAMERAS:
                counts[name] = self.run.metric("streamfuse_dropped_total", source=name, reason=UNWRITTEN)
            return None not in counts.values()

        self._wait(known, "the metrics tell of lost lines")
        return {name: round(count or 0) for name, count in counts.items()}

    def _is_written(self, name: str, mark: int) -> bool:
        """A label that was shown after line `mark` is in the file."""
        with (self.out / f"{name}.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = file.read().rpartition(b"\n")[0].splitlines()[1:]
        written = {place_of(line) for text in tail if "tick" in (line := json.loads(text))}
        return any(place_of(line) in written for line in self.run.labels(name, after=mark))

    def _is_dated(self, name: str, mark: int) -> bool:
        """A label after line `mark` has the time of day that was set."""
        said = SYSTEM.wall_ns() / NS + self._offset_s
        times = [datetime.fromisoformat(line["time"]) for line in self.run.labels(name, after=mark)]
        return any(abs(time.timestamp() - said) < CLOCK_TOLERANCE_S for time in times)

    def _session(self, name: str) -> int:
        """The newest session that a source has begun, labelled or not: what comes back is a later one."""
        state = json.loads((self.run.run_dir / "sessions" / f"{name}.json").read_text())
        return int(state["next"]) - 1

    def _wait(self, done: Callable[[], object], what: str) -> None:
        self.run.until(done, what, DEADLINE_S)

    def _rest(self, seconds: float) -> None:
        """Let the run go on; an end of it is noticed at once."""
        end_s = self.now_s() + seconds
        self.run.until(lambda: self.now_s() >= end_s, "time passes", seconds + DEADLINE_S)

    def rest_until(self, at_s: float) -> None:
        self._rest(max(0.0, at_s - self.now_s()))
