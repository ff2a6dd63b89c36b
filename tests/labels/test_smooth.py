from __future__ import annotations

import dataclasses
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from streamfuse.config import HeadConfig, LabelConfig
from streamfuse.errors import ModelError, StageError
from streamfuse.labels.smooth import RESERVED, TOP, Labeller, LabellerState
from streamfuse.model.spec import HeadSpec
from streamfuse.types import Label
from tests.labels.made import SCENE, SOUND, answer, label_all, plain, tick_head

ROWS = st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=60)


def scores(labels: list[Label], head: HeadSpec = SCENE) -> np.ndarray:
    return np.array([[label.heads[head.name].scores[name] for name in head.labels] for label in labels])


@given(ROWS, st.floats(0.01, 30))
def test_smoothing_is_scipys_one_pole_filter(rows: list[list[float]], smoothing_s: float) -> None:
    got = scores(label_all(rows, config=LabelConfig(smoothing_s=smoothing_s)))
    data = np.asarray(rows, np.float64)
    weight = 1 - np.exp(-0.1 / smoothing_s)
    # The state that makes the first output equal the first input.
    want, _ = lfilter([weight], [1, weight - 1], data, axis=0, zi=(1 - weight) * data[:1])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@given(ROWS)
def test_without_smoothing_scores_are_the_answers(rows: list[list[float]]) -> None:
    np.testing.assert_array_equal(scores(label_all(rows)), np.asarray(rows))


@given(st.integers(0, 19), st.floats(0.05, 5))
def test_dropped_ticks_count_as_time(dropped: int, smoothing_s: float) -> None:
    labeller = Labeller([SCENE], LabelConfig(smoothing_s=smoothing_s))
    labeller.push(answer(tick_head(0), scene=[1, 0, 0]))
    (label,) = labeller.push(answer(tick_head(dropped + 1, dropped=dropped), scene=[0, 1, 0]))
    kept = np.exp(-(dropped + 1) * 0.1 / smoothing_s)
    np.testing.assert_allclose(scores([label])[0], [kept, 1 - kept, 0], atol=1e-12)


def test_new_session_and_long_gap_begin_anew() -> None:
    labeller = Labeller([SCENE], LabelConfig(smoothing_s=10))
    labeller.push(answer(tick_head(0), scene=[1, 0, 0]))
    (other,) = labeller.push(answer(tick_head(0, session=1), scene=[0, 1, 0]))
    assert scores([other]).tolist() == [[0, 1, 0]]
    (kept,) = labeller.push(answer(tick_head(21, session=1, dropped=20), scene=[0, 0, 1]))
    assert scores([kept])[0, 1] > 0.5
    (gone,) = labeller.push(answer(tick_head(43, session=1, dropped=21), scene=[1, 0, 0]))
    assert scores([gone]).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("own", "configured", "row", "label"),
    [
        (0.5, None, [0.5, 0.25, 0.25], "street"),
        (0.5, None, [0.25, 0.4375, 0.3125], "unknown"),
        (0.9, 0.4, [0.25, 0.4375, 0.3125], "indoor"),
        (0.1, 0.9, [0.125, 0.0, 0.875], "unknown"),
        (0.0, None, [0.0, 0.0, 0.0], "street"),
    ],
)
def test_softmax_says_the_winner_or_unknown(
    own: float, configured: float | None, row: list[float], label: str
) -> None:
    head = msgspec.structs.replace(SCENE, threshold=own)
    (made,) = label_all([row], head, plain(threshold=configured))
    assert (made.scene.label, made.scene.score, made.scene.labels) == (label, max(row), None)


def test_sigmoid_says_every_label_from_its_threshold_on_best_first() -> None:
    (made,) = label_all([[0.5, 0.25, 0.75]], SOUND)
    part = made.heads["sound"]
    assert part.labels == (("speech", 0.75), ("rain", 0.5))
    assert part.top == (("speech", 0.75), ("rain", 0.5), ("music", 0.25))
    assert (part.label, part.score) == (None, None)
    assert label_all([[0.0, 0.0, 0.0]], SOUND)[0].heads["sound"].labels == ()


def test_top_has_five_best_first_and_ties_in_the_models_order() -> None:
    head = HeadSpec("scene", tuple("abcdefg"), "softmax", 1.0, 0.5)
    (made,) = label_all([[0.125, 0.25, 0.0, 0.25, 0.125, 0.125, 0.125]], head)
    assert [name for name, _ in made.scene.top] == ["b", "d", "a", "e", "f"]
    assert len(made.scene.top) == TOP
    assert made.scene.label == "unknown"


def test_head_has_its_own_settings() -> None:
    config = LabelConfig(smoothing_s=5, heads={"sound": HeadConfig(smoothing_s=0, threshold=0.9)})
    labeller = Labeller([SCENE, SOUND], config)
    labeller.push(answer(tick_head(0), scene=[1, 0, 0], sound=[0, 0, 0]))
    (label,) = labeller.push(answer(tick_head(1), scene=[0, 1, 0], sound=[0.875, 1, 0]))
    assert label.scene.label == "street"
    assert label.heads["sound"].labels == (("music", 1.0),)


def test_raw_is_told_on_request_only() -> None:
    assert label_all([[1, 0, 0]])[0].scene.raw is None
    config = LabelConfig(smoothing_s=5, raw=True)
    last = label_all([[1, 0, 0], [0, 0.75, 0.25]], config=config)[1]
    assert last.scene.raw == {"street": 0, "indoor": 0.75, "forest": 0.25}


def test_modalities_and_head_are_passed_through() -> None:
    head = tick_head(7, session=2, dropped=1)
    (label,) = Labeller([SCENE], plain()).push(answer(head, scene=[1, 0, 0]))
    assert label.head is head
    assert label.modalities == {"video": "ok", "face": "missing", "audio": "held"}
    assert label.warm


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.25, 1.5])
def test_answer_out_of_range_never_becomes_a_label(bad: float) -> None:
    labeller = Labeller([SCENE], plain())
    rule = r"probabilities of head scene must be in 0\.\.1, got .* \[cam tick 3\]"
    with pytest.raises(StageError, match=rule):
        labeller.push(answer(tick_head(3), scene=[0.5, bad, 0]))
    assert labeller.state.means == {}


@pytest.mark.parametrize(("rows", "got"), [({}, "none"), ({"scene": [0.5, 0.5]}, r"\(2,\)")])
def test_answer_of_another_model_is_an_error(rows: dict, got: str) -> None:
    with pytest.raises(StageError, match=f"head scene must have 3 probabilities, got {got}"):
        Labeller([SCENE], plain()).push(answer(tick_head(), **rows))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_head_called_like_a_field_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"may not be called like a field of a label, got {name}"):
        Labeller([msgspec.structs.replace(SCENE, name=name)], plain())


def test_push_after_flush_is_an_error_until_reset() -> None:
    labeller = Labeller([SCENE], LabelConfig(smoothing_s=10))
    first = labeller.push(answer(tick_head(), scene=[1, 0, 0]))
    assert labeller.flush() == []
    with pytest.raises(StageError, match=r"no push\(\) after flush\(\), reset\(\) first \[cam\]"):
        labeller.push(answer(tick_head(1), scene=[1, 0, 0]))
    labeller.reset()
    assert labeller.push(answer(tick_head(), scene=[1, 0, 0])) == first


@given(ROWS, st.integers(0, 59))
def test_state_survives_json_exactly(rows: list[list[float]], cut: int) -> None:
    config = LabelConfig(smoothing_s=3)
    whole = label_all(rows, config=config)
    answers = [answer(tick_head(i), scene=row) for i, row in enumerate(rows)]
    first, second = Labeller([SCENE], config), Labeller([SCENE], config)
    labels = [label for a in answers[:cut] for label in first.push(a)]
    text = json.dumps(dataclasses.asdict(first.state))
    second.state = msgspec.convert(json.loads(text), LabellerState)
    labels += [label for a in answers[cut:] for label in second.push(a)]
    assert labels == whole
    assert np.array_equal(scores(labels), scores(whole))
