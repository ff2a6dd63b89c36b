"""The picture branch on ImageNet's shoulders: EfficientNet-Lite0 made a causal (2+1)D 3D-CNN.

Its first twelve blocks, on one channel of luma, with depthwise causal convolutions over time put into
four of them ("inflation", Carreira and Zisserman, arXiv 1705.07750). Those begin as "this frame", so
that the pretrained network of still pictures is where training begins, and not what it has to find.
No squeeze and excite, ReLU6: made for plain processors. Same interface as VideoBranch.

Source: Tan and Le, EfficientNet (arXiv 1905.11946); the Lite variant of tensorflow/tpu.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.model.layers import Norm, running_weights
from streamfuse.model.video import FEATURES


class LiteRow(NamedTuple):
    """One block: channels in and out, expansion, kernel size and stride in space, taps in time."""

    inputs: int
    outputs: int
    expansion: int
    size: int
    stride: int
    taps: int


STEM = 32
LITE0 = (
    LiteRow(32, 16, 1, 3, 1, 1),
    LiteRow(16, 24, 6, 3, 2, 1),
    LiteRow(24, 24, 6, 3, 1, 1),
    LiteRow(24, 40, 6, 5, 2, 1),
    LiteRow(40, 40, 6, 5, 1, 1),
    LiteRow(40, 80, 6, 3, 2, 1),
    LiteRow(80, 80, 6, 3, 1, 3),
    LiteRow(80, 80, 6, 3, 1, 3),
    LiteRow(80, 112, 6, 5, 1, 1),
    LiteRow(112, 112, 6, 5, 1, 3),
    LiteRow(112, 112, 6, 5, 1, 3),
    LiteRow(112, 192, 6, 5, 2, 1),
)
"""Blocks 0..11 of Lite0. The four after them hold 70 % of its parameters and added nothing here
(features of block 11 and of block 15 with a linear head: 92 % of unseen scene pictures, both)."""


class Conv(nn.Module):
    """Convolution padded as TensorFlow's "same", normalisation, and mostly ReLU6. (B, C, H, W)."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        # At stride 1 "same" is symmetric, and the convolution pads without a copy.
        padding = size // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)
        self.norm = Norm(outputs)
        self.act = act
        self.size = size
        self.stride = stride

    def _pad(self, x: Tensor) -> Tensor:
        # "same" puts the odd zero behind, where PyTorch's own padding puts it in front.
        high = max((-(-x.size(2) // self.stride) - 1) * self.stride + self.size - x.size(2), 0)
        wide = max((-(-x.size(3) // self.stride) - 1) * self.stride + self.size - x.size(3), 0)
        return F.pad(x, [wide // 2, wide - wide // 2, high // 2, high - high // 2])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(self._pad(x) if self.stride > 1 else x))
        return F.relu6(y) if self.act else y


class Taps(nn.Module):
    """Depthwise causal convolution over time, its weights (K, C); begins as the identity."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        start = torch.zeros(taps, channels)
        start[-1] = 1.0
        self.taps = nn.Parameter(start)

    def clip(self, x: Tensor, past: Tensor, volumetric: bool) -> tuple[Tensor, Tensor]:
        """x (B, T, C, H, W), past (B, K-1, C, H, W) -> (the same shape as x, the new past)."""
        depth, channels = self.taps.shape
        full = torch.cat([past, x], 1)
        z = full.transpose(1, 2)
        weight = self.taps.t().reshape(channels, 1, depth, 1)
        if volumetric:
            y = F.conv3d(z, weight.unsqueeze(-1), groups=channels)
        else:
            y = F.conv2d(z.flatten(3), weight, groups=channels).view_as(z[:, :, -x.size(1) :])
        return y.transpose(1, 2), full[:, x.size(1) :]

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W), past (B, K-1, C, H, W) -> (the same shape as x, the new past)."""
        weight = self.taps[:, :, None, None]
        last = self.taps.size(0) - 1
        y = x * weight[last]
        for k in range(last):
            y = torch.addcmul(y, past[:, k], weight[k])
        return y, torch.cat([past[:, 1:], x.unsqueeze(1)], 1)


class LiteBlock(nn.Module):
    """Expand, convolve in space, then in time, project, add the input. State: the past, where it has taps."""

    def __init__(self, row: LiteRow) -> None:
        super().__init__()
        wide = row.inputs * row.expansion
        self.expand = Conv(row.inputs, wide, 1) if row.expansion > 1 else None
        self.space = Conv(wide, wide, row.size, row.stride, groups=wide)
        self.time = Taps(wide, row.taps) if row.taps > 1 else None
        self.project = Conv(wide, row.outputs, 1, act=False)
        self.residual = row.stride == 1 and row.inputs == row.outputs
        self.states = 1 if row.taps > 1 else 0

    def _spread(self, x: Tensor) -> Tensor:
        if self.expand is not None:
            x = self.expand(x)
        spread: Tensor = self.space(x)
        return spread

    def clip(self, x: Tensor, state: list[Tensor], volumetric: bool) -> tuple[Tensor, list[Tensor]]:
        """x (B, T, C, H, W) -> the same at the new size."""
        batch, ticks = x.size(0), x.size(1)
        y = self._spread(x.flatten(0, 1))
        fresh: list[Tensor] = []
        if self.time is not None:
            z, past = self.time.clip(y.view(batch, ticks, *y.shape[1:]), state[0], volumetric)
            y = z.flatten(0, 1)
            fresh.append(past)
        y = self.project(y)
        y = y.view(batch, ticks, *y.shape[1:])
        return (x + y if self.residual else y), fresh

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, C, H, W) -> the same at the new size."""
        y = self._spread(x)
        fresh: list[Tensor] = []
        if self.time is not None:
            y, past = self.time.step(y, state[0])
            fresh.append(past)
        y = self.project(y)
        return (x + y if self.residual else y), fresh


class LiteBranch(nn.Module):
    """Pictures of one view -> one feature vector per tick.

    State: the number of frames seen (B, 1), up to `memory`; the pasts; the mean (B, features).
    """

    def __init__(self, channels: int, memory: int) -> None:
        super().__init__()
        self.memory = memory
        self.features = FEATURES
        self.volumetric = False
        self.stem = Conv(channels, STEM, 3, 2)
        self.blocks: Any = nn.ModuleList(LiteBlock(row) for row in LITE0)
        self.last = Conv(LITE0[-1].outputs, FEATURES, 1)

    def state_shapes(self, size: int) -> list[tuple[str, list[int]]]:
        """Name and shape of each state tensor of one stream, for pictures of size x size."""
        shapes: list[tuple[str, list[int]]] = [("count", [1, 1])]
        side = -(-size // 2)
        for index, row in enumerate(LITE0):
            side = -(-side // row.stride)
            if row.taps > 1:
                wide = row.inputs * row.expansion
                shapes.append((f"block{index}.past", [1, row.taps - 1, wide, side, side]))
        return [*shapes, ("mean", [1, self.features])]

    def lower(self, x: Tensor, blocks: int) -> Tensor:
        """(N, C, H, W) through the stem and the first `blocks` blocks, none of which looks at the past."""
        x = self.stem(x)
        for block in self.blocks[:blocks]:
            x, _ = block.step(x, [])
        return x

    def upper(self, x: Tensor, blocks: int, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What lower() gave, (B, T, C, H, W) -> features (B, T, F) and the new state."""
        mix, keep = running_weights(state[0], x.size(1), self.memory)
        fresh = [(state[0] + x.size(1)).clamp(max=float(self.memory))]
        ticks = [x.size(0), x.size(1)]
        at = 1
        for block in self.blocks[blocks:]:
            x, new = block.clip(x, state[at : at + block.states], self.volumetric)
            fresh.extend(new)
            at += block.states
        now = self.last(x.flatten(0, 1)).mean((2, 3)).view(ticks[0], ticks[1], -1)
        means = torch.baddbmm(keep.unsqueeze(2) * state[at].unsqueeze(1), mix, now)
        fresh.append(means[:, -1])
        return means, fresh

    def clip(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, T, C, H, W) -> features (B, T, F) and the new state."""
        below = self.stem(x.flatten(0, 1))
        return self.upper(below.view(x.size(0), x.size(1), *below.shape[1:]), 0, state)

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, C, H, W) -> features (B, F) and the new state: one tick of clip()."""
        count = state[0] + 1.0
        rate = (1.0 / count).clamp(min=1.0 / self.memory)
        fresh = [count.clamp(max=float(self.memory))]
        x = self.stem(x)
        at = 1
        for block in self.blocks:
            x, new = block.step(x, state[at : at + block.states])
            fresh.extend(new)
            at += block.states
        mean = torch.lerp(state[at], self.last(x).mean((2, 3)), rate)
        fresh.append(mean)
        return mean, fresh
