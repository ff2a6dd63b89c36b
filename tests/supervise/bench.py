"""A supervisor over real processes: small scripts that report to a datagram socket as services do."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from streamfuse.supervise.child import Role
from streamfuse.supervise.reserve import Reserve
from streamfuse.supervise.supervisor import Notice, Supervisor
from streamfuse.supervise.watch import WatchLimits
from streamfuse.types import NS
from streamfuse.wire.headers import Progress

PRELUDE = """
import json, os, signal, socket, sys, time
reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
reports.connect(os.environ["REPORTS"])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
def report(counter, state="running", error=""):
    reports.send(json.dumps([os.getpid(), counter, state, error]).encode())
def work():
    counter = 0
    while not stopped:
        report(counter)
        counter += 1
        time.sleep(0.05)
"""
WORK = "work()"
QUICK = WatchLimits(start_ns=20 * NS, silence_ns=3 * NS)


class Bench:
    """A supervisor over scripts, what it said, and what to do at each of its turns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "reports"))
        self.notices: list[Notice] = []
        self.stop = False
        self.turns = 0

    def role(
        self,
        service: str,
        script: str,
        limits: WatchLimits = QUICK,
        spare: bool = False,
        reserved: bool = False,
    ) -> Role:
        env = {**os.environ, "REPORTS": str(self.folder / "reports")}
        argv = (sys.executable, "-c", PRELUDE + script)
        return Role(service, "main", argv, env, limits, spare, reserved=reserved)

    def read(self, timeout_ns: int) -> Iterable[Progress]:
        self.socket.settimeout(timeout_ns / NS)
        try:
            pid, counter, state, error = json.loads(self.socket.recv(4096))
        except (TimeoutError, BlockingIOError):
            return
        yield Progress(
            source="main",
            seq=0,
            service="decode",
            pid=pid,
            counter=counter,
            allowance_ms=0,
            state=state,
            counters={},
            gauges={},
            error=error,
        )

    def supervise(self, *roles: Role, reserve: Reserve | None = None) -> Supervisor:
        return Supervisor(roles, self.folder, self.read, self.notices.append, reserve=reserve)

    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]

    def should_stop(self) -> bool:
        self.turns += 1
        assert self.turns < 2000, f"the supervisor does not come to an end: {self.notices}"
        return self.stop


def running(supervisor: Supervisor, index: int = 0) -> int | None:
    """The pid of a process that has reported, or None."""
    slot = supervisor.slots[index]
    return slot.child.pid if slot.child is not None and slot.report is not None else None
