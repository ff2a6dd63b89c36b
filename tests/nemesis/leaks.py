"""What a run holds while it goes on: memory and handles of every process, sockets, and what it should not.

Processes that were replaced are looked at too: each from its first look to its last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil

from tests.faults.killer import processes_of
from tests.integration.live import LiveRun

RESIDENT = "streamfuse_process_resident_memory_bytes"
Held = tuple[int, int]
"""Resident bytes, open handles."""


@dataclass
class Ledger:
    """`first` and `last`: what each process held when it was looked at for the first time, and the last.

    An analyzer that stood by holds more once it serves, and rightly: that is another entry. One that is still
    getting ready to stand by is not looked at.
    """

    first: dict[str, Held] = field(default_factory=dict)
    last: dict[str, Held] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def look(self, run: LiveRun) -> None:
        """While nothing is being done to the run."""
        for name, held in _held(run).items():
            self.first.setdefault(name, held)
            self.last[name] = held
        self.problems += stray(run)


def stray(run: LiveRun) -> list[str]:
    """Dead children that nobody asked about, and processes of the run that are not its supervisor's."""
    dead = [p for p in run.children() if _status(p) == psutil.STATUS_ZOMBIE]
    psutil.wait_procs(dead, timeout=2)  # one that has only just died is asked about within a turn
    found = [f"a zombie: {p}" for p in dead if _status(p) == psutil.STATUS_ZOMBIE]
    others = processes_of(str(run.run_dir))
    family = {run.process.pid, *(p.pid for p in run.children())}
    return found + [f"an orphan: {p}" for p in others if p.pid not in family and p.is_running()]


def sockets(run: LiveRun) -> list[str]:
    """Files of sockets in the run's directory. They stay, for the next run: their names are fixed."""
    return sorted(path.name for path in run.run_dir.rglob("*") if path.is_socket())


def _held(run: LiveRun) -> dict[str, Held]:
    found = {}
    serving, warm = run.child("analyze").pid, run.metric(RESIDENT, process="analyze 0 (spare)") is not None
    for process in [psutil.Process(run.process.pid), *run.children()]:
        words = " ".join(process.cmdline())
        if "streamfuse.services.reserve" in words:
            continue  # it loads, and becomes another under the same pid
        does = (" serves" if process.pid == serving else " stands by") if "--standby" in words else ""
        if warm or does != " stands by":
            found[f"{process.pid} {words[-60:]}{does}"] = process.memory_info().rss, process.num_fds()
    return found


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return "gone"
