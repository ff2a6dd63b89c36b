"""The sound branch with a GRU in place of the LSTM: a quarter fewer weights, and one state less."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.model.audio import COLOUR, HIDDEN, LAYERS, AudioBranch


class GruSound(AudioBranch):
    """MFCCs (B, Ta, C) -> one feature vector per tick; as AudioBranch in everything else.

    State: the three of RunningNorm; h (layers, B, hidden); the last output (B, features).
    """

    def __init__(self, coefficients: int, dropout: float = 0.0) -> None:
        super().__init__(coefficients, dropout)
        del self.lstm
        self.gru: Any = nn.GRU(2 * coefficients, HIDDEN, LAYERS, batch_first=True, dropout=dropout)

    def state_shapes(self) -> list[tuple[str, list[int]]]:
        """Name and shape of each state tensor of one stream; the batch is dimension 1 of h."""
        return [
            ("count", [1, 1]),
            ("mean", [1, self.coefficients]),
            ("power", [1, self.coefficients]),
            ("h", [LAYERS, 1, HIDDEN]),
            ("last", [1, HIDDEN + COLOUR]),
        ]

    def clip(self, x: Tensor, ticks: int, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, ticks * n, C), n >= 0 frames in each tick -> features (B, ticks, F), the new state."""
        if x.size(1) == 0:
            return state[4].unsqueeze(1).expand(-1, ticks, -1), [one.clone() for one in state]
        z, means, var, fresh = self.norm.running(x, state[:3])
        y, h = self.gru(self.norm.both(z, means, var), state[3])
        spread = torch.cat([means, 0.5 * torch.log(var)], 2).clamp(-self.norm.limit, self.norm.limit)
        last = x.size(1) // ticks - 1
        colour = F.hardswish(self.colour(spread[:, last :: last + 1]))
        ends = torch.cat([y[:, last :: last + 1], colour], 2)
        return ends, [fresh[0], fresh[1], fresh[2], h, ends[:, -1]]

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One tick: x (B, Ta, C), any Ta >= 0 -> features (B, F), the new state."""
        y, fresh = self.clip(x, 1, state)
        return y[:, 0], fresh
