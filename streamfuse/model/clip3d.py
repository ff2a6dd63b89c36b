"""The clip 3D-CNN of the textbook: three 3-D convolutions, pooling, a dense layer, over the last K pictures.

It keeps no state: the pipeline keeps the window, and every tick computes all of it again. Here for
comparison, and as the pattern of somebody's own clip model behind the same contract.

Source: Tran et al., C3D (arXiv 1412.0767), cut to three layers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.model.layers import Norm

CLIP_FRAMES = 8
CHANNELS = (32, 64, 128)
DENSE = 512
LEFT = 4
"""What is left of each side of the picture before the dense layer."""


class Clip3d(nn.Module):
    """Pictures of one view -> one feature vector per tick, from the last `frames` pictures. No state."""

    def __init__(self, channels: int, frames: int = CLIP_FRAMES) -> None:
        super().__init__()
        self.frames = frames
        self.features = DENSE
        self.left = LEFT  # TorchScript sees attributes, not the module's globals
        self.volumetric = True
        wide = (channels, *CHANNELS)
        self.convs: Any = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1, bias=False) for a, b in pairwise(wide))
        self.norms: Any = nn.ModuleList(Norm(one) for one in CHANNELS)
        self.dense = nn.Linear(CHANNELS[-1] * LEFT * LEFT, DENSE)

    def state_shapes(self, size: int) -> list[tuple[str, list[int]]]:  # noqa: ARG002
        return []

    def window(self, x: Tensor) -> Tensor:
        """x (N, K, C, H, W) -> features (N, F)."""
        y = x.transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms):  # noqa: B905 (TorchScript has no strict)
            y = F.max_pool3d(F.relu(norm(conv(y))), 2, ceil_mode=True)
        y = F.adaptive_avg_pool2d(y.mean(2), self.left)
        return F.relu(self.dense(y.flatten(1)))

    def clip(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, K - 1 + T, C, H, W): before the T ticks what the first of them look back on.

        returns  features (B, T, F); no state
        """
        windows = x.unfold(1, self.frames, 1).permute(0, 1, 5, 2, 3, 4)
        y = self.window(windows.flatten(0, 1))
        return y.view(windows.size(0), windows.size(1), -1), state

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, K, C, H, W) -> features (B, F); no state."""
        return self.window(x), state
