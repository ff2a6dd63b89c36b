"""k-fold by speaker: each is tested once, and the figures over all folds are their mean and spread."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from streamfuse.errors import ConfigError
from streamfuse.model.inspect import inspect_model
from streamfuse.training.assess import Measures
from streamfuse.training.datasets.entry import DataEntry
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.folds import folds_of, in_fold, spreads
from tests.cli.conftest import run  # noqa: F401, a fixture

ACTORS = (1001, 1019, 1037, 1055, 1073)
"""One of each of CREMA-D's folds."""


@pytest.fixture
def crema(tmp_path: Path) -> Path:
    folder = tmp_path / "crema"
    (folder / "AudioWAV").mkdir(parents=True)
    time = np.arange(8000) / 16_000
    for actor in ACTORS:
        for emotion, pitch in (("ANG", 400), ("SAD", 100)):
            tone = np.sin(2 * np.pi * (pitch + actor % 7) * time).astype(np.float32)
            wavfile.write(folder / f"AudioWAV/{actor}_DFA_{emotion}_XX.wav", 16_000, tone / 2)
    return folder


def measures(uar: float, *, condition: str = "as recorded", clip: bool = True) -> Measures:
    figures = {"uar": uar, "accuracy": 0.5}
    return Measures("d", "emotion", condition, 4, 40, tick={"uar": 0.1}, clip=figures if clip else {})


def test_mean_and_deviation_are_those_of_numpy() -> None:
    values = (0.5, 0.75, 0.625)
    uar = next(one for one in spreads([[measures(v)] for v in values]) if one.measure == "uar")
    assert (uar.per, uar.folds) == ("clip", values)
    assert uar.mean == pytest.approx(np.mean(values))
    assert uar.std == pytest.approx(np.std(values, ddof=1))


def test_a_measure_that_a_fold_lacks_has_no_spread() -> None:
    found = spreads([[measures(0.5)], [measures(math.nan)]])
    assert {one.measure for one in found} == {"accuracy"}


def test_every_speaker_is_tested_once(crema: Path) -> None:
    entries = (DataEntry(layout="crema_d", path=crema),)
    tested: Counter[str] = Counter()
    for fold in range(1, folds_of(entries) + 1):
        clips = read_clips(in_fold(entries, fold))
        tested.update({clip.group for clip in clips.of("test")})
        assert not {clip.group for clip in clips.of("test")} & {clip.group for clip in clips.of("train")}
    assert sorted(tested.values()) == [1] * len(ACTORS)


@pytest.mark.parametrize(
    ("layouts", "got"), [(("synthetic",), "got none"), (("ravdess", "crema_d"), "got ravdess 6, crema_d 5")]
)
def test_data_without_folds_or_with_different_ones_is_refused(layouts: tuple[str, ...], got: str) -> None:
    entries = [
        DataEntry(layout=name, path=None if name == "synthetic" else Path("x"))  # type: ignore[arg-type]
        for name in layouts
    ]
    with pytest.raises(ConfigError, match=rf"^--folds needs data that is divided .*{got}"):
        folds_of(entries)


def test_train_folds_writes_a_model_for_each_and_their_figures(run, crema: Path, tmp_path: Path) -> None:  # noqa: F811
    config = tmp_path / "small.yaml"
    config.write_text(
        "network: {preset: tiny, fusion: concat, picture_side: 32, memory_ticks: 4}\n"
        "clips: {steps: 2, batch: 2, ticks: 4, chunk_ticks: 2}\n"
    )
    out = tmp_path / "voice.ts"
    ran = run("train", "-c", config, "--data", f"crema_d:{crema}", "-o", out, "--work", tmp_path / "work",
              "--folds")  # fmt: skip
    assert ran.code == 0, ran.err
    found = json.loads((tmp_path / "voice.folds.json").read_text())
    assert found["command"] == "streamfuse train -c small.yaml --data crema_d:crema --folds"
    uar = next(
        one for one in found["figures"] if (one["measure"], one["condition"]) == ("uar", "as recorded")
    )
    inside = [
        next(
            one.value
            for one in inspect_model(tmp_path / f"voice.fold{fold}.ts").spec.quality
            if one.measure == "emotion as recorded: unweighted recall"
        )
        for fold in range(1, 6)
    ]
    assert uar["folds"] == pytest.approx(inside, abs=1e-4), "the file of each fold says what it reached"
    assert uar["mean"] == pytest.approx(np.mean(inside), abs=1e-4)
