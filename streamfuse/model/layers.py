"""What the picture branches share: widths, normalisation of any rank, and running means."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def scaled(channels: int, width: float) -> int:
    """Channels at another width, in whole eights so that vector units stay full."""
    return max(8, int(channels * width + 4) // 8 * 8)


class Norm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of (B, C, ...) of any rank, so that clip and step share its numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def running_weights(count: Tensor, length: int, memory: int) -> tuple[Tensor, Tensor]:
    """The running mean of `length` more items, as a linear map of the old mean and the items.

    count    (B, 1) items seen so far; item n has the rate max(1 / (n + 1), 1 / memory), so that the
             mean is the plain one of all items until `memory` of them, and forgets after
    returns  mix (B, T, T) lower triangular and keep (B, T): means = keep * old + mix @ items
    """
    rates = (1.0 / (count + torch.arange(1, length + 1, device=count.device))).clamp(min=1.0 / memory)
    row = torch.zeros(count.size(0), length, device=count.device, dtype=count.dtype)
    kept = torch.ones_like(count)
    rows: list[Tensor] = []
    keeps: list[Tensor] = []
    for t in range(length):
        rate = rates[:, t : t + 1]
        unit = torch.zeros_like(row)
        unit[:, t] = 1.0
        row = row * (1.0 - rate) + rate * unit
        kept = kept * (1.0 - rate)
        rows.append(row)
        keeps.append(kept)
    return torch.stack(rows, 1), torch.cat(keeps, 1)
