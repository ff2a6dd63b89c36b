"""The checker: what a run under faults wrote and counted, held against what was promised. Pure functions.

Each returns the broken promises, one line each; an empty list is what is wanted. That every one of them can
be broken is shown in test_history.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Targets:
    """Seconds and bytes; times are multiplied by `slack` on a machine with other work."""

    process_back_s: float = 2.0
    """A dead decode or publish process, from its end to the next label, less the opening of its camera."""
    analyzer_back_s: float = 6.0
    """Two seconds where a spare is warm; a second death within its warm-up takes a whole start."""
    stall_noticed_s: float = 3.5
    """A process that is stopped or hangs, before it is replaced."""
    loss_noticed_s: float = 10.0
    """A camera that stalls, trickles or is gone."""
    camera_back_s: float = 5.0
    """From the return of the camera to its first label."""
    children_gone_s: float = 1.0
    """After their supervisor was killed."""
    run_back_s: float = 20.0
    """From the end of a whole run to the first labels of the next: it loads everything again."""
    disk_back_s: float = 2.0
    """From when there is room again to the first line."""
    clock_s: float = 2.0
    """From a step of the clock to a label with the new time."""
    growth_bytes: int = 20_000_000
    growth_handles: int = 5
    slack: float = 1.0


@dataclass(frozen=True)
class Fault:
    """One thing that was done to a run, and when what followed was seen (seconds of the run).

    noticed_s  the source is said to be away; of a process: it is gone, by itself or by the supervisor's hand
    healed_s   the camera is made to work again, there is room on the disk
    back_s     the first label of a new session
    opening_s  what opening the camera of a decode process takes, whoever does it: measured before the run
    """

    at_s: float
    kind: str
    target: str
    noticed_s: float | None = None
    healed_s: float | None = None
    back_s: float | None = None
    opening_s: float = 0.0

    @property
    def noticing_s(self) -> float | None:
        return None if self.noticed_s is None else self.noticed_s - self.at_s

    @property
    def return_s(self) -> float | None:
        """From the camera's return, or from the end of the process, to the first label, less opening_s."""
        if self.back_s is None:
            return None
        return max(0.0, self.back_s - (self.healed_s or self.noticed_s or self.at_s) - self.opening_s)

    def __str__(self) -> str:
        return f"{self.kind} {self.target} at {self.at_s:.0f} s"


CAMERA_FAULTS = ("stall", "cut", "reset", "trickle", "limit", "latency")
PROCESS_FAULTS = ("killed", "stopped", "hung", "crashed")
MACHINE_FAULTS = ("supervisor", "group", "disk", "clock")


@dataclass(frozen=True)
class Unwritten:
    """A camera's labels as the screen had them around a full disk, and how many lines are counted as lost."""

    shown: tuple[Line, ...]
    counted: int


def place_of(label: Line) -> tuple[int, int]:
    return label["session"], label["tick"]


def with_unwritten(
    source: str, lines: Sequence[Line], windows: Sequence[Unwritten]
) -> tuple[list[Line], int, list[str]]:
    """The lines of a file with the labels back in that a full disk took; how many events may be missing; and
    what does not agree: labels that nobody counted as lost.
    """
    whole, events, problems = list(lines), 0, list[str]()
    for window in windows:
        written = {place_of(line) for line in whole if "tick" in line}
        known = [at for at, line in enumerate(window.shown) if place_of(line) in written]
        missing = [at for at in range(known[0], known[-1]) if at not in known] if known else []
        for at in missing:
            before = place_of(window.shown[at - 1])
            where = next(i for i, line in enumerate(whole) if "tick" in line and place_of(line) == before)
            whole.insert(where + 1, window.shown[at])
        if len(missing) > window.counted:
            problems.append(f"{source}: {len(missing)} labels are not written, {window.counted} are counted")
        events += max(0, window.counted - len(missing))
    return whole, events, problems


def order_problems(source: str, lines: Sequence[Line]) -> list[str]:
    """Sessions and ticks only rise, time never falls back, and every tick is there or counted as dropped."""
    problems: list[str] = []
    labels = [line for line in lines if "tick" in line]
    for label in _first_of_sessions(labels):
        if label["tick"] > label["dropped"]:  # what the session before it lost is counted here too
            where = f"{source}: session {label['session']}"
            problems.append(f"{where}: begins at tick {label['tick']}, {label['dropped']} are counted")
    for before, after in pairwise(labels):
        where = f"{source}: session {after['session']} tick {after['tick']}"
        if (after["session"], after["tick"]) <= (before["session"], before["tick"]):
            problems.append(f"{where}: comes after session {before['session']} tick {before['tick']}")
        elif after["session"] == before["session"]:
            missing = after["tick"] - before["tick"] - 1 - after["dropped"]
            if missing:
                problems.append(f"{where}: {missing} ticks before it are neither there nor counted")
        if after["start_s"] < before["start_s"]:
            problems.append(f"{where}: time falls back from {before['start_s']} to {after['start_s']}")
    return problems


def _first_of_sessions(labels: Sequence[Line]) -> list[Line]:
    first: dict[int, Line] = {}
    for label in labels:
        first.setdefault(label["session"], label)
    return list(first.values())


def event_problems(source: str, lines: Sequence[Line], unwritten: int = 0) -> list[str]:
    """What begins ends, once, and not before it began; nothing else ends.

    unwritten  so many lines of events a full disk may have taken
    """
    problems, alone = list[str](), list[str]()
    begun: set[tuple[Any, ...]] = set()
    ended: set[tuple[Any, ...]] = set()
    for line in lines:
        if not str(line.get("schema", "")).startswith("streamfuse.event/"):
            continue
        key = (line["session"], line["head"], line["label"], line["start_s"])
        if line["kind"] == "new":
            if key in begun:
                problems.append(f"{source}: {key} begins twice")
            begun.add(key)
        else:
            if key not in begun:
                alone.append(f"{source}: {key} ends and has not begun")
            if key in ended:
                problems.append(f"{source}: {key} ends twice")
            if line["end_s"] < line["start_s"]:
                problems.append(f"{source}: {key} ends before it begins")
            ended.add(key)
    alone += [f"{source}: {key} never ends" for key in sorted(begun - ended)]
    return problems + (alone if len(alone) > unwritten else [])


def balance_problems(processes: Iterable[Mapping[str, Any]]) -> list[str]:
    """What a process took in is what it gave, dropped and lost.

    A report is sent without an answer, so on a busy machine a process's last word may be missing. Where the
    last one heard was not the last, what was under way then is known too, as it says so.
    """
    problems: list[str] = []
    for process in processes:
        counters = process["counters"]
        name = f"{process['service']} {process['name']}"
        if "link_produced" not in counters:
            continue
        known = counters["link_done"] + counters["link_dropped"] + counters["link_lost"]
        if process.get("state", "done") != "done":
            known += process["gauges"]["waiting"] + process["gauges"].get("under_way", 0)
        if counters["link_produced"] != known:
            problems.append(
                f"{name}: {counters['link_produced']} sent, and of {known} it is known what became"
            )
        made = counters.get("ticks") if process["service"] == "decode" else counters.get("analysed")
        if made is not None and made != counters["link_produced"]:
            problems.append(f"{name}: {made} made, {counters['link_produced']} sent")
    return problems


def recovery_problems(faults: Iterable[Fault], targets: Targets) -> list[str]:
    """Everything came back, in time."""
    problems: list[str] = []
    for fault in faults:
        if fault.back_s is None:
            problems.append(f"{fault}: never came back")
            continue
        notice, back = _allowed(fault, targets)
        if fault.noticing_s is not None and fault.noticing_s > notice * targets.slack:
            problems.append(
                f"{fault}: noticed after {fault.noticing_s:.1f} s, {notice * targets.slack:.1f} s are allowed"
            )
        if fault.return_s is not None and fault.return_s > back * targets.slack:
            problems.append(
                f"{fault}: back after {fault.return_s:.1f} s, {back * targets.slack:.1f} s are allowed"
            )
    return problems


def _allowed(fault: Fault, targets: Targets) -> tuple[float, float]:
    """Seconds to notice a fault, and from then (a camera, a disk: from its return) to the first label."""
    if fault.target in ("supervisor", "group"):
        return targets.children_gone_s, targets.run_back_s
    if fault.target == "disk":
        return targets.stall_noticed_s, targets.disk_back_s
    if fault.target == "clock":
        return targets.clock_s, targets.clock_s
    if fault.kind in CAMERA_FAULTS:
        return targets.loss_noticed_s, targets.camera_back_s
    back = targets.analyzer_back_s if fault.target == "analyze" else targets.process_back_s
    return targets.stall_noticed_s, back


def leak_problems(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]],
                  targets: Targets) -> list[str]:  # fmt: skip
    """(resident bytes, handles) by process: those that lived through it hold no more than they did."""
    problems: list[str] = []
    for name in before.keys() & after.keys():
        grown, opened = (b - a for a, b in zip(before[name], after[name], strict=True))
        if grown > targets.growth_bytes:
            problems.append(f"{name}: {grown / 1e6:.0f} MB more than at the beginning")
        if opened > targets.growth_handles:
            problems.append(f"{name}: {opened} handles more than at the beginning")
    return problems


def log_problems(name: str, text: str) -> list[str]:
    """A fault is told in a line; a traceback is a bug."""
    return [f"{name}: a traceback"] if "Traceback (most recent call last)" in text else []
