"""Slots: streams stepped together have the states and answers they have alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streamfuse.errors import ModelError, StageError
from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.export import export_model
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.slots import (
    SlotStates,
    SlotStepper,
    are_numbers,
    clips_of,
    refused_capture,
    with_clips,
)
from streamfuse.model.spec import HeadSpec, ModelSpec, VideoSpec
from tests.model.networks import random_network, small_spec

CLOSE = 1e-5
"""Batch size changes the order of float32 sums: 2e-6 was seen."""
STREAMS, TICKS = 5, 12
Seen = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("slots") / "model.ts"
    spec = small_spec()
    network = random_network(spec)
    network.shortcuts = False  # as on CUDA: every branch runs for every row
    export_model(network, spec, path)
    return load_model(path, device="cpu")


def inputs(model: Model, seed: int) -> Seen:
    """One stream's tick: (1, V, T, C, H, W), (1, Ta, n_mfcc), (1, V + 1); now and then nothing to see."""
    random = np.random.default_rng(seed)
    video = random.standard_normal(model.spec.video_shape(1)).astype(np.float32)
    audio = random.standard_normal(model.spec.audio_shape(1)).astype(np.float32)
    present = np.ones((1, len(model.spec.views) + 1), bool)
    present[0, 0] = random.random() > 0.2
    return video, audio, present


def step(
    stepper: SlotStepper, rows: list[tuple[int, Seen]], begins: bool = False, size: int | None = None
) -> list[np.ndarray]:
    """Fill a bucket with these slots' ticks and step it."""
    bucket = stepper.bucket(size or len(rows))
    bucket.numbers[:] = torch.tensor(stepper.padding(), dtype=torch.int32)
    for row, (slot, (video, audio, present)) in enumerate(rows):
        bucket.numbers[row] = torch.tensor([slot, begins, *present[0].tolist()], dtype=torch.int32)
        bucket.pictures[row] = torch.from_numpy(video[0, :, 0])
        bucket.sounds[row] = torch.from_numpy(audio[0])
    return stepper.step(bucket)


def test_streams_together_answer_as_each_alone(model: Model) -> None:
    """Any company, any order of rows, ticks that a stream has not: the answers of batch 1."""
    random = np.random.default_rng(0)
    stepper = SlotStepper(model, STREAMS, (2, STREAMS))
    slots = [stepper.states.open() for _ in range(STREAMS)]
    alone = [model.init_state(1) for _ in range(STREAMS)]
    for tick in range(TICKS):
        here = random.permutation(STREAMS)[: random.integers(1, STREAMS + 1)]
        seen = [(slots[s], inputs(model, 100 * tick + s)) for s in here]
        logits = step(stepper, seen)
        for row, stream in enumerate(here):
            expected, alone[stream] = model.step(*seen[row][1], alone[stream])
            for got, one in zip(logits, expected, strict=True):
                np.testing.assert_allclose(got[row], one[0], atol=CLOSE, rtol=0)


def test_in_one_bucket_company_changes_no_bit(model: Model) -> None:
    """What "recorded steps one fixed padded batch" stands on."""
    answers = []
    for company in (0, 3):
        stepper = SlotStepper(model, 4, (4,))
        slots = [stepper.states.open() for _ in range(4)]
        for tick in range(TICKS):
            seen = [(slots[s], inputs(model, 100 * tick + s)) for s in range(company + 1)]
            logits = [one[0] for one in step(stepper, seen)]
        answers.append(logits)
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_first_step_of_a_slot_begins_it_anew(model: Model) -> None:
    """Whatever lies in the row: a slot that was another stream's, a session that ended, NaN."""
    stepper = SlotStepper(model, 1, (1,))
    slot = stepper.states.open()
    stepper.states.put(slot, [torch.full_like(one, torch.nan) for one in model.init_state(1)])
    expected, _ = model.step(*inputs(model, 1), model.init_state(1))
    for got, one in zip(step(stepper, [(slot, inputs(model, 1))], begins=True), expected, strict=True):
        np.testing.assert_allclose(got, one, atol=CLOSE, rtol=0)


def test_state_taken_out_and_put_back_goes_on(model: Model) -> None:
    """A checkpoint holds what Model.step() takes at batch 1."""
    stepper = SlotStepper(model, 2, (2,))
    first, second = stepper.states.open(), stepper.states.open()
    for tick in range(3):
        step(stepper, [(first, inputs(model, tick))])
    stepper.states.put(second, stepper.states.take(first))
    for logits in step(stepper, [(first, inputs(model, 9)), (second, inputs(model, 9))]):
        np.testing.assert_allclose(logits[0], logits[1], atol=CLOSE, rtol=0)


@pytest.mark.parametrize("ticks", [1, 2, 5])
def test_state_of_clips_as_a_checkpoint_holds_it(ticks: int) -> None:
    """T pictures and sounds, oldest first; where fewer came, the first one stands for those before it."""
    spec = ModelSpec(
        name="clips",
        heads=(HeadSpec("scene", ("a", "b")), HeadSpec("emotion", ("none", "c"))),
        video=VideoSpec(frames=3, picture=FrameSpec(size=4)),
    )
    random = np.random.default_rng(ticks)
    one = [
        (random.random((1, 3, 4, 4), np.float32), random.random((10, spec.audio.n_mfcc), np.float32))
        for _ in range(ticks)
    ]
    padded = [one[0]] * (3 - ticks) + one[-3:]
    rows = with_clips([], one[-3:], spec)
    assert rows[0].shape == spec.video_shape(1)
    model, clips = clips_of(rows, spec)
    assert model == [] and len(clips) == 3
    for (video, audio), (seen, heard) in zip(clips, padded, strict=True):
        np.testing.assert_array_equal(video, seen)
        np.testing.assert_array_equal(audio, heard)


def test_slot_whose_answer_was_no_number_begins_anew_by_itself(model: Model) -> None:
    stepper = SlotStepper(model, 2, (2,))
    slots = [stepper.states.open() for _ in range(2)]
    step(stepper, [(slot, inputs(model, 1)) for slot in slots])
    stepper.put(slots[0], [torch.full_like(one, torch.nan) for one in stepper.take(slots[0])])
    spoilt = step(stepper, [(slot, inputs(model, 2)) for slot in slots])
    assert np.isnan(spoilt[0][0]).all() and np.isfinite(spoilt[0][1]).all()
    expected, _ = model.step(*inputs(model, 3), model.init_state(1))
    again = step(stepper, [(slot, inputs(model, 3)) for slot in slots])
    np.testing.assert_allclose(again[0][0], expected[0][0], atol=CLOSE, rtol=0)
    assert np.abs(again[0][1] - expected[0][0]).max() > CLOSE, "the other one goes on"


@pytest.mark.parametrize(
    ("kind", "row", "fine"),
    [
        ("softmax", [1.0, -np.inf], True),
        ("softmax", [np.inf, 0.0], False),
        ("softmax", [-np.inf, -np.inf], False),
        ("softmax", [np.nan, 0.0], False),
        ("sigmoid", [np.inf, -np.inf], True),
        ("sigmoid", [0.0, np.nan], False),
    ],
)
def test_device_and_host_agree_on_what_is_an_answer(
    model: Model, kind: str, row: list[float], fine: bool
) -> None:
    spec = SimpleNamespace(heads=(HeadSpec("h", ("a", "b"), kind=kind),))
    told = SimpleNamespace(spec=spec)
    with np.errstate(invalid="ignore"):
        found = Model.probabilities(told, [np.array([row], np.float32)])  # type: ignore[arg-type]
    assert np.isfinite(found["h"]).all() == fine
    assert bool(are_numbers([torch.tensor([row])], spec)) == fine


def test_model_that_cannot_be_captured_is_refused_and_told_the_way_out() -> None:
    """As torch fails: the reason, then the capture's own end."""
    with (
        pytest.raises(
            ModelError,
            match=r"^a model's step must be recordable as a CUDA graph, got CUDA error: operation not "
            r"permitted when stream is capturing "
            r"\[own\.ts\]; --set model\.cuda_graphs=false steps it without$",
        ),
        refused_capture(Path("own.ts")),
    ):
        try:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nMore of it.")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def test_padding_touches_no_stream(model: Model) -> None:
    stepper = SlotStepper(model, 2, (2,))
    slot = stepper.states.open()
    before = stepper.states.take(slot)
    step(stepper, [], size=1)
    assert all(torch.equal(a, b) for a, b in zip(before, stepper.states.take(slot), strict=True))


def test_more_streams_than_slots_is_refused(model: Model) -> None:
    states = SlotStates(model, 1)
    states.open()
    with pytest.raises(
        StageError, match=r"^a device holds 1 streams, got one more \[slots\]; raise model.max_streams$"
    ):
        states.open()


def test_more_rows_than_the_largest_bucket_is_refused(model: Model) -> None:
    stepper = SlotStepper(model, 4, (1, 2))
    assert stepper.bucket(1).numbers.shape[0] == 1
    with pytest.raises(StageError, match=r"^a batch holds 2 streams, got 3 \[slots\]$"):
        stepper.bucket(3)
