"""Faces in training: crops as the face view shows them, the branch that learns from them, and evaluation."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.network import build_network
from streamfuse.training.cache import PictureCache, cache_pictures
from streamfuse.training.datasets.meaning import EMOTIONS, FEELINGS, PLACES, SOUNDS
from streamfuse.training.datasets.recordings import Division, Recording, read_recordings
from streamfuse.training.motion import Camera, crop_path, shrunk
from streamfuse.training.play import play
from streamfuse.training.portraits import Portraits, train_faces
from streamfuse.training.settings import FaceSettings, TrainConfig
from streamfuse.training.train import model_spec
from streamfuse.training.trials import Suite, Trial, degraded, picture_trial
from tests.faces.drawing import draw_face, room
from tests.training.tree import COLUMNS, stripes, write_table, write_tree

SPEC = FrameSpec(size=32, colour="luma", mean=(0.5,) * 3, std=(0.5,) * 3)
LABELS = ("happy", "sad", "surprised")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> PictureCache:
    """The tree's scenes, and "faces" whose stripes run with the feeling."""
    folder = write_tree(tmp_path_factory.mktemp("faces") / "data")
    with (folder / "images.csv").open(newline="") as lines:
        rows = [[row[name] for name in COLUMNS] for row in csv.DictReader(lines)]
    rng = np.random.default_rng(3)
    (folder / "face").mkdir()
    for n in range(8):
        for label, way in zip(LABELS, ((1.0, 0.4), (0.4, 1.0), (1.0, 1.0)), strict=True):
            Image.fromarray(stripes(way, rng)).save(folder / f"face/{label}-{n}.png")
            rows.append(
                [f"face/{label}-{n}.png", "face_image", label, f"{label}-{n}", "drawn", "CC0", "train"]
            )
    write_table(folder / "images.csv", rows)
    found = read_recordings(folder, Division(("dev",), ("fold4",))).pictures
    return cache_pictures(found, folder / "cache", [])


def test_camera_shows_the_face_of_each_picture_with_one(cache: PictureCache) -> None:
    batch = Camera(cache, SPEC, 2, seed=1, crops=True).batch(64)
    assert batch.faces.shape == batch.frames.shape == (64, 2, 1, 32, 32)
    assert torch.equal(batch.faced, batch.emotion > 0)
    assert batch.faced.any() and not batch.faced.all()
    shown = batch.faces[batch.faced].flatten(1).std(1)
    assert (shown > 0.05).all(), "a face, and not an empty picture"
    assert not batch.faces[~batch.faced].any()


def test_camera_without_crops_films_the_same(cache: PictureCache) -> None:
    assert not Camera(cache, SPEC, 2, seed=1).batch(16).faces.any()


def test_crop_path_looks_at_nearly_all_of_the_face_and_steadily() -> None:
    path = crop_path(np.random.default_rng(0), 200, 4).view(200, 4, 2, 3)
    zoom = path[..., :2].norm(dim=-1)
    assert 0.9 < float(zoom.mean()) < 1.02
    assert float(path[..., 2].diff(dim=1).abs().mean()) < 0.03
    assert float(path[..., 2].abs().mean()) < 0.1


def test_shrunk_face_has_lost_its_detail_and_keeps_its_size() -> None:
    face = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    small = shrunk(face, 0.4)
    assert small.shape == face.shape
    assert np.abs(np.diff(small.astype(int), axis=1)).mean() < 0.5 * np.abs(np.diff(face.astype(int))).mean()


def test_portraits_ask_for_every_feeling_and_for_none(cache: PictureCache) -> None:
    shown, emotion, feeling = Portraits(cache, SPEC, seed=2).portraits(256)
    assert shown.shape == (256, 1, 1, 32, 32)
    assert set(feeling.tolist()) == {-1, *(FEELINGS.index(one) for one in LABELS)}
    # Surprise is no answer of the head; scenes are asked for `none`.
    assert set(emotion[feeling == FEELINGS.index("surprised")].tolist()) == {-1}
    assert set(emotion[feeling == -1].tolist()) == {EMOTIONS.index("none")}


def small_model() -> TrainConfig:
    network = {"preset": "tiny", "picture_side": 32, "views": ("frame", "face"), "memory_ticks": 8}
    return TrainConfig.model_validate({"network": network})


def test_face_branch_learns_and_the_frame_branch_is_left_alone(cache: PictureCache) -> None:
    torch.manual_seed(0)
    spec = model_spec(small_model())
    network = build_network(spec)
    before = {name: one.clone() for name, one in network.videos[0].state_dict().items()}
    losses: list[float] = []
    settings = FaceSettings(steps=60, batch=16, rate=4e-3, trunk_rate=1.0, smoothing=0.0)
    train_faces(
        network, spec, Portraits(cache, spec.video.picture, 2), settings, 0.0,
        lambda _name, _done, figures: losses.append(figures["loss"]),
    )  # fmt: skip
    # What is reported is a slow mean: the new share of it is the loss of that step.
    steps = np.array([losses[0], *(np.diff(losses) / 0.02 + losses[:-1])])
    assert steps[-10:].mean() < 0.8 * steps[:10].mean()
    for name, one in network.videos[0].state_dict().items():
        assert torch.equal(one, before[name]), name


def recording(path: Path, kind: str, label: str) -> Recording:
    return Recording(path, kind, label, label, "drawn", "CC0", "dev", "test")


def test_trial_of_a_face_has_the_face_view_and_a_scene_has_none(tmp_path: Path) -> None:
    spec = model_spec(small_model())
    Image.fromarray(draw_face(room(), 160.0, 120.0, 90)).save(tmp_path / "face.png")
    Image.fromarray(room()).save(tmp_path / "room.png")
    face = picture_trial(recording(tmp_path / "face.png", "face_image", "happy"), spec)
    scene = picture_trial(recording(tmp_path / "room.png", "scene_image", "office"), spec)
    assert face.face is not None and face.face.shape == (1, 32, 32)
    assert scene.face is None
    assert np.abs(face.face - face.picture).max() > 0.1, "the crop, not the picture"
    plain = model_spec(TrainConfig())
    assert picture_trial(recording(tmp_path / "face.png", "face_image", "happy"), plain).face is None
    dark = degraded(Suite("x", "emotion", "drawn", (face,)), "dark", lambda x: x * np.float32(0.3), spec)
    assert dark.trials[0].face is not None
    assert dark.trials[0].face.mean() < face.face.mean()


class Told:
    """A model that notes what it was shown."""

    def __init__(self) -> None:
        self.spec, self.seen = model_spec(small_model()), []

    def init_state(self, batch: int) -> list[np.ndarray]:
        return []

    def step(self, video, audio, present, state):  # type: ignore[no-untyped-def]
        self.seen.append((video.copy(), present.copy()))
        return [
            np.zeros((len(present), n), np.float32) for n in (len(PLACES), len(EMOTIONS), len(SOUNDS))
        ], state


def test_play_shows_each_view_its_own_picture() -> None:
    told, one = Told(), np.ones((1, 32, 32), np.float32)
    play(told, [Trial(2, picture=one, face=3 * one), Trial(2, picture=one)])  # type: ignore[arg-type]
    video, present = told.seen[0]
    assert present.tolist() == [[True, True, False], [True, False, False]]
    assert video[0, :, 0, 0, 0, 0].tolist() == [1.0, 3.0]
    assert video[1, :, 0, 0, 0, 0].tolist() == [1.0, 0.0]
