"""A sound branch that looks at the spectrum: causal convolutions over mel bands, one LSTM step per tick.

The MFCCs are turned back into bands (the inverse of their DCT, a fixed matrix), because a voice's pitch
and an engine's whine are shapes that move along the bands, and a convolution finds them wherever they
are. Mean and peak of a tick go to the LSTM, so that it has ten steps a second to look back over and not
a hundred. Same interface as AudioBranch.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.model.audio import RunningNorm
from streamfuse.model.layers import Norm

BANDS = 64
CHANNELS = (2, 24, 32, 48)
"""Of the bands as they are and as the stream has them; then of each layer, which halves the bands."""
TAPS, REACH = 3, 5
"""Frames and bands that one kernel covers."""
WIDTH, WIDE_TAPS = 128, 5
HIDDEN, LAYERS = 128, 2
COLOUR, MANNER = 64, 64
MANNER_TICKS = 64
"""The manner forgets over six seconds: a sentence or two."""


def inverse_dct(coefficients: int, bands: int) -> Tensor:
    """(coefficients, bands): MFCCs @ this is the log-mel spectrum without its finest ripple.

    The transpose of the orthonormal DCT-II, read at `bands` points whatever their number was before.
    """
    n = torch.arange(bands, dtype=torch.float64) + 0.5
    k = torch.arange(coefficients, dtype=torch.float64)
    basis = torch.cos(math.pi / bands * k[:, None] * n) * math.sqrt(2.0 / bands)
    basis[0] *= math.sqrt(0.5)
    return basis.float()


class Layer(nn.Module):
    """Convolution over frames and bands; half as many bands come out. State: the last TAPS - 1 frames."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, (TAPS, REACH), (1, 2), (0, REACH // 2), bias=False)
        self.norm = Norm(outputs)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, T, bands), past (B, C, TAPS - 1, bands) -> the next x, the new past."""
        full = torch.cat([past, x], 2)
        return F.relu(self.norm(self.conv(full))), full[:, :, x.size(2) :]


class ConvSound(nn.Module):
    """MFCCs (B, Ta, C) -> one feature vector per tick: the LSTM, the manner and the colour of the sound.

    Manner: a layer over the running mean and deviation of what the LSTM is told. Colour: the same of the
    bands themselves, as in AudioBranch.

    State: the three of RunningNorm; a past per convolution; count, mean and power of the manner; h and c
    (layers, B, hidden); the last output (B, features), which answers for a tick without frames.
    """

    def __init__(self, coefficients: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.coefficients = coefficients
        self.features = HIDDEN + MANNER + COLOUR
        # TorchScript sees attributes, not the module's globals.
        self.slowest = 1.0 / MANNER_TICKS
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("bands", inverse_dct(coefficients, BANDS))
        self.bands: Tensor
        self.norm: Any = RunningNorm(BANDS)
        pairs = pairwise(CHANNELS)
        self.layers: Any = nn.ModuleList(Layer(inputs, outputs) for inputs, outputs in pairs)
        flat = CHANNELS[-1] * (BANDS >> len(self.layers))
        self.squeeze: Any = nn.Linear(flat, WIDTH, bias=False)
        self.squeeze_norm: Any = Norm(WIDTH)
        self.wide: Any = nn.Conv1d(WIDTH, WIDTH, WIDE_TAPS, bias=False)
        self.wide_norm: Any = Norm(WIDTH)
        self.lstm: Any = nn.LSTM(2 * WIDTH, HIDDEN, LAYERS, batch_first=True, dropout=dropout)
        self.manner: Any = nn.Linear(4 * WIDTH, MANNER)
        self.colour: Any = nn.Linear(2 * BANDS, COLOUR)

    def set_statistics(self, mfcc: Tensor) -> None:
        """Whiten by the mean and deviation of these MFCCs (N, C)."""
        bands = mfcc @ self.bands
        self.norm.set_statistics(bands.mean(0), bands.std(0).clamp(min=1e-3))

    def state_shapes(self) -> list[tuple[str, list[int]]]:
        """Name and shape of each state tensor of one stream; the batch is dimension 1 of h and c."""
        shapes: list[tuple[str, list[int]]] = [
            ("count", [1, 1]),
            ("mean", [1, BANDS]),
            ("power", [1, BANDS]),
        ]
        for index, channels in enumerate(CHANNELS[:-1]):
            shapes.append((f"layer{index}.past", [1, channels, TAPS - 1, BANDS >> index]))
        return [
            *shapes,
            ("wide.past", [1, WIDTH, WIDE_TAPS - 1]),
            ("ticks", [1, 1]),
            ("manner_mean", [1, 2 * WIDTH]),
            ("manner_power", [1, 2 * WIDTH]),
            ("h", [LAYERS, 1, HIDDEN]),
            ("c", [LAYERS, 1, HIDDEN]),
            ("last", [1, self.features]),
        ]

    def spectrum(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """x (B, Ta, C) -> told (B, Ta, WIDTH), spread of the bands (B, Ta, 2 BANDS), the new states."""
        z, means, var, fresh = self.norm.running(x @ self.bands, state[:3])
        both = self.norm.both(z, means, var)
        y = torch.stack(both.chunk(2, 2), 1)
        at = 3
        for layer in self.layers:
            y, past = layer(y, state[at])
            fresh.append(past)
            at += 1
        y = F.relu(self.squeeze_norm(self.squeeze(y.transpose(1, 2).flatten(2)).transpose(1, 2)))
        full = torch.cat([state[at], y], 2)
        fresh.append(full[:, :, y.size(2) :])
        y = F.relu(self.wide_norm(self.wide(full)))
        spread = torch.cat([means, 0.5 * torch.log(var)], 2).clamp(-self.norm.limit, self.norm.limit)
        return y.transpose(1, 2), spread, fresh

    def manners(self, told: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """told (B, ticks, 2 WIDTH) -> its running mean and deviation (B, ticks, 4 WIDTH), new states."""
        count, mean, power = state[0], state[1], state[2]
        means: list[Tensor] = []
        for tick in range(told.size(1)):
            now = told[:, tick]
            count = (count + 1.0).clamp(max=float(self.norm.memory))
            rate = (1.0 / count).clamp(min=self.slowest)
            mean = torch.lerp(mean, now, rate)
            power = torch.lerp(power, now * now, rate)
            means.append(torch.cat([mean, (power - mean * mean).clamp(min=1e-4).sqrt()], 1))
        return torch.stack(means, 1), [count, mean, power]

    def clip(self, x: Tensor, ticks: int, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x (B, ticks * n, C), n >= 0 frames in each tick -> features (B, ticks, F), the new state."""
        if x.size(1) == 0:
            return state[-1].unsqueeze(1).expand(-1, ticks, -1), [one.clone() for one in state]
        y, spread, fresh = self.spectrum(x, state)
        n = x.size(1) // ticks
        y = y.float()
        by_tick = y.reshape(y.size(0), ticks, n, y.size(2))
        told = torch.cat([by_tick.mean(2), by_tick.amax(2)], 2)
        at = len(fresh)
        stood, new = self.manners(told, state[at : at + 3])
        fresh.extend(new)
        heard, (h, c) = self.lstm(self.dropout(told), (state[at + 3], state[at + 4]))
        manner = F.hardswish(self.manner(self.dropout(stood)))
        colour = F.hardswish(self.colour(spread[:, n - 1 :: n]))
        ends = torch.cat([heard, manner, colour], 2)
        fresh.extend([h, c, ends[:, -1]])
        return ends, fresh

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One tick: x (B, Ta, C), any Ta >= 0 -> features (B, F), the new state."""
        y, fresh = self.clip(x, 1, state)
        return y[:, 0], fresh
