"""Puts the faults of ../disk.py, ../clocks.py and ../starve.py, and the hang of SIGUSR1, into a child."""

import contextlib
import importlib.util
import signal
import sys
from pathlib import Path


def _hang(_number: int, _frame: object) -> None:
    while True:
        pass


def _load(name: str, file: str) -> None:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)


with contextlib.suppress(ValueError):  # not in the main thread of some embedded interpreter
    signal.signal(signal.SIGUSR1, _hang)
_load("disk_faults", "disk.py")
_load("clock_faults", "clocks.py")
_load("starve_faults", "starve.py")
