"""`import streamfuse`: quick, typed, and everything it names is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamfuse


def test_every_name_is_there_and_documented() -> None:
    for name in streamfuse.__all__:
        value = getattr(streamfuse, name)
        assert name == "__version__" or value.__doc__, name
    assert set(streamfuse.__all__) <= set(dir(streamfuse))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'streamfuse' has no attribute 'analyse'"):
        streamfuse.analyse  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(streamfuse.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"streamfuse.{home}.{name}" for name, home in streamfuse._HOMES.items()}


def test_import_loads_nothing_heavy() -> None:
    heavy = ("torch", "numba", "numpy", "av", "pydantic", "zmq", "rich")
    code = f"import sys, streamfuse; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_mfcc_by_its_public_name() -> None:
    import numpy as np

    frames = streamfuse.mfcc(np.zeros(16_000, np.float32), streamfuse.MfccSpec())
    assert frames.shape == (100, 40)
    with pytest.raises(streamfuse.BackendError):
        streamfuse.mfcc(np.zeros(16_000, np.float32), device="gpu")
