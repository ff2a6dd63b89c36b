"""The network that every candidate runs: ours of preset lite and fusion hybrid, with weights by chance.

Ours steps it with its state kept from tick to tick. The peers see it as what a clip network is elsewhere: a
function of the last WINDOW ticks, the same layers with the same weights, called for each answer anew.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from streamfuse.model.export import export_model
from streamfuse.model.inspect import inspect_model
from streamfuse.model.network import build_network, network_spec
from streamfuse.model.spec import ModelSpec

HOP_S, RATE, CONTEXT = 0.1, 16_000, 352
HOP = 1600
WINDOW = 9
"""Ticks: the network's receptive field, so a window holds every picture that an answer depends on."""
COEFFICIENTS, FRAMES = 40, 10
SIZE = 96
MEAN, STD = 127 / 255, 128 / 255


def spec() -> ModelSpec:
    """One view and the plain LSTM: what a clip network elsewhere has too."""
    default = inspect_model(None).spec
    return network_spec(default.heads, preset="lite", fusion="hybrid", picture=default.video.picture)


class Clip(nn.Module):
    """The network over a window: pictures (T, 96, 96) in 0..1, MFCC (T * 10, 40) -> logits of each head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = build_network(spec(), dropout=0.0).eval()

    def forward(self, pictures: Tensor, mfcc: Tensor) -> list[Tensor]:
        video = ((pictures - MEAN) / STD)[None, None, :, None]
        present = torch.ones(1, 2, dtype=torch.bool)
        heads, _, _ = self.net.clip(video, mfcc[None], present, self.net.init_state(1))
        return [logits[0, -1] for logits in heads]


def eager() -> Clip:
    return Clip().eval()


def frozen() -> torch.jit.ScriptModule:
    """Traced for the window's shape, frozen, and optimised, as the documentation of TorchScript advises."""
    example = (torch.zeros(WINDOW, SIZE, SIZE), torch.zeros(WINDOW * FRAMES, COEFFICIENTS))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the window's shape is fixed
        traced = torch.jit.trace(Clip().eval(), example, check_trace=False, strict=False)
        made: torch.jit.ScriptModule = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        for _ in range(5):
            made(*example)
    return made


def write_ours(path: Path) -> Path:
    """The same network as a model file of ours."""
    export_model(Clip().net, spec(), path)
    return path


class Stepped:
    """Our file as a plain TorchScript user may call it: a tick at a time, its state kept. No window."""

    def __init__(self, path: Path) -> None:
        self._program = torch.jit.load(str(path)).eval()
        self._state = self._program.init_state(1)
        self._present = torch.ones(1, 2, dtype=torch.bool)

    def __call__(self, picture: Tensor, mfcc: Tensor) -> list[Tensor]:
        """picture (96, 96) in 0..1, mfcc (10, 40)."""
        video = ((picture - MEAN) / STD)[None, None, None, None]
        heads, self._state = self._program(video, mfcc[None], self._present, self._state)
        return [logits[0] for logits in heads]
