"""One loop for every stage: warm-up and cosine rate, clipped gradients, a running mean of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from streamfuse.clock import SYSTEM
from streamfuse.errors import StageError
from streamfuse.training.settings import StageSettings

WARM_UP_STEPS = 50
CLIP_NORM = 1.0
MEAN_OVER_STEPS = 200
"""The weights that are kept are a running mean over about this many steps."""
Report = Callable[[str, float, dict[str, float]], None]
"""Told the stage, the share of it that is done, and its latest figures."""


@dataclass
class WeightMean:
    """The running mean of a module's parameters and buffers."""

    module: nn.Module
    kept: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        self.kept = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def update(self) -> None:
        self.steps += 1
        share = min(1.0 - 1.0 / MEAN_OVER_STEPS, (1 + self.steps) / (10 + self.steps))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.kept[name].lerp_(value.detach(), 1.0 - share)
            else:
                self.kept[name].copy_(value)

    def load(self) -> None:
        """Put the mean into the module."""
        self.module.load_state_dict(self.kept)


def run_stage(
    name: str,
    module: nn.Module,
    groups: Sequence[tuple[Sequence[nn.Parameter], float]],
    settings: StageSettings,
    loss_of: Callable[[int], Tensor],
    report: Report,
) -> None:
    """Minimise `loss_of(step)` and leave the running mean of the weights in `module`.

    groups  parameters and their rate as a share of settings.rate
    raises  StageError when the loss is not finite: nothing sensible can follow
    """
    optimiser = torch.optim.AdamW(
        [{"params": list(some), "share": share} for some, share in groups],
        lr=settings.rate,
        weight_decay=settings.decay,
    )
    learned = [parameter for some, _ in groups for parameter in some]
    mean = WeightMean(module)
    began = SYSTEM.monotonic_ns()
    smooth = 0.0
    for step in range(settings.steps):
        done = step / settings.steps
        if settings.minutes is not None:
            done = max(done, (SYSTEM.monotonic_ns() - began) / (60e9 * settings.minutes))
        if done >= 1.0:
            break
        rate = settings.rate * min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1.0 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        loss = loss_of(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise StageError("a loss must be finite", got=value, where=f"stage {name}, step {step}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, CLIP_NORM)
        optimiser.step()
        mean.update()
        smooth = value if step == 0 else 0.98 * smooth + 0.02 * value
        report(name, done, {"step": step + 1, "loss": smooth})
    mean.load()
