"""The trained model that several tests of this room ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.made import run_of, settings


@pytest.fixture(scope="session")
def made_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file that knows the generator's scenes and emotions."""
    folder = tmp_path_factory.mktemp("made")
    run = run_of(folder, settings(folder))
    run.learn()
    out = folder / "made.ts"
    run.finish(out)
    return out
