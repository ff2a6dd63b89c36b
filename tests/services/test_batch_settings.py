"""The batch that a configuration asks for is the one that is made, on whatever is not the processor."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from streamfuse import batch
from streamfuse.config import RunConfig
from streamfuse.errors import StageError
from streamfuse.kernels.backend import CPU
from streamfuse.kernels.tick_batch import tick_batch
from streamfuse.model.runtime import load_model
from streamfuse.services.batches import Batches, stepped_together
from streamfuse.settings import load_config
from tests.hand_clock import HandClock
from tests.services.analyze_bench import tick


class ElsewhereDevice:
    """Not the processor by its kind; tensors lie where they can lie here."""

    kind = "elsewhere"

    def __str__(self) -> str:
        return "cpu"


def test_on_another_device_the_configured_batch_and_wait_hold(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """model.max_batch ticks are a full batch, and one that is not full waits for model.max_batch_wait_ms."""
    monkeypatch.setattr(batch, "tick_batch", lambda frame, sound, _: tick_batch(frame, sound, CPU))
    elsewhere = load_model(tiny_model, device="cpu")
    elsewhere.device = ElsewhereDevice()  # type: ignore[assignment]
    text = "model: {max_batch: 2, max_batch_wait_ms: 7.5, max_streams: 3}"
    (tmp_path / "run.yaml").write_text(text)
    wanted = load_config(tmp_path / "run.yaml").model
    together = stepped_together(elsewhere, RunConfig(mode="live", run_dir=str(tmp_path), model=wanted))
    assert together is not None
    clock = HandClock()
    batches = Batches(together, clock)  # type: ignore[arg-type]
    for source in ("a", "b", "c"):
        batches.begin(source, 2000)
    with pytest.raises(StageError, match="a device holds 3 streams"):
        batches.begin("d", 2000)
    assert batches.due_ns() is None
    batches.take(SimpleNamespace(), tick("a", 0))  # type: ignore[arg-type]
    assert batches.due_ns() == clock.now_ns + 7_500_000
    batches.take(SimpleNamespace(), tick("b", 0))  # type: ignore[arg-type]
    assert batches.due_ns() == 0, "two of three are a full batch"
