"""What the kernels compute, as a model file says it. Imports no numba, so that it is cheap to read."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from streamfuse.errors import ModelError

_MAX_FFT = 8192
"""Half a second at 16 kHz; the shared memory of one CUDA block holds it."""
_MAX_SIDE = 1024
"""Twice the largest input of a published video network that we know of."""


class MfccSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole definition of the MFCCs: HTK mel bands without norm, natural log, orthonormal DCT-II.

    A periodic Hann window of win_length samples stands in the middle of the n_fft ones, as librosa and
    torch place it. Frequencies in Hz; log_floor is the least mel power.
    """

    sample_rate: int = 16000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 64
    f_min: float = 20.0
    f_max: float = 7600.0
    n_mfcc: int = 40
    log_floor: float = 1e-10

    def __post_init__(self) -> None:
        rules = (
            ("n_fft", 32 <= self.n_fft <= _MAX_FFT and self.n_fft & (self.n_fft - 1) == 0,
             f"a power of two from 32 to {_MAX_FFT}"),
            ("sample_rate", self.sample_rate > 0, "positive"),
            ("win_length", 2 <= self.win_length <= self.n_fft, f"in 2..n_fft ({self.n_fft})"),
            ("hop_length", 1 <= self.hop_length <= self.n_fft, f"in 1..n_fft ({self.n_fft})"),
            ("n_mels", 1 <= self.n_mels <= self.n_fft // 2, f"in 1..n_fft / 2 ({self.n_fft // 2})"),
            ("n_mfcc", 1 <= self.n_mfcc <= self.n_mels, f"in 1..n_mels ({self.n_mels})"),
            ("f_min", 0 <= self.f_min < self.f_max, f"in 0..f_max ({self.f_max})"),
            ("f_max", self.f_max <= self.sample_rate / 2, f"at most {self.sample_rate / 2}, half the rate"),
            ("log_floor", 1e-30 <= self.log_floor <= 1, "in 1e-30..1"),
        )  # fmt: skip
        for name, holds, rule in rules:
            if not holds:
                raise ModelError(f"{name} must be {rule}", got=getattr(self, name), where="MFCC spec")

    @property
    def context_samples(self) -> int:
        """How far frame 0 reaches back before the samples it is asked for."""
        return self.n_fft - self.hop_length


class FrameSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a picture becomes: the centre square at size x size, (value in [0, 1] - mean) / std.

    colour  "rgb": three channels; "luma": one, the luma expanded to full range; it uses mean[0], std[0]
    """

    size: int = 128
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    colour: Literal["rgb", "luma"] = "rgb"

    def __post_init__(self) -> None:
        rules = (
            ("size", 1 <= self.size <= _MAX_SIDE, f"in 1..{_MAX_SIDE}"),
            ("mean", len(self.mean) == 3 and all(map(math.isfinite, self.mean)), "three finite numbers"),
            ("std", len(self.std) == 3 and all(0 < s < math.inf for s in self.std), "three positive numbers"),
            ("colour", self.colour in ("rgb", "luma"), "rgb or luma"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ModelError(f"{name} must be {rule}", got=getattr(self, name), where="frame spec")

    @property
    def channels(self) -> int:
        return 3 if self.colour == "rgb" else 1
