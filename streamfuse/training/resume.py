"""What a stage of training keeps, so that a run that was killed goes on as if it had not been.

One safetensors file: weights, their running mean, the optimiser's moments, the generators' states and the
step. No pickle is ever read back. It is replaced as a whole, and on the CPU the weights at the end are, bit
for bit, those of an undisturbed run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from streamfuse.errors import ConfigError

KEEP_EVERY = 100
"""Steps: a step takes from 20 ms to some seconds, writing some MB takes 20 ms."""


@dataclass
class Keeper:
    """Where a stage keeps its state, and the generators that its data are drawn with.

    every  steps from one writing to the next
    """

    path: Path
    rngs: Sequence[np.random.Generator] = field(default_factory=tuple)
    every: int = KEEP_EVERY

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def save(self, module: nn.Module, optimiser: torch.optim.Optimizer, more: Tensors, facts: Facts) -> None:
        """Replace the file by the state after a step.

        more   named tensors beside the module's and the optimiser's
        facts  anything that JSON can hold
        """
        tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
        for index, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        tensors |= {f"more.{name}": value for name, value in more.items()}
        tensors["torch"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["cuda"] = torch.cuda.get_rng_state()
        said = {"facts": facts, "rngs": [rng.bit_generator.state for rng in self.rngs]}
        part = self.path.with_name(self.path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
            part,
            {"streamfuse": json.dumps(said)},
        )
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(self.path)

    def load(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Tensors, Facts] | None:
        """Put module, optimiser and generators where they were; None where nothing was kept.

        raises  ConfigError for a file that is not of this stage
        """
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                said = json.loads(file.metadata()["streamfuse"])
            module.load_state_dict(_under(tensors, "module."))
            _restore(optimiser, _under(tensors, "optimiser."))
            for rng, state in zip(self.rngs, said["rngs"], strict=True):
                rng.bit_generator.state = state
        except (SafetensorError, OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            hint = "delete it to begin the stage anew"
            raise ConfigError(
                "what a killed run kept must fit", got=error, where=self.path, hint=hint
            ) from error
        torch.set_rng_state(tensors["torch"])
        if torch.cuda.is_available() and "cuda" in tensors:
            torch.cuda.set_rng_state(tensors["cuda"])
        return _under(tensors, "more."), said["facts"]

    def done(self) -> None:
        """The stage is complete, and its result kept elsewhere."""
        self.path.unlink(missing_ok=True)


Tensors = dict[str, Tensor]
Facts = dict[str, Any]


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}


def _restore(optimiser: torch.optim.Optimizer, kept: Tensors) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in kept.items():
        index, _, moment = name.partition(".")
        state.setdefault(int(index), {})[moment] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
