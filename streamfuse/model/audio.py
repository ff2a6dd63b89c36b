"""The sound branch: causal normalisation of MFCCs and an LSTM, both carried from tick to tick."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 128
LAYERS = 2
COLOUR = 64
PRIOR_FRAMES = 100
"""The training set's mean and variance weigh as much as this many frames of the stream: one second."""
MEMORY_FRAMES = 3000
"""The running statistics forget over half a minute of frames, so that a stream may change its room."""
LIMIT = 8.0
"""Normalised coefficients are cut here: a switched-off microphone is no reason to saturate the LSTM."""


class RunningNorm(nn.Module):
    """Normalise each MFCC frame by the training set's numbers, and by those of the stream up to it.

    Both, side by side: the second takes away what is stationary, and rain or traffic are just that.

    State: frames seen (B, 1), up to MEMORY_FRAMES; mean (B, C) and second moment less one (B, C) of
    the coefficients whitened by the prior. All zeros is the prior alone.
    """

    def __init__(self, coefficients: int) -> None:
        super().__init__()
        # TorchScript sees attributes, not the module's globals.
        self.prior_frames, self.memory, self.limit = PRIOR_FRAMES, MEMORY_FRAMES, LIMIT
        self.register_buffer("prior_mean", torch.zeros(coefficients))
        self.register_buffer("prior_std", torch.ones(coefficients))
        self.prior_mean: Tensor
        self.prior_std: Tensor

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation (C,) of the training set's MFCCs."""
        self.prior_mean.copy_(mean)
        self.prior_std.copy_(std)

    def running(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """x (B, Ta, C), Ta >= 1 -> x by the prior alone; the running mean and variance of that; new state."""
        z = (x - self.prior_mean) / self.prior_std
        count, mean, power = state[0], state[1], state[2]
        frames = torch.arange(1, x.size(1) + 1, device=x.device, dtype=x.dtype)
        rate = (1.0 / (self.prior_frames + count + frames)).clamp(min=1.0 / (self.prior_frames + self.memory))
        # m_i = m_{i-1} + r_i (z_i - m_{i-1}), all at once: with D_i the product of (1 - r) up to i,
        # m_i = m_0 + D_i * sum_{j <= i} r_j / D_j (z_j - m_0). D stays far from zero: r <= 1/101. As a
        # sum of changes, because (1 - r) alone, rounded thousands of times, was off by 1e-4.
        decay = torch.cumprod(1.0 - rate, 1).unsqueeze(2)
        weight = rate.unsqueeze(2) / decay
        mean, power = mean.unsqueeze(1), power.unsqueeze(1)
        means = mean + decay * torch.cumsum(weight * (z - mean), 1)
        powers = power + decay * torch.cumsum(weight * (z * z - 1.0 - power), 1)
        var = (1.0 + powers - means * means).clamp(min=1e-2)
        fresh = [(count + x.size(1)).clamp(max=float(self.memory)), means[:, -1], powers[:, -1]]
        return z, means, var, fresh

    def both(self, z: Tensor, means: Tensor, var: Tensor) -> Tensor:
        """(B, Ta, 2C): by the prior alone, and by the running numbers."""
        return torch.cat([z, (z - means) * torch.rsqrt(var)], 2).clamp(-self.limit, self.limit)

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, Ta, C), Ta >= 1 -> (B, Ta, 2C) of both(), and the new state."""
        z, means, var, fresh = self.running(x, state)
        return self.both(z, means, var), fresh


class AudioBranch(nn.Module):
    """MFCCs (B, Ta, C) -> one feature vector per tick: what the LSTM says, and the colour of the sound.

    The colour is a layer over the running mean and deviation that the normalisation keeps anyway: what
    rain or an engine is, is in them, and an LSTM needs many more recordings to find that by itself.

    State: the three of RunningNorm; h and c (layers, B, hidden); the last output (B, features), which
    answers for a tick without frames.
    """

    def __init__(self, coefficients: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.coefficients = coefficients
        self.features = HIDDEN + COLOUR
        self.norm: Any = RunningNorm(coefficients)
        self.lstm: Any = nn.LSTM(2 * coefficients, HIDDEN, LAYERS, batch_first=True, dropout=dropout)
        self.colour: Any = nn.Linear(2 * coefficients, COLOUR)

    def set_statistics(self, mfcc: Tensor) -> None:
        """Whiten by the mean and deviation of these MFCCs (N, C)."""
        self.norm.set_statistics(mfcc.mean(0), mfcc.std(0).clamp(min=1e-3))

    def state_shapes(self) -> list[tuple[str, list[int]]]:
        """Name and shape of each state tensor of one stream; the batch is dimension 1 of h and c."""
        return [
            ("count", [1, 1]),
            ("mean", [1, self.coefficients]),
            ("power", [1, self.coefficients]),
            ("h", [LAYERS, 1, HIDDEN]),
            ("c", [LAYERS, 1, HIDDEN]),
            ("last", [1, HIDDEN + COLOUR]),
        ]

    def clip(self, x: Tensor, ticks: int, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, ticks * n, C), n >= 0 frames in each tick -> features (B, ticks, F), the new state."""
        if x.size(1) == 0:
            return state[5].unsqueeze(1).expand(-1, ticks, -1), [one.clone() for one in state]
        z, means, var, fresh = self.norm.running(x, state[:3])
        y, (h, c) = self.lstm(self.norm.both(z, means, var), (state[3], state[4]))
        spread = torch.cat([means, 0.5 * torch.log(var)], 2).clamp(-self.norm.limit, self.norm.limit)
        last = x.size(1) // ticks - 1
        colour = F.hardswish(self.colour(spread[:, last :: last + 1]))
        ends = torch.cat([y[:, last :: last + 1], colour], 2)
        return ends, [fresh[0], fresh[1], fresh[2], h, c, ends[:, -1]]

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One tick: x (B, Ta, C), any Ta >= 0 -> features (B, F), the new state."""
        y, fresh = self.clip(x, 1, state)
        return y[:, 0], fresh
