"""`streamfuse train` on clips leaves its figures in the file and a card beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamfuse.cli.evaluate import evaluate
from streamfuse.cli.train import train
from streamfuse.model.inspect import inspect_model
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.training.assess import Measures
from streamfuse.training.clip_card import NONE_HELD_OUT, clip_card, clip_qualities

SETTINGS = """
name: mine
data:
  - {layout: synthetic, count: 12, seconds: 2}
network: {preset: tiny, fusion: concat, picture_side: 32, memory_ticks: 4}
clips: {steps: 3, batch: 2, ticks: 8, chunk_ticks: 4, check_every: 3}
"""
SPEC = ModelSpec(
    name="mine", heads=(HeadSpec("scene", ("coast", "street")), HeadSpec("sound", ("rain",), "sigmoid"))
)
NAN = float("nan")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    folder = tmp_path_factory.mktemp("card")
    config, out = folder / "mine.yaml", folder / "mine.ts"
    config.write_text(SETTINGS)
    arguments = ["-c", str(config), "-o", str(out), "--work", str(folder / "work")]
    return config, out, CliRunner().invoke(train, arguments, catch_exceptions=False).output


def test_the_figures_in_the_file_are_those_of_evaluate(trained: tuple[Path, Path, str]) -> None:
    config, out, _ = trained
    quality = {one.measure: one for one in inspect_model(out).spec.quality}
    result = CliRunner().invoke(evaluate, [str(out), "-c", str(config), "--json"], catch_exceptions=False)
    measured = json.loads(result.stdout)["measures"]
    some = [one for one in measured if f"{one['head']} {one['condition']}: unweighted recall" in quality]
    assert {one["condition"] for one in some} >= {"as recorded", "no sound", "no picture"}
    for one in some:
        figure = quality[f"{one['head']} {one['condition']}: unweighted recall"]
        assert figure.value == round(one["clip"]["uar"], 4)
        assert figure.command == "streamfuse evaluate mine.ts -c mine.yaml"
        assert figure.data == f"{one['dataset']}: {one['clips']} clips of held-out groups"


def test_the_card_lies_beside_the_file(trained: tuple[Path, Path, str]) -> None:
    _, out, output = trained
    spec, card = inspect_model(out).spec, out.with_name("mine.ts.md").read_text()
    assert "and its card mine.ts.md: mine, weights" in " ".join(output.split())
    assert card.startswith("# Model card: mine\n")
    assert spec.weights_sha256 in card
    assert "`streamfuse evaluate mine.ts -c mine.yaml`" in card
    for source in spec.training:
        assert f"| {source.name} | {source.licence} | {source.use} |" in card


def test_a_card_without_held_out_clips_says_so() -> None:
    card = clip_card(SPEC, [], "streamfuse evaluate")
    assert card.endswith(NONE_HELD_OUT + "\n")
    assert clip_qualities([], "streamfuse evaluate") == ()


def test_a_card_has_recalls_by_class_and_leaves_out_what_does_not_occur() -> None:
    clip = {"accuracy": 0.75, "uar": 0.75, "macro_f1": 0.4, "ece": 0.1}
    one = Measures(
        "places", "scene", "as recorded", 4, 80, {"accuracy": 0.5}, clip,
        labels=("coast", "street"), table=((3, 1), (0, 0)),
    )  # fmt: skip
    card = clip_card(SPEC, [one], "streamfuse evaluate mine.ts").splitlines()
    assert "| places | scene | as recorded | 4 | 75.0 | 75.0 | 40.0 | 50.0 | 10.0 | - |" in card
    assert card[-1] == "| coast | 75.0 | 3 | 1 |"


def test_several_labels_at_once_have_average_precision_and_nan_is_no_figure() -> None:
    heard = Measures("sounds", "sound", "no picture", 3, 60, {"map": 0.81234, "micro_f1": 0.5}, {})
    unknown = Measures("sounds", "sound", "no sound", 3, 60, {"map": NAN, "micro_f1": 0.0}, {})
    (figure,) = clip_qualities([heard, unknown], "streamfuse evaluate mine.ts")
    assert (figure.measure, figure.value) == ("sound no picture: mean average precision per tick", 0.8123)
    assert "| sounds | sound | no picture | 3 | - | - | 50.0 | - | - | 81.2 |" in clip_card(
        SPEC, [heard], "x"
    )


def test_ticks_are_counted_where_clips_change_their_label() -> None:
    one = Measures("turns", "scene", "as recorded", 2, 40, {"accuracy": 0.6, "uar": 0.55}, {})
    (figure,) = clip_qualities([one], "x")
    assert (figure.measure, figure.value) == ("scene as recorded: unweighted recall per tick", 0.55)
