"""F30: SIGTERM at any call that writes a recording's results: the next run goes on to the same bytes."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from streamfuse.cli.main import main
from tests.checkpoint.made import EASY
from tests.clips import Clip
from tests.faults.disk import broken_disk

POINTS = 20
STOPPED = 143
OPERATIONS = ("write", "fsync", "rename")


@pytest.fixture
def unheard() -> Iterator[list[int]]:
    """Signals that came when no command listened: they would end pytest."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGTERM, before)


def test_f30_stopped_at_any_call_it_goes_on_to_the_same_bytes(
    tiny_model: Path, tmp_path: Path, unheard: list[int]
) -> None:
    """A job is stopped again and again until it is done, then the next one is."""
    clip = Clip(seconds=1.5, fps=10, width=64, height=48, audio_seconds=1.4).write(tmp_path / "clip.mkv")
    settings = {"outputs.checkpoint_s": 0.05} | {f"labels.{key}": value for key, value in EASY.items()}
    options = ["--model", str(tiny_model), "--device", "cpu", "--inline"]
    options += [f"--set={key}={value}" for key, value in settings.items()]

    def process(out: Path, *faults: str) -> tuple[int, dict[str, int]]:
        with broken_disk(*faults, path="clip.") as disk:
            code = main(["process", str(clip), "-o", str(out), *options])
        return code, dict(disk.calls)

    code, calls = process(tmp_path / "golden")
    assert code == 0
    golden = results(tmp_path / "golden")
    assert len(golden) == 3 and all(golden.values())
    dice, stopped, job = random.Random(30), 0, 0
    while stopped < POINTS:
        job += 1
        out = tmp_path / f"job-{job}"
        for _ in range(POINTS):
            operation = dice.choice(OPERATIONS)
            code, _ = process(out, f"{operation}:TERM:{dice.randint(1, calls[operation])}")
            if code == 0:
                break
            assert code == STOPPED
            stopped += 1
        code, _ = process(out)
        assert code == 0
        assert results(out) == golden
    assert job > 1, "some were stopped, and ended"
    assert unheard == []


def results(out: Path) -> dict[str, bytes]:
    names: Sequence[str] = ("clip.labels.jsonl", "clip.events.jsonl", "clip.vtt")
    return {name: (out / name).read_bytes() for name in names}
