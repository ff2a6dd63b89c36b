"""The picture branch: a causal (2+1)D 3D-CNN of MoViNet-A0 shape with its state in the open.

Each temporal convolution of size K keeps its last K-1 inputs, between the spatial and the temporal
half; zeros at the start are the left padding. So a tick costs the same forever, and any chunking
equals the whole clip. Means over time are running means with a floor on their rate.

Source: Kondratyuk et al., MoViNets (arXiv 2103.11511), table of A0, sections 3.2 and A.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.model.layers import Norm, running_weights, scaled

FEATURES = 480
"""Channels of the last 1x1 convolution at width 1."""


class Row(NamedTuple):
    """One block of the table: channels in, out and expanded; taps in time, size in space, stride."""

    inputs: int
    outputs: int
    expanded: int
    taps: int
    size: int
    stride: int


STEM = 8
A0 = (
    Row(8, 8, 24, 1, 5, 2),
    Row(8, 32, 80, 3, 3, 2),
    Row(32, 32, 80, 3, 3, 1),
    Row(32, 32, 80, 3, 3, 1),
    Row(32, 56, 184, 5, 3, 2),
    Row(56, 56, 112, 3, 3, 1),
    Row(56, 56, 184, 3, 3, 1),
    Row(56, 56, 184, 5, 3, 1),
    Row(56, 56, 184, 3, 3, 1),
    Row(56, 56, 184, 3, 3, 1),
    Row(56, 56, 184, 3, 3, 1),
    Row(56, 104, 384, 5, 3, 2),
    Row(104, 104, 280, 1, 5, 1),
    Row(104, 104, 280, 1, 5, 1),
    Row(104, 104, 344, 1, 5, 1),
)
"""15 blocks; through their convolutions 29 frames reach an answer."""


class Squeeze(nn.Module):
    """Squeeze and excite from (running mean, mean of this frame): MoViNet's "2plus3d" form."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = scaled(channels, 0.25)
        self.reduce = nn.Linear(2 * channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, running: Tensor, now: Tensor) -> Tensor:
        """Gates in [0, 1]; both inputs and the result are (..., C)."""
        hidden = F.hardswish(self.reduce(torch.cat([running, now], -1)))
        return F.hardsigmoid(self.expand(hidden))


class Spatial(nn.Module):
    """Convolution in space, normalisation, and mostly an activation: (1, k, k) of a clip."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.norm = Norm(outputs)
        self.act = act
        self.stride = stride
        self.padding = size // 2
        self.groups = groups
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")

    def clip(self, x: Tensor, volumetric: bool) -> Tensor:
        """(B, T, C, H, W) -> the same, at the new size. The two ways differ in rounding and speed only."""
        if not volumetric:
            y = self.step(x.flatten(0, 1))
            return y.reshape(x.size(0), x.size(1), y.size(1), y.size(2), y.size(3))
        y = F.conv3d(
            x.transpose(1, 2),
            self.conv.weight.unsqueeze(2),
            stride=[1, self.stride, self.stride],
            padding=[0, self.padding, self.padding],
            groups=self.groups,
        )
        y = self.norm(y)
        return (F.hardswish(y) if self.act else y).transpose(1, 2)

    def step(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, at the new size."""
        y = self.norm(self.conv(x))
        return F.hardswish(y) if self.act else y


class Temporal(nn.Module):
    """Depthwise causal convolution over time of size K: (K, 1, 1) of a clip, its taps kept as (K, C)."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        # Begin as "this frame", so that a network begins as one of still pictures.
        start = torch.randn(taps, channels) * 0.1
        start[-1] += 1.0
        self.taps = nn.Parameter(start)
        self.norm = Norm(channels)

    def clip(self, x: Tensor, past: Tensor, volumetric: bool) -> tuple[Tensor, Tensor]:
        """x (B, T, C, H, W), past (B, K-1, H, W, C) -> (the same shape as x, the new past)."""
        depth, channels = self.taps.shape
        full = torch.cat([past.permute(0, 1, 4, 2, 3), x], 1)
        z = full.transpose(1, 2)
        weight = self.taps.t().reshape(channels, 1, depth, 1)
        if volumetric:
            y = F.conv3d(z, weight.unsqueeze(-1), groups=channels)
        else:
            y = F.conv2d(z.flatten(3), weight, groups=channels)
            y = y.reshape(z.size(0), channels, -1, z.size(3), z.size(4))
        return F.hardswish(self.norm(y)).transpose(1, 2), full[:, x.size(1) :].permute(0, 1, 3, 4, 2)

    def step(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W), past (B, K-1, H, W, C) -> (the same shape as x, the new past).

        The normalisation is folded into the taps here; freezing computes that once, at export.
        """
        mean, var = self.norm.running_mean, self.norm.running_var
        assert mean is not None and var is not None  # what TorchScript needs to see
        scale = self.norm.weight * torch.rsqrt(var + self.norm.eps)
        weight = self.taps * scale
        now = x.permute(0, 2, 3, 1)
        last = self.taps.size(0) - 1
        y = torch.addcmul(self.norm.bias - mean * scale, now, weight[last])
        for k in range(last):
            y = torch.addcmul(y, past[:, k], weight[k])
        return F.hardswish(y).permute(0, 3, 1, 2), torch.cat([past[:, 1:], now.unsqueeze(1)], 1)


class Block(nn.Module):
    """Expand, convolve in space, then in time, squeeze and excite, project, add the input.

    State: the past of the temporal convolution (not where it has one tap), then the running mean.
    """

    def __init__(self, row: Row) -> None:
        super().__init__()
        wide = row.expanded
        self.expand = Spatial(row.inputs, wide, 1)
        self.space = Spatial(wide, wide, row.size, row.stride, groups=wide)
        self.time = Temporal(wide, row.taps) if row.taps > 1 else None
        self.squeeze = Squeeze(wide)
        self.project = Spatial(wide, row.outputs, 1, act=False)
        self.pooled = row.stride > 1
        same = row.inputs == row.outputs and not self.pooled
        self.skip = None if same else Spatial(row.inputs, row.outputs, 1, act=False)
        self.states = 2 if row.taps > 1 else 1
        # A block begins as its skip connection.
        nn.init.zeros_(self.project.norm.weight)

    def clip(
        self, x: Tensor, state: list[Tensor], mix: Tensor, keep: Tensor, volumetric: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """x (B, T, C, H, W); mix and keep of running_weights()."""
        y = self.space.clip(self.expand.clip(x, volumetric), volumetric)
        fresh: list[Tensor] = []
        if self.time is not None:
            y, past = self.time.clip(y, state[0], volumetric)
            fresh.append(past)
        now = y.mean((3, 4))
        running = torch.baddbmm(keep.unsqueeze(2) * state[-1].unsqueeze(1), mix, now)
        fresh.append(running[:, -1])
        y = self.project.clip(y * self.squeeze(running, now)[..., None, None], volumetric)
        if self.pooled:
            batch, ticks = x.size(0), x.size(1)
            x = halve(x.flatten(0, 1))
            x = x.reshape(batch, ticks, x.size(1), x.size(2), x.size(3))
        if self.skip is not None:
            x = self.skip.clip(x, volumetric)
        return x + y, fresh

    def step(self, x: Tensor, state: list[Tensor], rate: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x (B, C, H, W); rate (B, 1) of the running mean."""
        y = self.space.step(self.expand.step(x))
        fresh: list[Tensor] = []
        if self.time is not None:
            y, past = self.time.step(y, state[0])
            fresh.append(past)
        now = y.mean((2, 3))
        running = torch.lerp(state[-1], now, rate)
        fresh.append(running)
        y = self.project.step(y * self.squeeze(running, now)[..., None, None])
        if self.pooled:
            x = halve(x)
        if self.skip is not None:
            x = self.skip.step(x)
        return x + y, fresh


def halve(x: Tensor) -> Tensor:
    """Half the size (odd ones rounded up), the mean of what is inside the picture."""
    return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)


class VideoBranch(nn.Module):
    """Pictures of one view -> one feature vector per tick.

    State: the number of frames seen (B, 1), up to `memory`; the blocks' states; the mean (B, features).
    """

    def __init__(self, channels: int, width: float, memory: int) -> None:
        super().__init__()
        rows = [
            Row(scaled(r.inputs, width), scaled(r.outputs, width), scaled(r.expanded, width), *r[3:])
            for r in A0
        ]
        self.memory = memory
        self.features = scaled(FEATURES, width)
        self.volumetric = False
        self.stem = Spatial(channels, rows[0].inputs, 3, 2)
        self.blocks: Any = nn.ModuleList(Block(row) for row in rows)
        self.last = Spatial(rows[-1].outputs, self.features, 1)
        self.rows = rows

    def state_shapes(self, size: int) -> list[tuple[str, list[int]]]:
        """Name and shape of each state tensor of one stream, for pictures of size x size."""
        shapes: list[tuple[str, list[int]]] = [("count", [1, 1])]
        side = (size + 1) // 2
        for index, row in enumerate(self.rows):
            side = (side + row.stride - 1) // row.stride
            if row.taps > 1:
                shapes.append((f"block{index}.past", [1, row.taps - 1, side, side, row.expanded]))
            shapes.append((f"block{index}.mean", [1, row.expanded]))
        return [*shapes, ("mean", [1, self.features])]

    def clip(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, T, C, H, W) -> features (B, T, F) and the new state."""
        volumetric = self.volumetric
        mix, keep = running_weights(state[0], x.size(1), self.memory)
        fresh = [(state[0] + x.size(1)).clamp(max=self.memory)]
        x = self.stem.clip(x, volumetric)
        at = 1
        for block in self.blocks:
            x, new = block.clip(x, state[at : at + block.states], mix, keep, volumetric)
            fresh.extend(new)
            at += block.states
        now = self.last.clip(x, volumetric).mean((3, 4))
        means = torch.baddbmm(keep.unsqueeze(2) * state[at].unsqueeze(1), mix, now)
        fresh.append(means[:, -1])
        return means, fresh

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, C, H, W) -> features (B, F) and the new state: one tick of clip(), by 2-D operations."""
        count = state[0] + 1.0
        rate = (1.0 / count).clamp(min=1.0 / self.memory)
        fresh = [count.clamp(max=float(self.memory))]
        x = self.stem.step(x)
        at = 1
        for block in self.blocks:
            x, new = block.step(x, state[at : at + block.states], rate)
            fresh.extend(new)
            at += block.states
        mean = torch.lerp(state[at], self.last.step(x).mean((2, 3)), rate)
        fresh.append(mean)
        return mean, fresh
