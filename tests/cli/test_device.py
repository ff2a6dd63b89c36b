"""The device of a run is settled before anything starts, and is the one that is named everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from streamfuse.cli import device
from streamfuse.cli.device import settled_device
from streamfuse.cli.launch import run_config
from streamfuse.config import AppConfig, ModelConfig, SourceConfig
from streamfuse.errors import BackendError
from streamfuse.kernels.backend import Device, cuda_missing
from streamfuse.pipeline import features
from tests.cli.conftest import Run

PATTERN = "lavfi:testsrc2=size=160x120:rate=10"

needs_no_cuda = pytest.mark.skipif(cuda_missing() is None, reason="there is a GPU here")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's library is there, so that CUDA is asked in a process of its own."""
    settled_device.cache_clear()
    monkeypatch.setattr(device, "has_driver", lambda: True)


@needs_no_cuda
@pytest.mark.parametrize("argv", [("run", "--json", PATTERN), ("profile", PATTERN, "--duration", "5s")])
def test_run_on_a_device_that_is_not_there_is_one_line_and_starts_nothing(
    run: Run, argv: tuple[str, ...], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*argv, "--device", "cuda")
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("streamfuse: device cuda is not usable")


@needs_no_cuda
@pytest.mark.usefixtures("asked")
def test_process_of_its_own_finds_the_cpu_where_cuda_does_not_start() -> None:
    assert settled_device("auto") == "cpu"


@needs_no_cuda
@pytest.mark.usefixtures("asked")
def test_process_of_its_own_says_what_is_missing() -> None:
    with pytest.raises(
        BackendError, match=r"^device cuda:1 is not usable \[kernels\]; no usable CUDA driver"
    ):
        settled_device("cuda:1")


def test_processes_are_told_the_device_by_its_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamfuse.cli.launch.settled_device", {"auto": "cuda:0"}.__getitem__)
    config = AppConfig(model=ModelConfig(device="auto"))
    assert run_config(config, {"door": SourceConfig(input=PATTERN)}, "live").model.device == "cuda:0"


def test_mfcc_runs_on_the_gpu_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(features, "choose_device", lambda text: Device("cuda", int(text[-1])))
    monkeypatch.setattr(features, "mfcc_kernel", lambda *given: seen.append(given[-1]))
    features.mfcc(np.zeros(160, np.float32), device="cuda:1")
    assert seen == [Device("cuda", 1)]
