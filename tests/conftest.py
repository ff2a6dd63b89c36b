"""What every test may use, and the one place that decides on skips."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from streamfuse.model.runtime import Model

# One thread per process, before torch is imported: results and times then do not depend on the machine.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# How long an example takes is the machine's affair: no test times anything.
hypothesis.settings.register_profile(
    "streamfuse", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("streamfuse")

SHARED = Path(__file__).resolve().parents[2] / "shared"
PACKAGES = Path(__file__).with_name("system-packages.sh")


def _cuda_missing() -> str | None:
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return "the CUDA simulator is no GPU"
    try:
        from numba import cuda
    except ImportError as error:
        return f"numba-cuda is not installed ({error})"
    return None if cuda.is_available() else "no CUDA GPU here"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing: str | None = None
    if any("needs_cuda" in item.keywords for item in items):
        missing = _cuda_missing()
    for item in items:
        if "needs_cuda" in item.keywords and missing and os.environ.get("STREAMFUSE_REQUIRE_CUDA") != "1":
            item.add_marker(pytest.mark.skip(reason=missing))
        if "needs_shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="the recordings (../shared) are not here"))


@cache
def packages_are_installed() -> bool:
    """All that tests/system-packages.sh installs is here."""
    listed = re.search(r"packages=\((.*?)\)", PACKAGES.read_text(), re.DOTALL)
    assert listed is not None
    command = ["dpkg-query", "-W", "-f=${db:Status-Status}\n", *listed[1].split()]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    return found.returncode == 0 and set(found.stdout.split()) == {"installed"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that does not find what it needs, although all of our packages are here, tests nothing."""
    report = yield
    reason = str(call.excinfo.value) if report.skipped and call.excinfo is not None else ""
    if PACKAGES.name in reason and packages_are_installed():
        report.outcome, report.longrepr = "failed", f"skipped, though all of it is installed: {reason}"
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings; mark the test needs_shared."""
    return SHARED


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with our smallest network, untrained: it runs as the real one does, and means nothing."""
    import torch

    from streamfuse.model.export import export_model
    from streamfuse.model.network import build_network, network_spec
    from streamfuse.model.spec import HeadSpec

    heads = (
        HeadSpec("scene", ("indoor", "street", "nature"), threshold=0.0),
        HeadSpec("emotion", ("none", "calm", "happy"), threshold=0.35),
        HeadSpec("sound", ("speech", "music"), kind="sigmoid"),
    )
    torch.manual_seed(0)
    spec = network_spec(heads, preset="tiny", fusion="gated", picture=None, memory_ticks=32)
    path = tmp_path_factory.mktemp("model") / "tiny.ts"
    export_model(build_network(spec, dropout=0.0), spec, path)
    return path


@pytest.fixture(scope="session")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Every branch runs for every row, as on CUDA: then company changes no bit of an answer."""
    from streamfuse.model.export import export_model
    from streamfuse.model.runtime import load_model
    from tests.model.networks import random_network, small_spec

    path, spec = tmp_path_factory.mktemp("whole") / "model.ts", small_spec()
    network = random_network(spec)
    network.shortcuts = False
    export_model(network, spec, path)
    return load_model(path, device="cpu")
