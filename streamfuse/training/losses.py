"""Losses in which what was not asked does not count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """The weighted mean of the cross-entropy where target >= 0; zero where nothing is asked.

    logits  (..., classes); target (...) int64, -1 where not asked; weight (...) >= 0
    """
    asked = target >= 0
    loss = F.cross_entropy(
        logits.flatten(0, -2), target.flatten(), ignore_index=-1, reduction="none", label_smoothing=smoothing
    ).view_as(target)
    # Where, not times: a NaN of a row that nobody asked must not reach the sum.
    weights = torch.where(asked, torch.ones_like(loss) if weight is None else weight, 0.0)
    loss = torch.where(asked, loss, 0.0)
    return (loss * weights).sum() / weights.sum().clamp(min=1e-6)


def masked_soft_cross_entropy(
    logits: Tensor, target: Tensor, known: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The mean cross-entropy with shares as targets where `known`; zero where nothing is.

    logits, target  (..., classes), the target adding up to 1; known (...) bool
    """
    target = target * (1.0 - smoothing) + smoothing / target.size(-1)
    loss = -(target * torch.log_softmax(logits, -1)).sum(-1)
    return torch.where(known, loss, 0.0).sum() / known.sum().clamp(min=1)


def masked_sigmoid(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of several labels at once, the mean over labels; weight (...) of each row."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(-1)
    loss = torch.where(weight > 0, loss, 0.0)
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)
