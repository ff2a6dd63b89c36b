"""One short clip, and a command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamfuse.cli.main import main
from tests.clips import Clip


@dataclass(frozen=True)
class Ran:
    """What a command line did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines of standard error that tell of an error."""
        return [line for line in self.err.splitlines() if line.startswith("streamfuse: ")]


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s, H.264 320x240 at 30 fps and AAC, whose frames end with 2 s too (it pads to whole ones)."""
    return Clip(seconds=2.0, audio_seconds=1.9).write(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `streamfuse` with these arguments."""

    def run_main(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run_main


@pytest.fixture
def process(run: Run, tiny_model: Path, tmp_path: Path) -> Run:
    """Run `streamfuse process --inline` with these arguments into tmp_path / "out" on the small model."""

    def run_process(*arguments: object) -> Ran:
        common = ("-o", tmp_path / "out", "--model", tiny_model, "--device", "cpu", "--inline")
        return run("process", *arguments, *common)

    return run_process


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
