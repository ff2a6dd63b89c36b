"""F39: an error of the device while it works ends the process; a new one begins with a new context.

A real device's errors cannot be made here. What is sure is what we do with one: nothing catches it, so the
process that saw it is gone (a sticky CUDA error leaves it alive and useless), and another takes its place.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from streamfuse.model import torchscript
from streamfuse.model.export import write_model
from streamfuse.model.spec import SPEC_FILE
from tests.integration.live import LiveRun, check_order
from tests.integration.meter import SPEC

STEPS = 30
WHY = "analyze 0: .*out of (bounds|range)"


class Failing(nn.Module):
    """Answers STEPS times, then reads beyond its input."""

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return [torch.zeros(batch, 1)]

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        steps = state[0] + 1
        # (A plain `raise` is taken out of the program by torch's own optimisation.)
        two = torch.cat([steps, -steps], 1) + video[int(bool((steps > 30).any()))].mean()
        return [two, two], [steps]


def test_f39_error_of_the_device_ends_the_process_and_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / "failing.ts"
    program = torchscript.script(Failing().eval())
    write_model(torchscript.dump(program, {SPEC_FILE: SPEC.to_json()}), path)
    with LiveRun({"door": "lavfi:testsrc2=size=64x48:rate=10"}, model=path) as run:
        run.until(lambda: run.labels("door"), "labels")
        first = run.child("analyze").pid
        run.until(lambda: run.session("door") >= 1, "labels of another process")
        assert run.child("analyze").pid != first
        run.until(lambda: any(re.search(WHY, line) for line in run.complaints()), "the device's own words")
        first_session = [line for line in run.labels("door") if line["session"] == 0]
        assert len(first_session) <= STEPS
        check_order(run.labels("door"))
        run.stop()
