"""Puts the disk faults of ../disk.py, and the hang of SIGUSR1, into a child before it runs anything else."""

import contextlib
import importlib.util
import signal
import sys
from pathlib import Path


def _hang(_number: int, _frame: object) -> None:
    while True:
        pass


with contextlib.suppress(ValueError):  # not in the main thread of some embedded interpreter
    signal.signal(signal.SIGUSR1, _hang)

_spec = importlib.util.spec_from_file_location("disk_faults", Path(__file__).parents[1] / "disk.py")
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["disk_faults"] = _module  # dataclasses look their module up
_spec.loader.exec_module(_module)
