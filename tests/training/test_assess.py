"""What an evaluation measures, against outside judges and streams whose truth is known by hand."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, log_loss, recall_score

from streamfuse.config import LabelConfig
from streamfuse.errors import ConfigError
from streamfuse.model.runtime import load_model
from streamfuse.model.spec import HeadSpec
from streamfuse.training import metrics
from streamfuse.training.assess import CLEAN, Measures, Played, assess, measured, shares, smoothed
from streamfuse.training.clip_ticks import targets_of
from streamfuse.training.datasets.clips import Clip, Mark
from streamfuse.training.datasets.synthetic import read_synthetic
from streamfuse.training.evaluate import Score, show
from streamfuse.training.report import as_json, page_of, show_measures
from streamfuse.training.takes import CONDITIONS, WARM, coloured, played, take_of
from streamfuse.training.timelines import found_after, steadiness, stretches
from tests.clips import Clip as Media
from tests.clips import flash_and_beep

HEAD = HeadSpec("scene", ("a", "b", "c"))
RNG = np.random.default_rng(0)


def test_shares_are_scikit_learns() -> None:
    scores = RNG.dirichlet(np.ones(3), 400)
    truth = RNG.integers(0, 3, 400)
    found = shares(scores, truth, 3)
    guess = scores.argmax(1)
    assert found["uar"] == pytest.approx(recall_score(truth, guess, average="macro"))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found["log_loss"] == pytest.approx(log_loss(truth, scores))
    each = [brier_score_loss(truth == n, scores[:, n]) for n in range(3)]
    assert found["brier"] == pytest.approx(sum(each))


def test_average_precision_is_scikit_learns_also_with_equal_scores() -> None:
    scores = np.round(RNG.random(300), 1)
    truth = RNG.random(300) < 0.3
    assert metrics.average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    assert np.isnan(metrics.average_precision(scores, np.zeros(300, bool)))


def test_found_after_needs_three_in_a_row() -> None:
    def at(text: str) -> int | None:
        return found_after(np.array([c == "x" for c in text]))

    assert at("xxx") == 0
    assert at("x.xxx") == 2
    assert at("xx.xx.") is None
    assert at("...") is None
    assert at("..xx") is None, "the end is no reason to believe"
    assert at("xx") == 0, "a stretch of two ticks has no third"


def test_stretches_leave_out_what_is_not_known() -> None:
    assert stretches(np.array([0, 0, -1, 1, 1, 1, 0])) == [(0, 2), (3, 6), (6, 7)]


def test_steadiness_of_a_stream_counted_by_hand() -> None:
    truth = np.array([0] * 10 + [1] * 10)
    said = np.array([0] * 10 + [0, 0, 1, 0, 1, 1, 1, 1, 1, 1])
    found = steadiness([said], [truth], 0.1)
    # 0.1 s for the first stretch; in the second the fifth tick is the first of three right ones.
    assert found.stretches == 2 and found.missed == 0.0
    assert found.median_s == pytest.approx((0.1 + 0.5) / 2)
    assert found.flips_a_minute == pytest.approx(3 / (2.0 / 60))
    assert found.false_switches == pytest.approx(2.0), "one true switch, three said"
    # Runs of 12, 1, 1 and 6 ticks: two are shorter than half a second.
    assert found.flicker == pytest.approx(0.5) and found.dwell_s == pytest.approx(0.5)
    # Ten tenths of ten ticks: the mean of 1 and of whether the second stretch was right there.
    assert found.by_decile == pytest.approx((0.5, 0.5, 1, 0.5, 1, 1, 1, 1, 1, 1))


def test_steadiness_counts_what_is_never_found() -> None:
    found = steadiness([np.full(10, -1)], [np.zeros(10, int)], 0.1)
    assert found.missed == 1.0 and np.isnan(found.median_s) and np.isnan(found.false_switches)


def clip(name: str, *marks: Mark) -> Clip:
    return Clip(name, marks, name, "test", "set")


def scored(name: str, classes: list[int], truth: list[float], sure: float = 0.8) -> Played:
    scores = np.full((len(classes), 3), (1 - sure) / 2, np.float32)
    scores[np.arange(len(classes)), classes] = sure
    right = np.full((len(truth), 3), np.nan, np.float32)
    for tick, one in enumerate(truth):
        if one >= 0:
            right[tick] = np.eye(3)[int(one)]
    return Played(clip(name), CLEAN, "scene", scores, right, np.array(classes))


def test_measures_per_tick_per_clip_and_per_second() -> None:
    # One clip wrong in its first half second only; one with a switch, which no clip answer can be right for.
    first = scored("one", [1] * 5 + [0] * 15, [0] * 20)
    second = scored("two", [2] * 10 + [1] * 10, [2] * 10 + [1] * 10)
    unknown = scored("three", [0] * 20, [-1] * 20)
    found = measured(HEAD, "set", CLEAN, [first, second, unknown], 0.1)
    assert found.ticks == 40
    assert found.tick["accuracy"] == pytest.approx(35 / 40)
    assert found.clip["accuracy"] == 1.0, "the first half second is left out"
    assert found.table == ((1, 0, 0), (0, 0, 0), (0, 0, 0)), "the clip with one truth"
    # Four seconds with one truth each; in the first, half of the ticks are right and half are wrong.
    assert found.second["accuracy"] in (0.75, 1.0)
    assert found.second["log_loss"] < found.tick["log_loss"]


def test_soft_votes_that_are_even_are_not_asked() -> None:
    truth = np.full((10, 3), np.nan, np.float32)
    truth[:] = (0.5, 0.5, 0.0)
    even = Played(clip("even"), CLEAN, "scene", np.full((10, 3), 1 / 3, np.float32), truth, np.zeros(10, int))
    sure = scored("sure", [0] * 10, [0] * 10)
    assert measured(HEAD, "set", CLEAN, [even, sure], 0.1).tick["accuracy"] == 1.0


def test_targets_follow_the_middle_of_a_tick_and_know_what_is_not_known() -> None:
    ms = 1_000_000
    marks = [Mark("scene", "a", 0, 149 * ms), Mark("scene", "b", 149 * ms, 300 * ms)]
    found = targets_of(marks, ("a", "b"), 4, 100 * ms, 0, several=False)
    # Tick 1 covers 100..200 ms: its middle, 150, is b's. Tick 3 lies behind all marks.
    np.testing.assert_array_equal(found[:3], [[1, 0], [0, 1], [0, 1]])
    assert np.isnan(found[3]).all()
    votes = [Mark("scene", "a", weight=1.0), Mark("scene", "b", weight=3.0)]
    np.testing.assert_allclose(targets_of(votes, ("a", "b"), 1, 100 * ms, 0, several=False), [[0.25, 0.75]])
    both = targets_of(votes, ("a", "b", "c"), 1, 100 * ms, 0, several=True)
    np.testing.assert_array_equal(both, [[1, 1, 0]])


def test_smoothed_labels_are_those_of_the_analyzer(made_model: Path, tmp_path: Path) -> None:
    """The same clip through `process` and through an evaluation: the same labels, tick by tick."""
    from streamfuse.media.source import file_source
    from streamfuse.pipeline.recorded import process_source
    from streamfuse.types import Label

    path = Media(seconds=1.5, fps=12, width=96, height=96).write(tmp_path / "one.mp4")
    model = load_model(made_model, device="cpu")
    with process_source(file_source(path), model) as processing:
        labels = [one for one in processing if isinstance(one, Label)]
    take = take_of(Clip("one", (), "one", "", "", path, path), model.spec)
    assert take is not None and take.ticks == len(labels)
    (logits,) = played(model, [take])
    scores = model.probabilities(logits)
    said = smoothed(model, scores, LabelConfig())
    for head in model.spec.heads:
        wanted = [one.heads[head.name].label for one in labels]
        assert [head.labels[n] if n >= 0 else "unknown" for n in said[head.name]] == wanted
        assert wanted, "there must be something to compare"


def test_late_sound_is_late_by_what_it_says(tmp_path: Path) -> None:
    path = flash_and_beep(tmp_path / "f.mp4", at=(1.0,))
    from tests.model.networks import small_spec

    take = take_of(Clip("f", (), "f", "", "", path, path), small_spec())
    assert take is not None

    def onset(frames: np.ndarray) -> int:
        loudness = frames.reshape(-1, 40)[:, 0]
        return int(np.argmax(loudness > loudness.max() - 30))

    rng = np.random.default_rng(0)
    first = onset(take.audio)
    assert 95 <= first <= 105, "the beep is at one second, ten frames a tick"
    assert onset(CONDITIONS["sound 80 ms late"](take, rng).audio) - first == 8
    assert onset(CONDITIONS["sound 200 ms early"](take, rng).audio) - first == -20
    same = CONDITIONS["as recorded"](take, rng)
    np.testing.assert_allclose(
        CONDITIONS["noise, SNR 20 dB"](same, rng).samples.std(), take.samples.std(), rtol=0.05
    )
    from streamfuse.training.takes import sound_late

    np.testing.assert_allclose(sound_late(0)(take, rng).audio, take.audio, atol=2e-3)


def test_grey_and_tinted_pictures_are_what_pillow_makes_of_them() -> None:
    """As colour and as luma: Pillow's greys, and its luma of a picture in a lamp's light."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 180, (6, 5, 3), dtype=np.uint8)
    seen = np.moveaxis(rgb, -1, 0)[None] / np.float32(255)
    grey = np.asarray(Image.fromarray(rgb).convert("L")) / 255.0
    found = coloured(np.ones(3, np.float32))(seen, rng)
    assert found.shape == seen.shape
    np.testing.assert_allclose(found[0], np.stack([grey] * 3), atol=1 / 255)  # Pillow rounds
    warm = np.stack([np.rint(grey * 255 * gain) for gain in WARM], -1).clip(0, 255).astype(np.uint8)
    luma = np.asarray(Image.fromarray(warm).convert("L")) / 255.0
    bent = coloured(WARM)(grey[None].astype(np.float32), rng)
    np.testing.assert_allclose(bent[0], luma, atol=2 / 255)


def test_composed_streams_change_picture_and_sound_together_at_known_times(tmp_path: Path) -> None:
    from streamfuse.training.datasets.composed import SHOT_NS, SHOTS, composed_streams
    from streamfuse.training.datasets.entry import DataEntry
    from streamfuse.training.datasets.layouts import read_clips
    from tests.model.networks import small_spec
    from tests.training.tree import write_tree

    clips = read_clips([DataEntry(layout="tables", path=write_tree(tmp_path))]).of("test")
    streams = composed_streams(clips, 2)
    assert [one.marks[0].head for one in streams] == ["scene", "scene"], "no face and voice of one label"
    assert composed_streams(clips, 2) == streams
    for stream in streams:
        for shot, mark in zip(stream.shots, stream.marks, strict=True):
            assert shot.video is not None and shot.audio is not None
            # Stripes and tones of one place: forest is birds, coast is waves.
            sound = {"forest": "birds", "coast": "waves"}[mark.label]
            assert shot.video.name.startswith(mark.label) and shot.audio.name.startswith(sound)
    take = take_of(streams[0], small_spec())
    assert take is not None and take.ticks == SHOTS * SHOT_NS // 100_000_000
    assert take.present.all()
    truth = take.truth["scene"].argmax(1) if "scene" in take.truth else None
    assert truth is not None
    cuts = np.flatnonzero(np.abs(np.diff(take.video[:, 0], axis=0)).mean((1, 2, 3)) > 0.05) + 1
    assert cuts.tolist() == [30, 60, 90], "a still is still; it is cut where the marks change"
    # The sounds are 1.2 s long, then there is silence until the next shot.
    loud = np.sqrt((take.samples[-120 * 1600 :].reshape(120, 1600) ** 2).mean(1)) > 0.02
    assert loud[:10].all() and not loud[13:30].any() and loud[30:40].all()


def test_at_most_takes_some_of_every_data_set() -> None:
    from dataclasses import replace

    from streamfuse.training.datasets.clips import at_most

    some = [clip(f"{n:02d}") for n in range(10)]
    others = [replace(clip("x"), dataset="other")]
    assert [one.name for one in at_most([*some, *others], 3)] == ["00", "03", "06", "x"]


@pytest.fixture(scope="module")
def report(made_model: Path) -> tuple[list[Measures], Path]:
    model = load_model(made_model, device="cpu")
    clips = [one for one in read_synthetic(30, 2.0).clips if one.split == "test"]
    names = (CLEAN, "no sound", "no picture", "dark")
    return assess(model, clips, conditions=names), made_model


def test_assess_finds_what_the_model_knows_and_what_it_loses(
    report: tuple[list[Measures], Path],
) -> None:
    found = {(one.head, one.condition): one for one in report[0]}
    assert list(dict.fromkeys(one.condition for one in report[0])) == [
        CLEAN,
        "no sound",
        "no picture",
        "dark",
    ]
    clean = found[("scene", CLEAN)]
    assert clean.tick["accuracy"] > 0.7, "four scenes: 0.25 is chance"
    # The emotion is heard far better than seen: a tone, and a light that blinks.
    emotion = found[("emotion", CLEAN)].tick["accuracy"]
    assert emotion > 0.65
    assert found[("emotion", "no sound")].tick["accuracy"] < emotion - 0.1
    assert clean.shown is not None and clean.raw is not None
    assert clean.shown.flips_a_minute <= clean.raw.flips_a_minute
    assert sum(map(sum, clean.table)) > 0
    assert sum(share for *_, share in clean.reliability) == pytest.approx(1.0)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_report_page_is_self_contained_and_escapes_what_files_say(
    report: tuple[list[Measures], Path],
) -> None:
    found, file = report
    evil = "<script>alert(1)</script>"
    page = Page()
    text = page_of(load_model(file, device="cpu"), found, [f"{evil}: no sound"], f"evaluate {evil}")
    page.feed(text)
    assert "script" not in page.tags and not page.outside
    assert page.tags.count("svg") == 6, "reliability, tenths and conditions of two heads"
    words = " ".join(page.words)
    assert "no picture" in words and evil in words
    assert "NaN" not in words and "nan" not in words.replace("finance", "")


def test_report_page_of_a_head_of_several_labels_and_of_clips_that_all_change() -> None:
    """No figure per clip, or no accuracy at all: a dash, not a traceback."""
    several = HeadSpec("sound", ("a", "b", "c"), "sigmoid")
    heard = measured(several, "set", CLEAN, [scored("one", [0] * 20, [0] * 20)], 0.1)
    changes = scored("two", [2] * 10 + [1] * 10, [2] * 10 + [1] * 10)
    changing = measured(HEAD, "set", CLEAN, [changes], 0.1)
    assert "accuracy" not in heard.tick and not changing.clip
    page = Page()
    page.feed(page_of(load_model(device="cpu"), [heard, changing], [], "evaluate"))
    assert "mean average precision per tick" in page.words and "of ticks right" in page.words
    assert "of clips right" not in page.words
    # In the summary: a head of several labels has mAP alone, the other one all but "per clip" and mAP.
    first = page.words.index("set, sound")
    row = [word for word in page.words[first : first + 40] if word.strip()]
    assert row[1:13] == [
        "1",
        "20",
        *"\u2013\u2013\u2013\u2013",
        "100.0",
        *"\u2013\u2013\u2013\u2013",
        "set, scene",
    ]
    assert row[15] == "\u2013" and row[16] == "100.0" and row[19] == "\u2013"


def test_report_json_has_no_nan_and_names_the_model(report: tuple[list[Measures], Path]) -> None:
    found, file = report
    model = load_model(file, device="cpu")
    said = json.loads(as_json(model, found, [], "streamfuse evaluate"))
    assert said["schema"] == "streamfuse.evaluation/1"
    assert said["model"]["sha256"] == model.sha256
    assert said["measures"][0]["tick"]["accuracy"] == pytest.approx(found[0].tick["accuracy"], abs=1e-5)


def test_tables_of_figures_fit_into_80_columns() -> None:
    wide = [scored("a", [0] * 20, [0] * 20, sure=1.0)] * 1000
    found = [measured(HEAD, "stills and sounds", name, wide[:100], 0.1) for name in CONDITIONS]
    paper = io.StringIO()
    show_measures(found, Console(file=paper, width=80))
    one = Score(
        "scene from composed pairs, picture alone", "RAVDESS (Livingstone & Russo 2018)", "scene", 12345,
        1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, ("a",), (1.0,), ((12345,),),
    )  # fmt: skip
    show([one], Console(file=paper, width=80))
    text = paper.getvalue()
    assert "\u2026" not in text and max(map(len, text.splitlines())) <= 80
    assert set(" ".join(CONDITIONS).split()) <= set(text.split()), "names may fold, words do not"
    assert text.count("100.0") >= 4 * len(CONDITIONS) + 7 and "12345" in text


def test_evaluate_command_on_clips(made_model: Path, tmp_path: Path) -> None:
    from streamfuse.cli.evaluate import evaluate

    settings = tmp_path / "s.yaml"
    settings.write_text("data: [{layout: synthetic, count: 10, seconds: 1}]")
    words = [str(made_model), "-c", str(settings), "--clean"]
    told = CliRunner().invoke(evaluate, [*words, "--html", str(tmp_path / "r.html")], catch_exceptions=False)
    assert "scene, synthetic" in told.output and CLEAN in told.output
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    said = json.loads(CliRunner().invoke(evaluate, [*words, "--json"], catch_exceptions=False).stdout)
    assert {one["head"] for one in said["measures"]} == {"scene", "emotion"}


def test_evaluate_without_data_or_with_a_bad_one() -> None:
    from streamfuse.cli.evaluate import evaluate

    with pytest.raises(ConfigError, match=r"training and evaluation need data, got none; --data DIR"):
        CliRunner().invoke(evaluate, [], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"--data must be LAYOUT:PATH, got tau; .*needs a path"):
        CliRunner().invoke(evaluate, ["--data", "tau"], catch_exceptions=False)
    with pytest.raises(
        ConfigError, match=r"a folder, or LAYOUT:PATH, got foo:/tmp; layouts are tau, ravdess,"
    ):
        CliRunner().invoke(evaluate, ["--data", "foo:/tmp"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"--clips needs clips, .*; --data tables:/tmp"):
        CliRunner().invoke(evaluate, ["--data", "/tmp", "--clips", "3"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"--streams needs what it can compose"):
        CliRunner().invoke(evaluate, ["--data", "synthetic", "--streams", "3"], catch_exceptions=False)
