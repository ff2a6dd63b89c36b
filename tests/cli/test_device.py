"""The device of a run is settled before anything starts, and is the one that is named everywhere."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from streamfuse.cli import device
from streamfuse.cli.device import settled_device
from streamfuse.cli.launch import run_config, write_run
from streamfuse.cli.recorder import describe_recording
from streamfuse.config import AppConfig, ModelConfig, SourceConfig
from streamfuse.errors import BackendError, ConfigError, ModelError
from streamfuse.kernels.backend import Device, cuda_missing
from streamfuse.pipeline import features
from streamfuse.services import analyze
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


TWO_GPUS = {
    "model": {"device": "auto"},
    "sources": {"north": {"input": PATTERN, "analyzer": "a"}, "south": {"input": PATTERN, "analyzer": "b"}},
    "analyzers": {"a": {"device": "cuda"}, "b": {"device": "cuda:1"}},
}
SETTLED = {"auto": "cuda:0", "cuda": "cuda:0", "cuda:0": "cuda:0", "cuda:1": "cuda:1"}


def test_each_analyzer_may_have_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamfuse.cli.launch.settled_device", SETTLED.__getitem__)
    config = AppConfig.model_validate(TWO_GPUS)
    settled = run_config(config, config.sources, "live")
    assert [settled.device(name) for name in ("a", "b", "0")] == ["cuda:0", "cuda:1", "cuda:0"]
    assert settled.devices == ["cuda:0", "cuda:1"]
    without_b = run_config(settled, {"north": config.sources["north"]}, "live")
    assert (without_b.devices, without_b.device("b")) == (["cuda:0"], "cuda:1")
    assert run_config(config, config.sources, "recorded").devices == ["cuda:0"]


def test_analyze_process_loads_its_model_on_its_own_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("streamfuse.cli.launch.settled_device", lambda text: text)
    config = AppConfig.model_validate(TWO_GPUS | {"run_dir": str(tmp_path)})
    tmp_path.chmod(0o700)
    file = tmp_path / "run.json"
    write_run(run_config(config, config.sources, "live"), file)

    def refuse(path: str | None, *, device: str, **_: object) -> None:
        raise ModelError("asked for", got=device)

    monkeypatch.setattr(analyze, "load_model", refuse)
    monkeypatch.setattr(analyze, "Stop", lambda: None)
    for name, wanted in (("a", "cuda"), ("b", "cuda:1"), ("0", "auto")):
        with pytest.raises(ModelError, match=rf"^asked for, got {wanted}$"):
            analyze.main(Namespace(config=file, name=name, standby=True))


def test_analyzer_that_no_source_names_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        f"sources: {{north: {{input: '{PATTERN}', analyzer: a}}}}\nanalyzers: {{b: {{device: cpu}}}}\n"
    )
    ran = run("validate", file)
    assert ran.code == 2
    assert "analyzers.b has no source; sources name a" in ran.err


def test_recording_of_two_devices_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A replay runs on one: it could not say the same labels."""
    monkeypatch.setattr("streamfuse.cli.launch.settled_device", SETTLED.__getitem__)
    config = AppConfig.model_validate(TWO_GPUS | {"record": {"folder": str(tmp_path)}})
    with pytest.raises(ConfigError, match=r"^a recording is made on one device, got cuda:0, cuda:1; leave"):
        describe_recording(run_config(config, config.sources, "live"))


def test_mfcc_runs_on_the_gpu_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(features, "choose_device", lambda text: Device("cuda", int(text[-1])))
    monkeypatch.setattr(features, "mfcc_kernel", lambda *given: seen.append(given[-1]))
    features.mfcc(np.zeros(160, np.float32), device="cuda:1")
    assert seen == [Device("cuda", 1)]
