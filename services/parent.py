"""A process that a supervisor has started dies with it: from its first moment, loading takes seconds."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "STREAMFUSE_PARENT"
"""Pid of the supervisor, in the environment of its services, and of whatever these start."""
EXIT_ORPHAN = 1

_PR_SET_PDEATHSIG = 1
_SERVICES = __name__.rpartition(".")[0] + "."


def die_with_parent() -> None:
    """Ask the kernel for it, where this process is a service of a supervisor."""
    parent = os.environ.get(PARENT)
    if parent is None or not any(word.startswith(_SERVICES) for word in sys.orig_argv):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before we could ask
        os._exit(EXIT_ORPHAN)
