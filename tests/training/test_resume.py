"""A killed run goes on as if it had not been: the same weights at the end, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from streamfuse.errors import ConfigError
from streamfuse.model.export import weights_sha256
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import Report, run_stage
from streamfuse.training.settings import StageSettings, read_train_config
from streamfuse.training.train import Run
from tests.training.made import run_of, settings
from tests.training.tree import write_tree

STAGES = """
keep_every: 1
data: {test_splits: [dev], tune_splits: [fold4]}
network: {preset: tiny, fusion: hybrid, picture_side: 32, memory_ticks: 8}
sound: {steps: 4, batch: 4, ticks: 8, chunk_ticks: 4}
picture: {steps: 4, batch: 4, ticks: 2}
fusion: {steps: 4, batch: 8, clips: 32, streams: 32}
"""
KILLED_AT = 23
KILLED = f"""
import os, signal, sys
from pathlib import Path
from tests.training.test_resume import Noisy
stage = Noisy(Path(sys.argv[1]))
step = stage.loss
stage.loss = lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == {KILLED_AT} else step(n)
stage.run()
"""


class Noisy:
    """A stage whose data, dropout and batch statistics all leave traces in the state."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.rng = np.random.default_rng(0)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.keep = Keeper(folder / "stage.safetensors", (self.rng,), every=5)
        self.checks: list[float] = []

    def loss(self, step: int) -> torch.Tensor:
        x = torch.from_numpy(self.rng.normal(size=(16, 4)).astype(np.float32))
        return (self.module(x) - x.sum(1, keepdim=True)).square().mean()

    def run(
        self,
        steps: int = 40,
        stop_at: int | None = None,
        patience: int = 0,
        best_at: int = 0,
        report: Report = lambda *_: None,
    ) -> None:
        def loss_of(step: int) -> torch.Tensor:
            if step == stop_at:
                raise KeyboardInterrupt
            return self.loss(step)

        def check() -> float:
            assert not self.module.training
            self.checks.append(abs(len(self.checks) + 1 - best_at))
            return self.checks[-1]

        settings = StageSettings(steps=steps, rate=0.01, check_every=4, patience=patience)
        groups = [(list(self.module.parameters()), 1.0)]
        run_stage("s", self.module, groups, settings, loss_of, report, keep=self.keep, check=check)

    def bits(self) -> list[bytes]:
        return [one.numpy().tobytes() for one in self.module.state_dict().values()]


@pytest.mark.parametrize("stop_at", [1, 5, 23, 39])
def test_stage_stopped_anywhere_goes_on_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    whole = Noisy(tmp_path / "whole")
    whole.run()
    broken = Noisy(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        broken.run(stop_at=stop_at)
    again = Noisy(tmp_path / "broken")
    again.run()
    assert again.bits() == whole.bits()


def test_early_stop_keeps_the_best_weights_and_resumes_in_its_count(tmp_path: Path) -> None:
    short = Noisy(tmp_path / "short")
    short.run(steps=40, patience=3, best_at=2)
    # Best at check 2, then three checks without a gain: step 20 is the last.
    assert short.checks == [1, 0, 1, 2, 3]
    broken = Noisy(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        broken.run(steps=40, patience=3, best_at=2, stop_at=11)
    again = Noisy(tmp_path / "broken")
    again.checks = broken.checks[:2]
    again.run(steps=40, patience=3, best_at=2)
    assert again.checks == short.checks
    assert again.bits() == short.bits()
    endless = Noisy(tmp_path / "endless")
    endless.run(steps=40, patience=0, best_at=2)
    assert endless.checks == [], "nobody asked for it"


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_what_was_kept_but_does_not_fit_is_refused(tmp_path: Path, data: bytes) -> None:
    stage = Noisy(tmp_path)
    stage.keep.path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"what a killed run kept must fit.*delete it to begin the stage"):
        stage.run()


def test_keeper_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Noisy(tmp_path).run(stop_at=7)
    other = Noisy(tmp_path)
    other.module = nn.Sequential(nn.Linear(4, 1))
    with pytest.raises(ConfigError, match="what a killed run kept must fit"):
        other.run()


def test_stage_killed_with_sigkill_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    whole = Noisy(tmp_path / "whole")
    whole.run()
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    words = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    killed = subprocess.run(words, capture_output=True, env=environment, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = Noisy(tmp_path / "killed")
    assert again.keep.path.is_file()
    again.run()
    assert again.bits() == whole.bits()


class Stop(Exception):
    pass


def test_run_on_clips_stopped_within_its_stage_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    """Everything that is drawn (clips, crops, noise, what is missing) goes on where it was."""

    def learned(folder: Path, stop_at: float = 0) -> str:
        config = settings(folder, steps=9, batch=2, noise=1.0, reverberation=1.0, masks=2)
        run = run_of(folder, config.model_copy(update={"keep_every": 3}))

        def report(_: str, __: float, figures: dict[str, float]) -> None:
            if figures["step"] == stop_at:
                raise Stop

        run.report = report
        run.learn()
        assert not list((folder / "work").glob("*.safetensors")), "what is done needs no keeping"
        return weights_sha256(run.network)

    whole = learned(tmp_path / "whole")
    with pytest.raises(Stop):
        learned(tmp_path / "stopped", stop_at=5)
    assert list((tmp_path / "stopped/work").glob("*.safetensors"))
    assert learned(tmp_path / "stopped") == whole


def test_stages_stopped_one_after_the_other_end_with_the_very_same_weights(tmp_path: Path) -> None:
    """The recipe of the default model: sound, picture, fusion, each of which draws its own data."""
    data = write_tree(tmp_path / "data", each=3)
    (tmp_path / "s.yaml").write_text(STAGES)
    config = read_train_config(tmp_path / "s.yaml")

    def learned(work: str, stop_at: tuple[str, float] | None = None) -> str:
        def report(name: str, _: float, figures: dict[str, float]) -> None:
            if (name, figures.get("step")) == stop_at:
                raise Stop

        run = Run(config, data, tmp_path / work, report, lambda *_: None)
        run.learn()
        return weights_sha256(run.network)

    whole = learned("whole")
    for stop_at in (("sound", 3), ("picture", 2), ("fusion", 3)):
        with pytest.raises(Stop):
            learned("stopped", stop_at)
    assert learned("stopped") == whole
