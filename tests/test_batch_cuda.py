"""Streams stepped together on a real GPU: against each alone on the CPU, with and without CUDA graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamfuse.analysis import TickAnalyzer
from streamfuse.batch import BatchAnalyzer
from streamfuse.model.runtime import load_model
from streamfuse.types import Answer, Mode
from tests.test_batch import schedule

pytestmark = pytest.mark.needs_cuda

CLOSE = 5e-3
"""Of probabilities: the kernels agree to 1e-3 in coefficients and 1/255 in pictures, and TF32 is off."""


def answers(path: Path, mode: Mode, streams: int = 6) -> list[Answer]:
    together = BatchAnalyzer(
        load_model(path, device="cuda"), streams=8, max_batch=4, max_wait_ms=5, mode=mode
    )
    for k in range(streams):
        together.open(f"s{k}")
    found = []
    for ticks in schedule(7, streams, 20):
        for each in ticks:
            together.add(each, now_ns=0)
        while together.due_ns() is not None:
            found += together.step()
    return found


@pytest.mark.parametrize("mode", ["live", "recorded"])
def test_streams_together_answer_as_each_alone_on_the_cpu(tiny_model: Path, mode: Mode) -> None:
    model = load_model(tiny_model, device="cpu")
    alone = {f"s{k}": TickAnalyzer(model) for k in range(6)}
    expected = {}
    for ticks in schedule(7, 6, 20):
        for each in ticks:
            (answer,) = alone[each.head.source].push(each)
            expected[each.head.source, each.head.session, each.head.index] = answer
    got = answers(tiny_model, mode)
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
