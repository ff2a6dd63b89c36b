"""Which device is chosen, what an absent one says, and code that cannot be kept on disk."""

from __future__ import annotations

import subprocess
import sys

import numba
import pytest
from numba.core import dispatcher

from streamfuse.errors import BackendError
from streamfuse.kernels import backend
from streamfuse.kernels.backend import CPU, Device, choose_device, kernel_device
from streamfuse.kernels.jit import cpu_jit


@pytest.fixture
def gpus(monkeypatch):
    """Say how many usable GPUs there are; 0 is a machine without a driver."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(backend, "cuda_missing", lambda: None if count else "no usable CUDA driver")
        monkeypatch.setattr(backend, "_gpu_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("text", "count", "device"),
    [("cpu", 2, "cpu"), ("auto", 0, "cpu"), ("auto", 1, "cuda:0"), ("cuda", 2, "cuda:0"),
     ("cuda:1", 2, "cuda:1")],
)  # fmt: skip
def test_choose_device(gpus, text: str, count: int, device: str) -> None:
    gpus(count)
    assert str(choose_device(text)) == device


def test_choosing_the_cpu_does_not_ask_for_cuda(monkeypatch) -> None:
    monkeypatch.setattr(backend, "cuda_missing", lambda: pytest.fail("asked"))
    assert choose_device("cpu") == CPU == Device("cpu")


@pytest.mark.parametrize("text", ["cuda", "cuda:0"])
def test_cuda_by_name_without_cuda_is_an_error(gpus, text: str) -> None:
    gpus(0)
    with pytest.raises(
        BackendError, match=rf"^device {text} is not usable \[kernels\]; no usable CUDA driver$"
    ):
        choose_device(text)


def test_gpu_that_is_not_there_is_an_error(gpus) -> None:
    gpus(2)
    with pytest.raises(BackendError, match=r"^GPU index must be below 2, got 2 \[device cuda:2\]$"):
        choose_device("cuda:2")


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "CPU", "cuda:0 ", ""])
def test_unknown_device_is_an_error(text: str) -> None:
    with pytest.raises(BackendError, match="device must be auto, cpu, cuda or cuda:N, got"):
        choose_device(text)


def test_cuda_missing_names_the_package(monkeypatch) -> None:
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    backend.cuda_missing.cache_clear()
    try:
        assert "pip install 'streamfuse[cuda]'" in backend.cuda_missing()
    finally:
        backend.cuda_missing.cache_clear()


def test_code_that_cannot_be_kept_is_compiled_all_the_same(monkeypatch) -> None:
    class NoPlace:
        def __init__(self, function):
            raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(dispatcher, "FunctionCache", NoPlace)
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(lambda x: x + 1)
    assert cpu_jit()(lambda x: x + 1)(1) == 2


def test_kernel_device_takes_names_and_devices_but_not_auto(gpus) -> None:
    gpus(0)
    assert kernel_device("cpu") == kernel_device(CPU) == CPU
    assert kernel_device(Device("cuda", 3)) == Device("cuda", 3)
    with pytest.raises(BackendError, match=r"backend must be cpu, cuda or cuda:N, got 'auto'; choose_device"):
        kernel_device("auto")
    with pytest.raises(BackendError, match="device cuda is not usable"):
        kernel_device("cuda")


def test_without_a_driver_library_numba_cuda_is_not_even_imported() -> None:
    """Its import costs a third of the start of `--device auto` on a machine without a GPU."""
    program = """
import ctypes, sys
def refuse(name, *args, **options):
    raise OSError(name)
ctypes.CDLL = refuse
from streamfuse.kernels.backend import choose_device
print(choose_device("auto"), "numba" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["cpu", "False"]


@pytest.mark.parametrize("bold", ["", "\x1b[1m", "\x1b[1m\x1b[1m"])
def test_advice_to_launch_larger_grids_is_not_given_to_users(bold: str) -> None:
    """numba makes it bold on some terminals; what else it has to say is said."""
    pytest.importorskip("numba_cuda")
    program = """
import sys, warnings
from numba.cuda.core.errors import NumbaPerformanceWarning
import streamfuse.kernels.staging
bold = sys.argv[1]
message = "Grid size 4 will likely result in GPU under-utilization due to low occupancy."
warnings.warn(NumbaPerformanceWarning(bold + message + bold))
warnings.warn(NumbaPerformanceWarning(bold + "Host array used in CUDA kernel" + bold))
"""
    command = [sys.executable, "-c", program, bold]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Grid size" not in told.stderr and "Host array used" in told.stderr
