"""What every test may use, and the one place that decides on skips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread per process, before torch is imported: results and times then do not depend on the machine.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


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


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings; mark the test needs_shared."""
    return SHARED
