"""What an encoder does to a picture: blocks of 8 x 8, their cosine transform rounded as JPEG rounds it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 8
# The luminance table of ITU-T T.81, annex K, in rows.
_TABLE = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip


def _cosines() -> Tensor:
    """The orthonormal DCT-II of 8 samples, (8, 8): frequency by place."""
    k, n = torch.arange(BLOCK)[:, None], torch.arange(BLOCK)[None]
    basis = torch.cos(math.pi * (2 * n + 1) * k / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    basis[0] = math.sqrt(1 / BLOCK)
    return basis


def _steps(quality: int) -> Tensor:
    """The table at a quality of 1 to 100, scaled as libjpeg scales it."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((_TABLE * scale + 50) // 100).clamp(1, 255).float()


def compressed(pictures: Tensor, quality: int) -> Tensor:
    """(..., H, W) in [0, 1] -> the same, as each plane comes back from a JPEG of this quality (1 to 100).

    A camera's encoder works at its own, larger size; here the blocks are those of what the model is shown,
    as of a stream of low resolution.
    """
    high, wide = pictures.shape[-2:]
    flat = pictures.reshape(-1, 1, high, wide)
    right, below = -wide % BLOCK, -high % BLOCK
    planes = torch.nn.functional.pad(flat, (0, right, 0, below), mode="replicate")[:, 0] * 255.0 - 128.0
    rows, columns = planes.size(1) // BLOCK, planes.size(2) // BLOCK
    blocks = planes.view(-1, rows, BLOCK, columns, BLOCK).transpose(2, 3)
    basis, steps = _cosines(), _steps(quality)
    rounded = torch.round(basis @ blocks @ basis.t() / steps) * steps
    back = (basis.t() @ rounded @ basis).transpose(2, 3).reshape(planes.shape)
    return ((back + 128.0) / 255.0).clamp(0.0, 1.0)[:, :high, :wide].reshape(pictures.shape)
