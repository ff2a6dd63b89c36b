"""The one place that calls torch.jit, and that silences its notices of deprecation.

torch is pinned below the version that drops TorchScript (pyproject.toml); the notice is no news to users.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        yield


def script(module: nn.Module) -> Any:
    """The module as a program; evaluation mode is baked in by freeze()."""
    with _quiet():
        return torch.jit.script(module)


def freeze(module: nn.Module, *, keep: tuple[str, ...]) -> Any:
    """Script and freeze: weights become constants, normalisation is folded. `keep` are methods to keep."""
    with _quiet():
        return torch.jit.freeze(torch.jit.script(module.eval()), preserved_attrs=list(keep))


def dump(program: Any, extra: dict[str, str | bytes]) -> bytes:
    """The program as a file's bytes, with extra files inside."""
    buffer = io.BytesIO()
    with _quiet():
        torch.jit.save(program, buffer, _extra_files=extra)
    return buffer.getvalue()


def load(data: bytes, device: str) -> Any:
    """The program of a file's bytes, on a device."""
    with _quiet():
        return torch.jit.load(  # type: ignore[no-untyped-call]
            io.BytesIO(data), map_location=device
        )


def graph_of(program: Any) -> Any:
    """What the program computes, its functions written out."""
    graph = program.graph.copy()
    torch._C._jit_pass_inline(graph)
    return graph


def prepare_process(threads: int) -> None:
    """Set how this process runs programs. Process-wide, and quick to do again.

    One thread by default: with a busy neighbour two gave a p99 of 1350 ms where one gave 7.7 ms.
    The plain executor: the profiling one recompiles at calls 2 and 3, and again for each new shape.
    No fuser on CUDA: the plain executor's fails at a split of the last dimension, as an LSTM's, and makes
    kernels that read misaligned memory (torch 2.11 on an H200); a recorded graph has no launches to save.
    Float32 on CUDA is float32: TF32 keeps 10 bits of 23, and the CPU's answers would not be met.
    No word about an LSTM's weights on CUDA: they are constants of a frozen program, one tensor each, which
    flatten_parameters() does not reach; cuDNN gathers them at each call, which a recorded graph does too.
    """
    warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
    torch.set_num_threads(threads)
    with suppress(RuntimeError):  # it may be set only once, before the first parallel work
        torch.set_num_interop_threads(1)
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_override_can_fuse_on_gpu(False)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
