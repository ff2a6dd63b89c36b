"""The CUDA twins in numba's simulator, in a process of its own: the choice is made when numba is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("file", "least"), [("cuda_twins", 20), ("kept_twins", 15)])
def test_cuda_twins_in_the_simulator(file: str, least: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist",
               f"tests/kernels/{file}.py"]  # fmt: skip
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= least and "skipped" not in done.stdout, done.stdout[-500:]
