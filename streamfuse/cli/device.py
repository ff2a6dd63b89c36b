"""The device of a run, settled once at its start, so that all processes, files and screens name the same."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

from streamfuse.errors import BackendError
from streamfuse.kernels.backend import choose_device, has_driver

ANSWER_S = 120
"""For importing torch and starting CUDA on a busy machine."""


@lru_cache
def settled_device(text: str) -> str:
    """The full name, "cpu" or "cuda:N", of what a configuration says; CUDA is asked in a process of its own.

    raises  BackendError: an unknown name, or CUDA asked for by name and not usable
    """
    if text == "cpu" or not has_driver():
        return str(choose_device(text))
    argv = [sys.executable, "-m", "streamfuse.model.device", text]
    try:
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BackendError("CUDA must start", got=f"no answer within {ANSWER_S} s", where=text) from error
    if ran.returncode != 0:
        raise BackendError((ran.stderr.strip() or "CUDA must start").splitlines()[-1])
    return ran.stdout.strip()
