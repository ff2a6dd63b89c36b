"""The recipe on a folder of recordings: it ends early by held-out groups, and refuses what it does not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from streamfuse.errors import ConfigError
from streamfuse.training import schedule
from streamfuse.training.pairs import Heard, Pairs, Seen
from streamfuse.training.settings import read_train_config
from streamfuse.training.train import Run
from tests.training.tree import write_tree

SETTINGS = """
data: {test_splits: [dev], tune_splits: [fold4]}
network: {preset: tiny, fusion: hybrid, picture_side: 32, memory_ticks: 8}
sound: {steps: 60, batch: 4, ticks: 8, chunk_ticks: 4, rate: 1.0, patience: 2, check_every: 2}
picture: {steps: 60, batch: 4, ticks: 2, rate: 1.0, patience: 2, check_every: 2}
fusion: {steps: 60, batch: 8, clips: 32, streams: 32, rate: 1.0, patience: 2, check_every: 2}
"""
Told = list[tuple[str, dict[str, float]]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("held") / "data", each=3)


def run_of(folder: Path, data: Path, settings: str = SETTINGS) -> tuple[Run, Told]:
    (folder / "s.yaml").write_text(settings)
    told: Told = []
    run = Run(
        read_train_config(folder / "s.yaml"), data, folder / "work",
        lambda stage, _, figures: told.append((stage, figures)), lambda *_: None,
    )  # fmt: skip
    return run, told


def test_every_stage_ends_when_held_out_groups_gain_no_more(tmp_path: Path, data: Path) -> None:
    """At an absurd rate every stage gets worse, and is over long before its steps are."""
    run, told = run_of(tmp_path, data)
    run.learn()
    for stage in ("sound", "picture", "fusion"):
        steps = [figures for name, figures in told if name == stage and "loss" in figures]
        looks = [figures["held_out"] for figures in steps if "held_out" in figures]
        assert len(steps) < 60, stage
        assert len(looks) == len(steps) // 2 and np.argmin(looks) == len(looks) - 3, stage
        assert min(looks) < looks[-1], stage


def test_held_out_streams_and_clips_are_those_of_the_tune_part(tmp_path: Path, data: Path) -> None:
    run, _ = run_of(tmp_path, data)
    mixer, camera = run._mixer(1, "tune"), run._camera(2, "tune")
    heard = [*mixer.scenery.values(), *mixer.speech.values()]
    assert {mixer.cache.rows[n].split for some in heard for n in some} == {"fold4"}
    assert {camera.cache.rows[n].split for some in camera.places for n in some} == {"fold4"}
    learned = [n for some in run._camera(2).places for n in some]
    assert {camera.cache.rows[n].split for n in learned} == {"train"}


def test_without_patience_nothing_is_held_out(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(schedule, "held_out", lambda draw, _: asked.append(draw))
    settings = SETTINGS.replace("patience: 2", "patience: 0").replace("steps: 60", "steps: 1")
    run, told = run_of(tmp_path, data, settings)
    run.learn()
    assert asked == []
    assert not any("held_out" in figures for _, figures in told)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("network: {frozen: true}", "`network.frozen` unset, got True"),
        ("network: {colour: rgb}", "`network.colour` luma, got rgb"),
        ("clips: {distil: {teacher: t.ts}}", "`clips.distil` unset, got"),
    ],
)
def test_what_only_clip_training_does_is_refused_before_anything_is_read(
    tmp_path: Path, setting: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"a folder of recordings is learned from with {said}.*LAYOUT"):
        run_of(tmp_path, tmp_path / "not there", setting)


def test_patience_without_held_out_recordings_is_refused(tmp_path: Path, data: Path) -> None:
    settings = "data: {test_splits: [dev], tune_splits: [], tune_groups: [], tune_share: 0}\n"
    with pytest.raises(ConfigError, match=r"`sound\.patience` needs held-out recordings, got none"):
        run_of(tmp_path, data, settings + "sound: {patience: 3}")


def test_pictures_and_sound_without_a_label_in_common_are_refused() -> None:
    none = torch.full((2,), -1)
    seen = Seen((torch.zeros(2, 3),), (torch.ones(2, dtype=torch.bool),), torch.tensor([0, 0]), none)
    heard = Heard(torch.zeros(2, 3), torch.tensor([1, 1]), torch.zeros(2).long(), torch.zeros(2, 1), none)
    with pytest.raises(ConfigError, match="must have labels in common"):
        Pairs(seen, heard, 0).batch(1)
