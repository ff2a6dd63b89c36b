"""The face view in training on clips: the face that is found and followed in each, as the run shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from streamfuse.errors import ConfigError
from streamfuse.model.runtime import load_model
from streamfuse.training.clip_batches import ClipBatches
from streamfuse.training.clip_run import ClipRun
from streamfuse.training.clip_store import ClipStore
from streamfuse.training.datasets.clips import Clip, ClipSet, Mark
from streamfuse.training.distil import Teacher
from streamfuse.training.settings import DistilSettings, TrainConfig
from streamfuse.training.takes import take_of
from tests.clips import Clip as Media
from tests.faces.drawing import draw_face, room
from tests.model.networks import small_spec
from tests.training.made import settings
from tests.training.tree import tone, write_wav

TICKS, LOST = 12, 8
"""The face is there for the first eight ticks, moving; then it is gone."""
GREY = 0.02
"""Mean difference of 8-bit pictures that went through an encoder's size once more."""


def picture(index: int) -> np.ndarray:
    luma = room() if index >= LOST else draw_face(room(), 140.0 + 4 * index, 120.0, 90)
    return np.repeat(luma[..., None], 3, 2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    folder = tmp_path_factory.mktemp("clip-faces")
    rng = np.random.default_rng(2)
    write_wav(folder / "a.wav", tone(500.0, TICKS / 10, rng))
    shown = {"face": picture, "room": lambda _: np.repeat(room()[..., None], 3, 2)}
    made = {}
    for name, frame in shown.items():
        path = folder / f"{name}.mp4"
        Media(seconds=TICKS / 10, fps=10, width=320, height=240, audio=None, picture=frame).write(path)
        marks = (Mark("emotion", "happy" if name == "face" else "none"),)
        made[name] = Clip(name, marks, name, "drawn", "CC0", path, folder / "a.wav")
    return made


def store_of(folder: Path, views: tuple[str, ...] = ("frame", "face")) -> ClipStore:
    return ClipStore(small_spec(size=32, views=views), 32, folder / "cache")


def test_stored_faces_are_those_of_the_run(clips: dict[str, Clip], tmp_path: Path) -> None:
    store = store_of(tmp_path)
    ticks, take = store.read(clips["face"]), take_of(clips["face"], store.spec)
    assert take is not None
    assert ticks.present.tolist() == take.present.tolist()
    assert ticks.present[:LOST, 1].sum() > LOST // 2, "it is found"
    assert not ticks.present[-1, 1], "and lost"
    spec = store.spec.video.picture
    seen = (ticks.pictures / 255.0 - spec.mean[0]) / spec.std[0]
    for view in range(2):
        there = take.present[:, view]
        assert np.abs(seen[there, view] - take.video[there, view]).mean() < GREY
    assert np.abs(seen[2, 0] - seen[2, 1]).mean() > 0.1, "the crop, not the picture"
    assert not store.read(clips["room"]).present[:, 1].any()
    # The order of the views is the model's.
    other = store_of(tmp_path, ("face", "frame")).read(clips["face"])
    assert (other.present[:, [1, 0, 2]] == ticks.present).all()


def test_a_stream_has_a_face_where_it_mostly_has_one_and_holds_it(
    clips: dict[str, Clip], tmp_path: Path
) -> None:
    store = store_of(tmp_path)
    config = settings(tmp_path, ticks=TICKS).clips
    batch = ClipBatches(store, list(clips.values()), config, 0, bent=False).of(list(clips.values()))
    assert batch.video.shape == (2, 2, TICKS, 1, 32, 32)
    assert batch.present.tolist() == [[True, True, True], [True, False, True]]
    there = np.flatnonzero(store.read(clips["face"]).present[:, 1])
    assert torch.equal(batch.video[0, 1, there[-1]], batch.video[0, 1, -1]), "the last one is held"
    late = ClipBatches(store, [clips["face"]], settings(tmp_path, ticks=4).clips, 0)
    kept = {bool(late.batch(1).present[0, 1]) for _ in range(40)}
    assert kept == {True, False}, "a window where it is gone has none"


def test_no_picture_takes_the_face_too(clips: dict[str, Clip], tmp_path: Path) -> None:
    config = settings(tmp_path, ticks=6, missing=0.5).clips
    drawn = ClipBatches(store_of(tmp_path), [clips["face"]], config, 0).batch(40).present
    assert {tuple(row) for row in drawn.tolist()} >= {(False, False, True), (True, True, False)}
    assert not (drawn[:, 1] & ~drawn[:, 0]).any()


def run_of(folder: Path, clips: tuple[Clip, ...]) -> ClipRun:
    config = settings(folder, steps=3, batch=2, ticks=6, chunk_ticks=3)
    network = config.network.model_copy(update={"views": ("frame", "face"), "fusion": "hybrid"})
    config = config.model_copy(update={"network": network})
    found = ClipSet(clips, {"emotion": ("happy", "none")}, {"emotion": "softmax"})
    return ClipRun(config, found, folder / "work", lambda *_: None, lambda *_: None)


def test_both_branches_learn_and_the_model_plays(clips: dict[str, Clip], tmp_path: Path) -> None:
    run = run_of(tmp_path, tuple(clips.values()))
    before = {name: one.clone() for name, one in run.network.state_dict().items()}
    run.learn()
    after = run.network.state_dict()
    for part in ("videos.0.", "videos.1.", "audio."):
        assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith(part)), part
    spec = run.finish(tmp_path / "m.ts")
    assert spec.views == load_model(tmp_path / "m.ts", device="cpu").spec.views == ("frame", "face")
    # As a teacher it must be shown the same views.
    with pytest.raises(ConfigError, match=r"a teacher must take the same views, got \('frame', 'face'\)"):
        Teacher(DistilSettings(teacher=tmp_path / "m.ts"), small_spec(size=32), "cpu")


def test_a_face_view_without_a_face_to_learn_from_is_refused(clips: dict[str, Clip], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="the face view learns from clips with faces, got none in 1 clips; leave `face` out"
    ):
        run_of(tmp_path, (clips["room"],))


def test_settings_without_views_are_as_before() -> None:
    assert TrainConfig().network.views == ("frame",)
