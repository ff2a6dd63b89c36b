"""Which device the kernels run on. Asking costs no import of numba where there is no CUDA driver."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from streamfuse.errors import BackendError

_DEVICE = re.compile(r"auto|cpu|cuda(?::(\d+))?")
_INSTALL = "pip install 'streamfuse[cuda]'"


@dataclass(frozen=True, slots=True)
class Device:
    """Where kernels and model run; as text "cpu" or "cuda:0"."""

    kind: Literal["cpu", "cuda"]
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


CPU = Device("cpu")


@cache
def cuda_missing() -> str | None:
    """Return what keeps CUDA kernels from running here and what to do about it; None if nothing.

    Asking initialises the driver: a process that forks or only supervises must not ask.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        return f"the numba-cuda package is not installed; {_INSTALL}"
    if not has_driver():
        return "no usable CUDA driver or GPU: libcuda.so.1 does not load; see `nvidia-smi`"
    try:
        from numba import cuda

        available = cuda.is_available()
    except Exception as error:  # noqa: BLE001  a broken driver raises many kinds; each is an answer
        return f"CUDA does not start: {_one_line(error)}; see `nvidia-smi`"
    if available:
        return None
    return f"no usable CUDA driver or GPU: {_one_line(cuda.cuda_error())}; see `nvidia-smi`"


def has_driver() -> bool:
    """Whether CUDA is worth asking for: without its driver, 0.3 s of importing numba.cuda are saved.

    Loading it starts nothing. Elsewhere than on Linux, and under numba's simulator, numba itself is asked.
    """
    if sys.platform != "linux" or os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return True
    for name in ("libcuda.so", "libcuda.so.1", "/usr/lib/libcuda.so.1", "/usr/lib64/libcuda.so.1"):
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def choose_device(text: str) -> Device:
    """Return the device for "auto", "cpu", "cuda" or "cuda:N".

    auto    CUDA where it works, else the CPU; the caller says which
    raises  BackendError: an unknown name, or CUDA asked for by name and not usable
    """
    match = _DEVICE.fullmatch(text)
    if match is None:
        raise BackendError("device must be auto, cpu, cuda or cuda:N", got=repr(text))
    if text == "cpu":
        return CPU
    missing = cuda_missing()
    if missing is not None:
        if text == "auto":
            return CPU
        raise BackendError(f"device {text} is not usable", where="kernels", hint=missing)
    index, count = int(match[1] or 0), _gpu_count()
    if index >= count:
        raise BackendError(f"GPU index must be below {count}", got=index, where=f"device {text}")
    return Device("cuda", index)


def primary_context(index: int) -> AbstractContextManager[Any]:
    """Make the primary context of a GPU, which numba and torch share, this thread's for a `with`."""
    from numba import cuda

    context: AbstractContextManager[Any] = cuda.gpus[index]
    return context


def kernel_device(backend: str | Device) -> Device:
    """Return the device a kernel is to run on; "auto" is refused: that is chosen once, at start."""
    if isinstance(backend, Device):
        return backend
    if backend == "auto":
        raise BackendError(
            "backend must be cpu, cuda or cuda:N", got="'auto'", hint="choose_device() decides"
        )
    return CPU if backend == "cpu" else _named_cuda(backend)


@lru_cache(maxsize=8)
def _named_cuda(text: str) -> Device:
    return choose_device(text)


def _gpu_count() -> int:
    from numba import cuda

    return len(cuda.gpus)


def _one_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200].rstrip(".") if lines else "no reason given"
