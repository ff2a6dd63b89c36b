"""Where a stage learns: the module and what it is shown lie on one device, and everything else on the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from streamfuse.errors import BackendError

Batch = TypeVar("Batch")


def in_bfloat16(device: str, wanted: bool) -> AbstractContextManager[object]:
    """Convolutions and the like in bfloat16 where that is wanted; parameters and losses stay float32."""
    return torch.autocast(device, torch.bfloat16) if wanted else nullcontext()


def refuse_device_that_is_not_there(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("training on cuda needs a torch with CUDA", got=f"torch {torch.__version__}")


def moved(batch: Batch, device: str) -> Batch:
    """The same batch with its tensors on a device: a tensor, or a tuple, mapping or dataclass of such."""
    moving: Any
    if isinstance(batch, Tensor):
        moving = batch.to(device)
    elif isinstance(batch, tuple):
        moving = tuple(moved(one, device) for one in batch)
    elif isinstance(batch, dict):
        moving = {name: moved(one, device) for name, one in batch.items()}
    elif is_dataclass(batch) and not isinstance(batch, type):
        moving = type(batch)(*(moved(getattr(batch, one.name), device) for one in fields(batch)))
    else:
        raise TypeError(f"a batch is made of tensors, got {type(batch).__name__}")
    return cast(Batch, moving)
