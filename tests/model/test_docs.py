"""The page about models says what is true: its example is run as it stands."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from streamfuse.model.fusion import FUSIONS
from streamfuse.model.network import PRESETS, SOUND_BRANCHES
from streamfuse.pipeline.analyze import analyze
from tests.clips import Clip

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_foreign_model_made_as_the_page_says_labels_a_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    # TorchScript reads a class from its source file.
    (tmp_path / "page_example.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("page_example")

    def picture(index: int) -> np.ndarray:
        return np.full((64, 64, 3), 220 if index < 20 else 5, np.uint8)

    clip = Clip(seconds=6.0, fps=10, width=64, height=64, picture=picture).write(tmp_path / "dusk.mp4")
    labels = list(analyze(str(clip), model=tmp_path / "brightness.ts"))
    assert labels[15].scene.label == "day"
    assert labels[-1].scene.label == "night"


def test_the_page_names_every_preset_fusion_and_sound_branch() -> None:
    said = set(re.findall(r"`([a-z0-9_]+)`", PAGE.read_text()))
    assert set(PRESETS) | set(FUSIONS) | set(SOUND_BRANCHES) <= said


def test_the_pages_settings_are_settings(tmp_path: Path) -> None:
    from streamfuse.training.settings import TrainConfig

    text = PAGE.read_text()
    block = re.search(r"    # mine.yaml\n(.*?)\n\n", text, re.DOTALL)
    assert block is not None
    config = TrainConfig.model_validate(yaml.safe_load(block[1]))
    assert [entry.layout for entry in config.data] == ["ravdess", "classes"]  # type: ignore[union-attr]
