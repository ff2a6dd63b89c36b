"""Parts of a network while it learns: a modality's own heads, a branch's new state, what stands still."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from streamfuse.model.lite import Conv, LiteBranch
from streamfuse.model.network import Network
from streamfuse.model.spec import ModelSpec


def heads_of(network: Network, modality: int, spec: ModelSpec) -> dict[str, nn.Module]:
    """The auxiliary heads on one modality, by the name of the head."""
    some = network.fusion.unimodal.by_modality[modality]
    return {head.name: one for head, one in zip(spec.heads, some, strict=True)}


def branch_state(shapes: list[tuple[str, list[int]]], batch: int, device: str = "cpu") -> list[Tensor]:
    """Zeros for `batch` streams of one branch."""
    sizes = [
        [batch if dim == (1 if name in ("h", "c") else 0) else n for dim, n in enumerate(shape)]
        for name, shape in shapes
    ]
    return [torch.zeros(size, device=device) for size in sizes]


def keep_statistics(module: nn.Module) -> None:
    """Training mode but for batch normalisation: pretrained statistics are better than a small batch's."""
    module.train()
    for one in module.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.eval()


def fused(branch: LiteBranch) -> LiteBranch:
    """A copy with its normalisations folded into the convolutions: half the time of a frozen layer."""
    copied = copy.deepcopy(branch).eval()
    for part in copied.modules():
        if isinstance(part, Conv):
            part.conv = fuse_conv_bn_eval(part.conv, part.norm)
            part.norm = nn.Identity()  # type: ignore[assignment]
    return copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
