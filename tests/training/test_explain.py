"""An explanation agrees with what was planted: in a model, and in generated clips with a trained model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from streamfuse.errors import SourceError, StageError
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import HeadSpec, ModelSpec, StateSpec, VideoSpec
from streamfuse.training.datasets.synthetic import LIGHT, PATCH, read_synthetic, script_of_clip
from streamfuse.training.explain import CELLS, Covering, explain
from streamfuse.training.explain_picture import explanation_picture
from streamfuse.training.takes import Take
from tests.clips import Clip as Media
from tests.model.networks import model_of
from tests.training.made import SETTINGS


class Planted(nn.Module):
    """Answers "yes" to contrast in the upper left quarter of what it saw lately, or to its lowest MFCC."""

    def __init__(self, picture: float, sound: float) -> None:
        super().__init__()
        self.picture, self.sound = picture, sound

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return [torch.zeros(batch, 1)]

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        half = video.size(4) // 2
        contrast = video[:, 0, 0, 0, :half, :half].flatten(1).std(1) * self.picture
        tone = audio[:, :, 1].mean(1) * self.sound
        seen = torch.where(present[:, 0], contrast, torch.zeros_like(contrast))
        heard = torch.where(present[:, 1], tone, torch.zeros_like(tone))
        level = 0.7 * state[0][:, 0] + 0.3 * (seen + heard)
        return [torch.stack([level, torch.zeros_like(level)], 1)], [level[:, None]]


def planted(folder: Path, picture: float, sound: float) -> Model:
    spec = ModelSpec(
        name="planted",
        heads=(HeadSpec("scene", ("yes", "no")),),
        video=VideoSpec(picture=FrameSpec(size=48, colour="luma", mean=(0.0,) * 3, std=(1.0,) * 3)),
        audio=MfccSpec(),
        state=(StateSpec("level", (1, 1)),),
    )
    return model_of(Planted(picture, sound), spec, folder / "planted.ts")


def corner(index: int) -> np.ndarray:
    """Stripes in the upper left quarter of the middle square, grey elsewhere."""
    picture = np.full((96, 96, 3), 110, np.uint8)
    picture[8:40:4, 8:40] = 240
    return picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    return Media(seconds=2.5, fps=10, width=96, height=96, picture=corner, hz=150).write(
        folder / "corner.mp4"
    )


def of_file(path: Path) -> object:
    from streamfuse.training.datasets.clips import Clip

    return Clip(path.name, (), path.name, "", "", path, path)


def test_a_planted_region_and_modality_are_found(tmp_path: Path, clip: Path) -> None:
    seen = explain(planted(tmp_path, picture=8.0, sound=0.0), of_file(clip), 2.0)  # type: ignore[arg-type]
    assert seen.label == "yes" and seen.loudest_view == "frame"
    assert seen.share == {"frame": 1.0, "audio": 0.0}
    half = CELLS // 2
    quarter = seen.regions["frame"][:half, :half].sum()
    assert quarter > 0.85 * np.abs(seen.regions["frame"]).sum()
    assert np.abs(seen.sounds).max() < 1e-6, "nobody listened"
    # Its memory is short: the last moment weighs most.
    assert seen.moments.argmax() == len(seen.moments) - 1
    assert seen.times[-1] == pytest.approx(2.1), "the end of the tick that was asked for"


def test_a_planted_sound_is_found_in_its_band(tmp_path: Path, clip: Path) -> None:
    heard = explain(planted(tmp_path, picture=0.0, sound=0.2), of_file(clip), 2.0)  # type: ignore[arg-type]
    assert heard.share == {"frame": 0.0, "audio": 1.0}
    assert np.abs(heard.regions["frame"]).max() < 1e-6
    # MFCC 1 is low bands against high ones, and a tone of 150 Hz is in the lowest of eight.
    assert heard.sounds[:, -1].argmax() == 0


class OfTwoViews(nn.Module):
    """Answers "yes" to contrast in the upper left quarter of the frame, the lower right one of the face."""

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return [torch.zeros(batch, 1)]

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        half = video.size(5) // 2
        frame = video[:, 0, 0, 0, :half, :half].flatten(1).std(1)
        face = video[:, 1, 0, 0, half:, half:].flatten(1).std(1)
        seen = frame * present[:, 0].float() * 4.0 + face * present[:, 1].float() * 4.0
        return [torch.stack([seen, torch.zeros_like(seen)], 1)], state


def test_views_are_hidden_one_at_a_time() -> None:
    """A cue planted in one corner of the frame and the opposite corner of the face: each is found there."""
    spec = ModelSpec(
        name="planted",
        heads=(HeadSpec("scene", ("yes", "no")),),
        views=("frame", "face"),
        video=VideoSpec(picture=FrameSpec(size=48, colour="luma", mean=(0.0,) * 3, std=(1.0,) * 3)),
        state=(StateSpec("level", (1, 1)),),
    )
    rng = np.random.default_rng(0)
    ticks = 6
    video = rng.random((ticks, 2, 1, 48, 48)).astype(np.float32)
    present = np.ones((ticks, 3), bool)
    present[:, 2] = False
    take = Take(
        of_file(Path("x")), video, np.zeros((ticks, 10, 40), np.float32), present,  # type: ignore[arg-type]
        np.zeros(352 + 1600 * ticks, np.float32), {}, spec,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        model = model_of(OfTwoViews(), spec, Path(folder) / "two.ts")
        what = Covering(model, take, 0, 0).explanation(0.6)
    half = CELLS // 2
    for view, (down, right) in {"frame": (0, 0), "face": (1, 1)}.items():
        regions = what.regions[view]
        quarter = regions[down * half : (down + 1) * half, right * half : (right + 1) * half]
        assert quarter.sum() > 0.8 * np.abs(regions).sum(), view
    assert what.share["frame"] == pytest.approx(what.share["face"], abs=0.2) and what.share["audio"] == 0.0
    np.testing.assert_allclose(what.views["face"], video[-1, 1, 0])
    page = np.asarray(explanation_picture(what, "x").convert("RGB")).astype(int)
    # Red over blue, in the upper left of the first picture and in the lower right of the second.
    warm = page[378:678, :, 0] - page[378:678, :, 2]
    frame, face = warm[:, 24:324], warm[:, 356:656]
    assert frame[:150, :150].mean() > 5 * abs(frame[150:, 150:].mean()) + 5
    assert face[150:, 150:].mean() > 5 * abs(face[:150, :150].mean()) + 5


def test_shares_add_up_when_both_matter(tmp_path: Path, clip: Path) -> None:
    both = explain(planted(tmp_path, picture=4.0, sound=0.05), of_file(clip), 2.0)  # type: ignore[arg-type]
    assert sum(both.share.values()) == pytest.approx(1.0)
    assert min(both.share.values()) > 0.1


def test_a_trained_model_looks_where_the_generator_drew(made_model: Path) -> None:
    """The scene is in the patch, the tone's light above it; the rest is dull noise."""
    assert "seconds: 2" in SETTINGS
    model = load_model(made_model, device="cpu")
    clips = read_synthetic(30, 2.0).clips
    hits = []
    for one in [clip for clip in clips if clip.split in ("val", "test")][:4]:
        script = script_of_clip(one)
        what = explain(model, one, 1.7, "scene")
        right = next(s.label for s in script.scenes if s.start_ns <= 1_700_000_000 < s.end_ns)
        if what.label != right or what.share["frame"] < 0.05:
            continue
        cells = (np.arange(CELLS) + 0.5) / CELLS
        x, y = script.patch
        inside = ((cells >= x) & (cells < x + PATCH))[None] & ((cells >= y) & (cells < y + PATCH))[:, None]
        helped = np.maximum(what.regions["frame"], 0.0)
        hits.append(helped[inside].sum() / helped.sum() - inside.mean())
        assert LIGHT < PATCH
    assert len(hits) >= 2
    assert np.mean(hits) > 0.2, "far more of it lies in the patch than the patch's share of the picture"


def test_a_time_beyond_the_clip_and_an_unknown_head(tmp_path: Path, clip: Path) -> None:
    model = planted(tmp_path, 1.0, 1.0)
    with pytest.raises(SourceError, match=r"the time must be within the clip, got 9 s of 2\.[56]"):
        explain(model, of_file(clip), 9.0)  # type: ignore[arg-type]
    with pytest.raises(StageError, match="a head must be one of the model's, got mood; scene"):
        explain(model, of_file(clip), 1.0, "mood")  # type: ignore[arg-type]


def test_explain_command_writes_a_picture_and_tells_the_shares(tmp_path: Path, clip: Path) -> None:
    from streamfuse.cli.explain import explain as command

    planted(tmp_path, picture=8.0, sound=0.0)
    words = [
        str(clip),
        "--at",
        "2.0s",
        "--model",
        str(tmp_path / "planted.ts"),
        "-o",
        str(tmp_path / "e.png"),
    ]
    told = CliRunner().invoke(command, words, catch_exceptions=False).output
    assert told.startswith("scene at 2 s: yes (") and "frame 100 %, audio 0 %" in told
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.width == 1000
        red = np.asarray(picture.convert("RGB")).astype(int)[378:678, 24:324]
    # The heat is where the stripes are: red over blue in the upper left quarter of the picture.
    warm = red[..., 0] - red[..., 2]
    assert warm[:150, :150].mean() > 5 * abs(warm[150:, 150:].mean()) + 5
    facts = json.loads(CliRunner().invoke(command, [*words, "--json"], catch_exceptions=False).output)
    assert facts["share"] == {"frame": 1.0, "audio": 0.0} and len(facts["regions"]["frame"]) == CELLS
