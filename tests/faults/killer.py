"""Ends processes in every way in which processes end, and knows whether any was left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

AILMENTS = {
    "killed": signal.SIGKILL,
    "stopped": signal.SIGSTOP,
    "hung": signal.SIGUSR1,
    "crashed": signal.SIGSEGV,
}
"""hung: in a busy loop, alive and answering on its sockets' own threads (tests/faults/inject)."""

POLL_S = 0.005


def afflict(process: psutil.Process, ailment: str) -> None:
    process.send_signal(AILMENTS[ailment])


def kill_all(pid: int) -> list[psutil.Process]:
    """kill -9 of a process and all that it started, as the end of a cgroup is; wait until they are gone.

    Stopped first, so that none can start another meanwhile.
    """
    root = psutil.Process(pid)
    root.suspend()
    family = [root, *root.children(recursive=True)]
    for member in reversed(family):  # children first: they go with their parent, and one may be gone by then
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    left = wait_until_dead(family[1:], 30)
    assert not left, f"still there: {left}"
    return family


def is_dead(process: psutil.Process) -> bool:
    """It has ended; whether somebody has asked for its exit code is another matter."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_dead(processes: Iterable[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Wait for all of them; give those that still live after that time."""
    end, left = time.monotonic() + within_s, list(processes)
    while (left := [process for process in left if not is_dead(process)]) and time.monotonic() < end:
        time.sleep(POLL_S)
    return left


def processes_of(word: str) -> list[psutil.Process]:
    """Every other process that has `word` (a run directory, say) on its command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        line = " ".join(process.info["cmdline"] or ())
        if word in line and process.info["pid"] != os.getpid():
            found.append(process)
    return found


def handles(processes: Iterable[psutil.Process]) -> dict[int, int]:
    """Open file descriptors by pid."""
    return {process.pid: process.num_fds() for process in processes}


def shared_memory() -> set[str]:
    """What lies in /dev/shm."""
    return {path.name for path in Path("/dev/shm").iterdir()}
