"""A model that measures instead of guessing: bright or dark, loud or quiet. Its labels can be checked.

It is a program of its own in TorchScript, without one weight, as somebody's own model file would be; so it
loads and runs in no time, and what a label says of a tick is what the tick held.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from streamfuse.kernels.spec import FrameSpec
from streamfuse.model import torchscript
from streamfuse.model.export import write_model
from streamfuse.model.spec import SPEC_FILE, HeadSpec, ModelSpec, StateSpec, VideoSpec

SPEC = ModelSpec(
    name="meter",
    heads=(HeadSpec("scene", ("dark", "bright")), HeadSpec("emotion", ("quiet", "loud"))),
    video=VideoSpec(picture=FrameSpec(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), colour="luma")),
    state=(StateSpec("steps", (1, 1)),),
)
LOUD = -140.0
"""Mean of the first cepstral coefficient over a tick: digital silence is -184, a tone at -20 dB is -127."""


class Meter(nn.Module):
    """`nan_every` > 0: every so many steps the answer is no number."""

    def __init__(self, nan_every: int) -> None:
        super().__init__()
        self.nan_every, self.loud = nan_every, LOUD

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return [torch.zeros(batch, 1)]

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        steps = state[0] + 1
        light = (video.mean(dim=[1, 2, 3, 4, 5]) - 0.5) * 100
        level = audio[:, :, 0].mean(dim=1) - self.loud
        light = torch.where(present[:, 0], light, torch.full_like(light, -100.0))
        level = torch.where(present[:, -1], level, torch.full_like(level, -100.0))
        if self.nan_every > 0 and bool((steps >= self.nan_every).any()):
            light = light / 0.0 - light / 0.0
        return [torch.stack([-light, light], 1), torch.stack([-level, level], 1)], [steps]


def write_meter(path: Path, nan_every: int = 0) -> Path:
    program = torchscript.script(Meter(nan_every).eval())
    write_model(torchscript.dump(program, {SPEC_FILE: SPEC.to_json()}), path)
    return path
