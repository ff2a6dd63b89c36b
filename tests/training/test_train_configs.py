"""The training configurations that come with the program are right, and name a layout of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamfuse.model.network import build_network
from streamfuse.training.clip_run import clip_model_spec
from streamfuse.training.datasets.clips import ClipSet
from streamfuse.training.settings import read_train_config
from streamfuse.training.train import refuse_what_is_not_done

FOLDER = Path(__file__).parents[2] / "configs" / "train"
FILES = sorted(FOLDER.glob("*.yaml"))
LAYOUTS = {"ravdess": "ravdess", "cremad": "crema_d", "tau": "tau"}


def test_there_is_one_for_each_published_layout() -> None:
    assert {path.stem for path in FILES} == {"default", *LAYOUTS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configuration_is_right_and_describes_a_network(path: Path) -> None:
    config = read_train_config(path)
    if isinstance(config.data, tuple):
        assert [entry.layout for entry in config.data] == [LAYOUTS[path.stem]]
        found = ClipSet((), {"scene": ("one", "other")}, {}, ())
        build_network(clip_model_spec(config, found))
        assert config.clips.patience and config.clips.chunk_ticks <= config.clips.ticks
    else:
        refuse_what_is_not_done(config)
    command = "streamfuse train -c configs/train/" + path.name
    assert command in path.read_text(), "it says how it is used"
