"""One loop for every stage: warm-up and cosine rate, clipped gradients, a running mean of the weights.

It can go on after a kill where it was (resume.Keeper), and it can stop when held-out groups gain no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from streamfuse.clock import SYSTEM
from streamfuse.errors import StageError
from streamfuse.training.resume import Facts, Keeper, Tensors
from streamfuse.training.settings import StageSettings

WARM_UP_STEPS = 50
HELD_OUT_BATCHES = 8
"""A look at the held-out groups of a recipe that draws its data: these batches, always the same."""
CLIP_NORM = 1.0
MEAN_OVER_STEPS = 200
"""The weights that are kept are a running mean over about this many steps."""
Report = Callable[[str, float, dict[str, float]], None]
"""Told the stage, the share of it that is done, and its latest figures."""
Batch = TypeVar("Batch")
Shown = TypeVar("Shown", contravariant=True)
Groups = Sequence[tuple[Sequence[nn.Parameter], float]]


@dataclass
class WeightMean:
    """The running mean of a module's parameters and buffers."""

    module: nn.Module
    kept: Tensors = field(default_factory=dict)
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


@dataclass
class EarlyStop:
    """The best mean weights so far by `check`, and how many checks ago that was."""

    check: Callable[[], float]
    patience: int
    best: Tensors = field(default_factory=dict)
    least: float = math.inf
    waited: int = 0

    def look(self, mean: WeightMean) -> float:
        """Check the mean weights; the module has its own again afterwards."""
        module = mean.module
        own = {name: value.detach().clone() for name, value in module.state_dict().items()}
        training = {one: one.training for one in module.modules()}
        mean.load()
        module.eval()
        with torch.no_grad():
            loss = self.check()
        module.load_state_dict(own)
        for one, was in training.items():
            one.training = was
        self.waited += 1
        if loss < self.least:
            self.least, self.waited = loss, 0
            self.best = {name: value.clone() for name, value in mean.kept.items()}
        return loss

    @property
    def over(self) -> bool:
        return self.waited >= self.patience


def held_out(draw: Callable[[], Batch], loss_on: Callable[[Batch], Tensor]) -> Callable[[], float]:
    """The mean loss on batches that are drawn once, to be asked again and again."""
    batches = [draw() for _ in range(HELD_OUT_BATCHES)]
    return lambda: sum(float(loss_on(one)) for one in batches) / len(batches)


@dataclass
class _Stage:
    """What changes from step to step beside the weights."""

    name: str
    mean: WeightMean
    optimiser: torch.optim.Optimizer
    keep: Keeper | None
    stop: EarlyStop | None
    step: int = 0
    smooth: float = 0.0
    spent_ns: int = 0

    def restore(self) -> None:
        kept = None if self.keep is None else self.keep.load(self.mean.module, self.optimiser)
        if kept is None:
            return
        tensors, facts = kept
        self.step, self.smooth, self.spent_ns = facts["step"], facts["smooth"], facts["spent_ns"]
        self.mean.steps = facts["mean_steps"]
        self.mean.kept = _part(tensors, "mean.", self.mean.kept)
        if self.stop is not None:
            self.stop.waited, self.stop.least = facts["waited"], facts["least"]
            self.stop.best = _part(tensors, "best.", self.mean.kept)

    def save(self) -> None:
        if self.keep is None:
            return
        tensors = {f"mean.{name}": value for name, value in self.mean.kept.items()}
        facts: Facts = {"step": self.step, "smooth": self.smooth, "mean_steps": self.mean.steps}
        facts["spent_ns"] = self.spent_ns
        if self.stop is not None:
            tensors |= {f"best.{name}": value for name, value in self.stop.best.items()}
            facts |= {"waited": self.stop.waited, "least": self.stop.least}
        self.keep.save(self.mean.module, self.optimiser, tensors, facts)


def _part(tensors: Tensors, prefix: str, like: Tensors) -> Tensors:
    """The tensors of this prefix, each where the module has its own."""
    found = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
    return {name: value.to(like[name].device) for name, value in found.items()}


class Learner(Protocol[Shown]):
    """A part of the network that learns by itself: the modules that do, their rates, and their loss."""

    @property
    def learned(self) -> nn.Module: ...
    @property
    def groups(self) -> Groups: ...
    def loss(self, batch: Shown, /) -> Tensor: ...


def learn(
    name: str,
    learner: Learner[Batch],
    draw: Callable[[], Batch],
    settings: StageSettings,
    report: Report,
    *,
    rng: np.random.Generator,
    keep: Keeper | None = None,
    held: Callable[[], Batch] | None = None,
) -> None:
    """A stage that draws its batches.

    rng   what they are drawn with, which a kept state goes on with
    held  draws of held-out groups, to end early by
    """
    if keep is not None:
        keep.rngs = (rng,)
    check = None if held is None else held_out(held, learner.loss)
    run_stage(
        name, learner.learned, learner.groups, settings, lambda _: learner.loss(draw()), report,
        keep=keep, check=check,
    )  # fmt: skip


def run_stage(
    name: str,
    module: nn.Module,
    groups: Groups,
    settings: StageSettings,
    loss_of: Callable[[int], Tensor],
    report: Report,
    *,
    keep: Keeper | None = None,
    check: Callable[[], float] | None = None,
) -> None:
    """Minimise `loss_of(step)` and leave the running mean of the weights in `module`.

    groups  parameters and their rate as a share of settings.rate
    keep    go on from what it kept, and keep the state from time to time
    check   a loss on held-out groups, asked every settings.check_every steps; after settings.patience of
            them without a gain the stage ends, and the best weights are what stays
    raises  StageError when the loss is not finite: nothing sensible can follow
    """
    optimiser = torch.optim.AdamW(
        [{"params": list(some), "share": share} for some, share in groups],
        lr=settings.rate,
        weight_decay=settings.decay,
    )
    learned = [parameter for some, _ in groups for parameter in some]
    stop = EarlyStop(check, settings.patience) if check is not None and settings.patience else None
    stage = _Stage(name, WeightMean(module), optimiser, keep, stop)
    stage.restore()
    while not (stop is not None and stop.over) and (done := _done(stage, settings)) < 1.0:
        began = SYSTEM.monotonic_ns()
        _step(stage, settings, done, learned, loss_of)
        figures = {
            "step": float(stage.step),
            "loss": stage.smooth,
            "rate": _rate(settings, stage.step - 1, done),
        }
        if stop is not None and stage.step % settings.check_every == 0:
            figures["held_out"] = stop.look(stage.mean)
        stage.spent_ns += SYSTEM.monotonic_ns() - began
        report(name, min(_done(stage, settings), 1.0), figures)
        if keep is not None and keep.due(stage.step):
            stage.save()
    stage.mean.load()
    if stop is not None and stop.best:
        module.load_state_dict(stop.best)


def _done(stage: _Stage, settings: StageSettings) -> float:
    done = stage.step / settings.steps if settings.steps else 1.0
    if settings.minutes is not None:
        done = max(done, stage.spent_ns / (60e9 * settings.minutes))
    return done


def _rate(settings: StageSettings, step: int, done: float) -> float:
    return settings.rate * min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1.0 + math.cos(math.pi * done))


def _step(
    stage: _Stage,
    settings: StageSettings,
    done: float,
    learned: Sequence[nn.Parameter],
    loss_of: Callable[[int], Tensor],
) -> None:
    step = stage.step
    rate = _rate(settings, step, done)
    for group in stage.optimiser.param_groups:
        group["lr"] = rate * group["share"]
    loss = loss_of(step)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise StageError("a loss must be finite", got=value, where=f"stage {stage.name}, step {step}")
    stage.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learned, CLIP_NORM)
    stage.optimiser.step()
    stage.mean.update()
    stage.smooth = value if step == 0 else 0.98 * stage.smooth + 0.02 * value
    stage.step = step + 1
