"""Streams stepped together on a real GPU: against each alone on the CPU, with and without CUDA graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamfuse.analysis import TickAnalyzer
from streamfuse.batch import BatchAnalyzer, BatchStepper, recorded_batch, stages
from streamfuse.config import ModelConfig
from streamfuse.model.runtime import load_model
from streamfuse.types import Answer, Mode
from tests.test_batch import assert_same_bits, schedule, tick

pytestmark = pytest.mark.needs_cuda

CLOSE = 5e-3
"""Of probabilities: the kernels agree to 1e-3 in coefficients and 1/255 in pictures, and TF32 is off."""


def answers(path: Path, mode: Mode, streams: int = 6, *, graphs: bool = True) -> list[Answer]:
    model = load_model(path, device="cuda")
    together = BatchAnalyzer(model, streams=8, max_batch=4, max_wait_ms=5, mode=mode, graphs=graphs)
    for k in range(streams):
        together.open(f"s{k}")
    found = []
    for ticks in schedule(7, streams, 20):
        for each in ticks:
            together.add(each, now_ns=0)
        while together.due_ns() is not None:  # packed while the last one is computed
            together.begin()
            found += together.collect() if together.under_way > 1 else []
    return found + together.collect()


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("mode", ["live", "recorded"])
def test_streams_together_answer_as_each_alone_on_the_cpu(tiny_model: Path, mode: Mode, graphs: bool) -> None:
    model = load_model(tiny_model, device="cpu")
    alone = {f"s{k}": TickAnalyzer(model) for k in range(6)}
    expected = {}
    for ticks in schedule(7, 6, 20):
        for each in ticks:
            (answer,) = alone[each.head.source].push(each)
            expected[each.head.source, each.head.session, each.head.index] = answer
    got = answers(tiny_model, mode, graphs=graphs)
    assert len(got) == len(expected)
    for answer in got:
        head = answer.head
        for name, row in expected[head.source, head.session, head.index].probabilities.items():
            np.testing.assert_allclose(answer.probabilities[name], row, atol=CLOSE, rtol=0)


def test_recorded_answers_are_the_same_bits_each_time(tiny_model: Path) -> None:
    first, second = answers(tiny_model, "recorded"), answers(tiny_model, "recorded")
    for one, other in zip(first, second, strict=True):
        for name, row in one.probabilities.items():
            np.testing.assert_array_equal(row, other.probabilities[name])


def test_recording_has_the_same_bits_in_any_company_and_taken_up_by_a_new_process(tiny_model: Path) -> None:
    """By the API, where it is the only one; among three, in another slot after each tick."""
    model = load_model(tiny_model, device="cuda")
    made = [tick("a", index, seed=index, shows=index % 5 != 3) for index in range(12)]
    one = recorded_batch(model, ModelConfig())
    assert one is not None
    alone = TickAnalyzer(model, stages=stages(model, "a", together=one))
    expected = [answer for each in made for answer in alone.push(each)]
    got, state = [], None
    for each in made:
        three = recorded_batch(model, ModelConfig(), streams=3)
        assert three is not None
        for source in "bac":
            three.open(source)
        if state is not None:
            BatchStepper(three, "a").state = state
        for k, source in enumerate("bac"):
            beside = each if source == "a" else tick(source, each.head.index, seed=100 + k)
            three.add(beside, now_ns=k)
        got += [answer for answer in three.step() if answer.head.source == "a"]
        state = three.state("a")
    assert_same_bits(got, expected)
