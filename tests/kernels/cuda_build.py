"""Compile CUDA kernels without a GPU: numba to PTX, NVIDIA's linker to machine code, and what it reports.

python -m tests.kernels.cuda_build      prints the table that benchmarks/NOTES.md quotes
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

ARCHITECTURES = ((7, 5), (8, 0), (9, 0), (10, 0))


@dataclass(frozen=True)
class Usage:
    """What one thread and one block of a kernel take; bytes."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    local: int


def to_ptx(kernel: Any, signature: Any, cc: tuple[int, int]) -> str:
    """PTX of a cuda.jit kernel. Functions it calls ask which GPU is there: they are told `cc`."""
    from numba import cuda

    with _pretended_device(cc):
        text, _ = cuda.compile(kernel.py_func, signature, device=False, cc=cc, abi="numba", output="ptx")
    return text


def assemble(ptx: str, cc: tuple[int, int]) -> Usage:
    """Machine code for `cc`, thrown away, and the assembler's account of it."""
    from cuda.bindings import nvjitlink

    handle = nvjitlink.create(2, [f"-arch=sm_{cc[0]}{cc[1]}", "-verbose"])
    data = ptx.encode()
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernel")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        raise AssertionError(f"{error}: {log.decode(errors='replace')}") from error
    finally:
        nvjitlink.destroy(handle)
    return _parse(log.decode(errors="replace"))


def _parse(log: str) -> Usage:
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    used = re.search(r"used (\d+) registers.*?(\d+) stack(?:, (\d+) bytes smem)?.*?(\d+) bytes lmem", log)
    if not spills or used is None:
        raise AssertionError(f"the assembler's account is not as expected: {log}")
    stack, stores, loads = (max(map(int, column)) for column in zip(*spills, strict=True))
    return Usage(int(used[1]), stack, stores, loads, int(used[3] or 0), int(used[4]))


@contextmanager
def _pretended_device(cc: tuple[int, int]):
    from numba.cuda import dispatcher

    with mock.patch.object(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=cc)):
        yield


def mfcc_signature() -> Any:
    from numba import float32, float64, int32, types

    return types.void(
        int32[:, ::1], float32[::1], float32[:, :, ::1], float64[::1], float64[:, ::1], int32[::1],
        float64[:, ::1], int32[::1], int32[::1], float32[::1], float32, float32[:, ::1], float32[:, ::1],
    )  # fmt: skip


def frame_window_signature(dtype: Any) -> Any:
    from numba import float32, int32, types

    return types.void(
        int32[::1], int32[:, ::1], float32[:, ::1], float32[:, ::1], float32[:, ::1], dtype[:, :, :, ::1]
    )


def kernels() -> dict[str, tuple[Any, Any]]:
    """Every kernel with a signature it is launched with."""
    from numba import float32, types, uint32
    from numba.core.types import float16

    from streamfuse.kernels.device_planes import narrow_kernel
    from streamfuse.kernels.frame_window_cuda import frame_window_kernel
    from streamfuse.kernels.mfcc_cuda import mfcc_kernel
    from streamfuse.kernels.spec import MfccSpec

    narrow_kernel.cache_clear()
    mfcc_kernel.cache_clear()
    frame_window_kernel.cache_clear()
    colour, luma = frame_window_kernel(3), frame_window_kernel(1)
    return {
        "mfcc": (mfcc_kernel(MfccSpec()), mfcc_signature()),
        "mfcc n_fft=2048": (mfcc_kernel(MfccSpec(n_fft=2048)), mfcc_signature()),
        "frame_window rgb float32": (colour, frame_window_signature(float32)),
        "frame_window rgb float16": (colour, frame_window_signature(float16)),
        "frame_window luma float32": (luma, frame_window_signature(float32)),
        "narrow": (narrow_kernel(), types.void(uint32[::1], uint32[::1])),
    }


def main() -> None:
    for cc in ARCHITECTURES:
        for name, (kernel, signature) in kernels().items():
            print(f"sm_{cc[0]}{cc[1]:<3} {name:28} {assemble(to_ptx(kernel, signature, cc), cc)}")


if __name__ == "__main__":
    main()
