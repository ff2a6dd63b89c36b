"""Memory and threads that a child does not get.

    run a child with starved(switch, "decode --source left") in its environment
    child.send_signal(HOARD)    it takes memory until it gets no more: its own limit is what stops it
    switch.touch()              from here on it can start no thread, if those words are on its command line

RLIMIT_AS counts address space that is never touched, so the machine's memory is not used up. RLIMIT_NPROC is
not used: it does not hold root, and counts what else the user runs.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import threading
from pathlib import Path

INJECT = Path(__file__).with_name("inject")
SWITCH, WORDS = "NO_THREADS", "NO_THREADS_OF"
HOARD = signal.SIGUSR2
BLOCK_BYTES, BLOCKS = 256 << 20, 64
"""Four times what a decode process may have; a child without a limit survives it."""


def starved(switch: Path, words: str) -> dict[str, str]:
    """What to add to a child's environment."""
    places = filter(None, (str(INJECT), os.environ.get("PYTHONPATH", "")))
    return {SWITCH: str(switch), WORDS: words, "PYTHONPATH": os.pathsep.join(places)}


def _hoard(_number: int, _frame: object) -> None:
    held = []
    with contextlib.suppress(OSError):
        for _ in range(BLOCKS):
            held.append(mmap.mmap(-1, BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    bytearray(BLOCK_BYTES)  # what is wanted next; where there was a limit, MemoryError


def install_from_environment() -> None:
    """For a child's sitecustomize.py."""
    switch, words = os.environ.get(SWITCH), os.environ.get(WORDS, "").split()
    if switch is None:
        return
    signal.signal(HOARD, _hoard)
    path, start = Path(switch), threading.Thread.start

    def start_unless_starved(thread: threading.Thread) -> None:
        # As the kernel shows it: a reserve gets another when it becomes the one that is meant.
        command = Path("/proc/self/cmdline").read_text().replace("\0", " ").split()
        if path.exists() and all(word in command for word in words):
            raise RuntimeError("can't start new thread")  # as CPython says it
        start(thread)

    threading.Thread.start = start_unless_starved  # type: ignore[method-assign]


if __name__ == "starve_faults":  # loaded by sitecustomize.py
    install_from_environment()
    sys.modules.pop("starve_faults", None)
