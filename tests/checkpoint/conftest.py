from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamfuse.checkpoint.keeper import Keeper
from streamfuse.model.runtime import Model, load_model
from tests.checkpoint.made import Runs, recording


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model, device="cpu")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """kind, seconds -> a recording; each is made once."""
    folder = tmp_path_factory.mktemp("recordings")

    def make(kind: str = "aac.mp4", seconds: float = 6.0) -> Path:
        place = folder / f"{seconds:g}"
        place.mkdir(exist_ok=True)
        return recording(place, kind, seconds)

    return make


@pytest.fixture(scope="session")
def golden(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, bytes]]:
    """A recording -> the outputs of an undisturbed run."""
    known: dict[Path, dict[str, bytes]] = {}

    def get(clip: Path) -> dict[str, bytes]:
        if clip not in known:
            # As far from the recording as the other runs' folders: the page says the way to it.
            runs = Runs(model, tmp_path_factory.mktemp("golden") / "out", checkpoint_s=3600)
            runs.run(clip)
            known[clip] = runs.results(clip)
        return known[clip]

    return get


@pytest.fixture
def every_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work waits for each checkpoint, so that the last one is of the last tick.

    A slow disk writes fewer of them: then no test may count on where the last one lies.
    """
    keep = Keeper.keep

    def keep_and_wait(keeper: Keeper, *arguments: Any) -> None:
        keep(keeper, *arguments)
        assert keeper._idle.wait(60)

    monkeypatch.setattr(Keeper, "keep", keep_and_wait)


@pytest.fixture
def runs(model: Model, tmp_path: Path) -> Runs:
    return Runs(model, tmp_path / "out")
