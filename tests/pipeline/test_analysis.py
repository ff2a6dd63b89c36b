"""Ticks in, answers out: what the network is given, and when its state begins anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamfuse.analysis import Preparer, Stepper, TickAnalyzer
from streamfuse.errors import StageError
from streamfuse.kernels.frame_window import frame_window
from streamfuse.kernels.mfcc import mfcc_with_context
from streamfuse.model.runtime import load_model
from tests.pipeline.fakes import FakeModel, fake_spec, grey_picture, made_tick


def states(model: FakeModel) -> list[int]:
    """How many steps the state had seen at each call."""
    return [call[3] for call in model.calls]


def test_inputs_are_the_kernels_of_the_tick() -> None:
    spec = fake_spec()
    tick = made_tick(0, value=77)
    tick.samples[:] = np.random.default_rng(1).normal(0, 0.1, 1952)
    (inputs,) = Preparer(spec).push(tick)
    np.testing.assert_array_equal(inputs.video, frame_window([grey_picture(77)], spec.video.picture))
    np.testing.assert_array_equal(inputs.audio, mfcc_with_context(tick.samples[None], spec.audio)[0])
    assert inputs.audio.shape == (10, 40)
    assert inputs.present.tolist() == [True, True]


def test_missing_picture_is_zeros_and_not_present() -> None:
    (inputs,) = Preparer(fake_spec()).push(made_tick(0, video="missing"))
    assert not inputs.video.any()
    assert inputs.present.tolist() == [False, True]
    assert inputs.views == {"frame": "missing", "audio": "ok"}


def test_held_counts_as_present() -> None:
    (inputs,) = Preparer(fake_spec()).push(made_tick(0, video="held"))
    assert inputs.present.tolist() == [True, True]
    assert inputs.views["frame"] == "held"


def test_missing_sound_is_finite_and_not_present() -> None:
    (inputs,) = Preparer(fake_spec()).push(made_tick(0, audio="missing"))
    assert np.isfinite(inputs.audio).all()
    assert inputs.present.tolist() == [True, False]


def test_view_that_nobody_finds_is_missing() -> None:
    (inputs,) = Preparer(fake_spec(views=("face", "frame"))).push(made_tick(0))
    assert inputs.views == {"face": "missing", "frame": "ok", "audio": "ok"}
    assert inputs.present.tolist() == [False, True, True]
    assert not inputs.video[0].any() and inputs.video[1].any()


def test_state_goes_from_tick_to_tick() -> None:
    model = FakeModel()
    analyzer = TickAnalyzer(model)
    for index in range(3):
        analyzer.push(made_tick(index))
    assert states(model) == [0, 1, 2]


def test_new_session_begins_the_state_anew() -> None:
    model = FakeModel()
    analyzer = TickAnalyzer(model)
    for session, index in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        analyzer.push(made_tick(index, session=session))
    assert states(model) == [0, 1, 0, 1]


@pytest.mark.parametrize(("dropped", "expected"), [(20, [0, 1]), (21, [0, 0])])
def test_long_run_of_drops_is_a_discontinuity(dropped: int, expected: list[int]) -> None:
    model = FakeModel()
    analyzer = TickAnalyzer(model, max_gap_ms=2000)
    analyzer.push(made_tick(0))
    analyzer.push(made_tick(1 + dropped, dropped=dropped))
    assert states(model) == expected


@pytest.mark.parametrize("index", [4, 5])
def test_tick_that_was_had_or_is_late_is_refused(index: int) -> None:
    model = FakeModel()
    analyzer = TickAnalyzer(model)
    analyzer.push(made_tick(5))
    with pytest.raises(StageError, match=rf"must come in order, got tick {index} after 5 \[made\]"):
        analyzer.push(made_tick(index))
    analyzer.push(made_tick(0, session=1))
    assert states(model) == [0, 0], "a refused tick is not stepped; a new session counts from its start"


def test_gap_that_nobody_counted_is_a_discontinuity_too() -> None:
    model = FakeModel()
    analyzer = TickAnalyzer(model, max_gap_ms=2000)
    for index in (0, 21, 43):
        analyzer.push(made_tick(index))
    assert states(model) == [0, 1, 0]


def test_answer_that_is_no_number_is_zero_counted_and_forgotten() -> None:
    model = FakeModel(fake_spec(warm_ticks=2), bad_at=(2,))
    analyzer = TickAnalyzer(model)
    answers = [analyzer.push(made_tick(index))[0] for index in range(5)]
    assert states(model) == [0, 1, 2, 0, 1]
    assert analyzer.counters == {"bad_answers": 1}
    assert not answers[2].probabilities["scene"].any()
    assert not answers[2].probabilities["emotion"].any()
    assert [answer.warm for answer in answers] == [False, True, False, False, True]
    assert all(np.isfinite(row).all() for answer in answers for row in answer.probabilities.values())


def test_clip_model_gets_the_last_ticks_oldest_first() -> None:
    model = FakeModel(fake_spec(frames=3))
    analyzer = TickAnalyzer(model)
    for index, value in enumerate((50, 100, 150, 200)):
        analyzer.push(made_tick(index, value=value))
    shapes = {(video.shape, audio.shape) for video, audio, _, _ in model.calls}
    assert shapes == {((1, 1, 3, 3, 16, 16), (1, 30, 40))}
    levels = [np.round(video[0, 0, :, 0, 0, 0], 3).tolist() for video, *_ in model.calls]
    b, c, d = levels[3]
    a = levels[0][2]
    assert a < b < c < d
    assert levels == [[a, a, a], [a, a, b], [a, b, c], [b, c, d]]


def test_clip_begins_anew_with_a_session() -> None:
    model = FakeModel(fake_spec(frames=2))
    analyzer = TickAnalyzer(model)
    analyzer.push(made_tick(0, value=50))
    analyzer.push(made_tick(0, session=1, value=200))
    video = model.calls[1][0]
    np.testing.assert_array_equal(video[:, :, 0], video[:, :, 1])


@pytest.mark.parametrize("stage", [TickAnalyzer(FakeModel()), Preparer(fake_spec())])
def test_push_after_flush_is_refused(stage: TickAnalyzer | Preparer) -> None:
    stage.flush()
    with pytest.raises(StageError, match=r"a stage takes nothing after flush\(\)"):
        stage.push(made_tick(0))
    stage.reset()
    assert len(stage.push(made_tick(0))) == 1


def test_reset_is_as_new() -> None:
    model = FakeModel()
    analyzer = TickAnalyzer(model)
    analyzer.push(made_tick(0))
    analyzer.reset()
    analyzer.push(made_tick(0))
    assert states(model) == [0, 0]


def test_real_model_answers_for_each_head(tiny_model: Path) -> None:
    model = load_model(tiny_model, device="cpu")
    analyzer = TickAnalyzer(model)
    for index, video in enumerate(("ok", "held", "missing")):
        (answer,) = analyzer.push(made_tick(index, video=video))
        assert list(answer.probabilities) == ["scene", "emotion", "sound"]
        assert answer.probabilities["scene"].shape == (3,)
        assert answer.probabilities["scene"].sum() == pytest.approx(1, abs=1e-5)


def test_stepper_state_can_be_taken_and_given_back(tiny_model: Path) -> None:
    """What a checkpoint does: the answers after it are the same bits."""
    model = load_model(tiny_model, device="cpu")
    preparer, whole = Preparer(model.spec), Stepper(model)
    inputs = [preparer.push(made_tick(index, value=index * 9))[0] for index in range(12)]
    expected = [whole.push(one)[0] for one in inputs]
    first, second = Stepper(model), Stepper(model)
    for one in inputs[:7]:
        first.push(one)
    second.state = first.state
    second.state.model = model.state_from_arrays(model.state_arrays(first.state.model))
    for one, answer in zip(inputs[7:], expected[7:], strict=True):
        (got,) = second.push(one)
        for name, row in answer.probabilities.items():
            np.testing.assert_array_equal(got.probabilities[name], row)
