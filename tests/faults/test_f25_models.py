"""F25: a model that never answers is refused with exit code 3, whatever it is doing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from streamfuse.model import torchscript
from streamfuse.model.export import write_model
from streamfuse.model.spec import SPEC_FILE
from tests.integration.meter import SPEC


class Endless(nn.Module):
    """A program that is well formed and never returns."""

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return [torch.zeros(batch, 1)]

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        step = state[0]
        while bool((step >= 0).all()):
            step = step + 1
        return [step, step], [step]


LOAD = """
import sys
from pathlib import Path
from streamfuse.errors import ModelError, StreamfuseError
from streamfuse.model.runtime import load_model
from streamfuse.services.process import deadline, exit_code
try:
    with deadline(int(sys.argv[2]), ModelError("a model must answer", got="no answer in time")):
        load_model(sys.argv[1], device="cpu").warm_up()
except StreamfuseError as error:
    print(error, file=sys.stderr)
    sys.exit(exit_code(error))
"""


def load(path: Path, within_s: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD, str(path), str(within_s)], capture_output=True, text=True, timeout=120
    )


def test_f25_model_that_never_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endless.ts"
    program = torchscript.script(Endless().eval())
    write_model(torchscript.dump(program, {SPEC_FILE: SPEC.to_json()}), path)
    done = load(path, 2)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "streamfuse: a model must answer, got no answer in time\n"


def test_f25_model_that_answers_is_left_alone(tiny_model: Path) -> None:
    done = load(tiny_model, 60)
    assert (done.returncode, done.stderr) == (0, "")
