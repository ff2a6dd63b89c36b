"""Recordings of every container and codec that resume is promised for, and runs that are cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamfuse.batch import BatchAnalyzer
from streamfuse.checkpoint.outputs import RecordedOutputs
from streamfuse.cli.inline import Run, process_recording
from streamfuse.cli.inputs import find_jobs
from streamfuse.cli.progress import RunProgress
from streamfuse.cli.recording import Report
from streamfuse.cli.stop import Stop
from streamfuse.config import AppConfig
from streamfuse.model.runtime import Model
from streamfuse.types import Event, Label
from tests.clips import Clip, tone

RESULTS = ("labels.jsonl", "events.jsonl", "vtt", "csv", "html")
EASY = {"enter": 0.34, "leave": 0.1, "min_dwell_s": 0.2, "smoothing_s": 0.3}
"""Even an untrained network is sure enough for events."""

KINDS: dict[str, dict[str, Any]] = {
    "aac.mp4": {"audio": "aac", "b_frames": 2},
    "ac3.mkv": {"audio": "ac3"},
    "mp2.ts": {"audio": "mp2", "sample_format": "s16"},
    "mp2.mpg": {"video": "mpeg2video", "audio": "mp2", "sample_format": "s16", "rate": 44_100},
    "mp3.avi": {"video": "mpeg4", "audio": "libmp3lame"},
    "opus.webm": {"video": "libvpx", "audio": "libopus", "sample_format": "s16"},
    "vorbis.mkv": {"audio": "vorbis", "audio_options": {"strict": "-2"}},
    "aac.ts": {"audio": "aac", "start_ticks": 126_000, "gop": 50},
    "sound.m4a": {"video": None, "audio": "aac"},
    "pictures.mkv": {"audio": None, "gop": 40},
}


def recording(folder: Path, kind: str, seconds: float = 8.0) -> Path:
    """A recording whose sound and pictures are different in every tick."""
    more: dict[str, Any] = {"width": 160, "height": 120, "gop": 20, "fps": 25, "rate": 48_000} | KINDS[kind]
    stem, suffix = kind.split(".")
    path = folder / f"{stem}-{suffix}.{suffix}"
    if not path.exists():
        Clip(seconds=seconds, samples=_sound(seconds, more["rate"]), **more).write(path)
    return path


@cache
def _sound(seconds: float, rate: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.1, round(seconds * rate)).astype(np.float32)
    return np.clip(tone(seconds, rate) * np.linspace(0, 1, noise.size, dtype=np.float32) + noise, -1, 1)


class Killed(BaseException):
    """The process is gone: nothing of ours catches it."""


@dataclass
class Runs:
    """Inline runs of recordings into one folder, the same command each time."""

    model: Model
    folder: Path
    outputs: dict[str, Any] = field(default_factory=lambda: {"csv": True, "html": True})
    checkpoint_s: float = 1e-6
    labels: dict[str, Any] = field(default_factory=lambda: dict(EASY))
    resume: bool = True
    span: tuple[int, int | None] | None = None
    together: Callable[[Model], BatchAnalyzer] | None = None
    """Makes what steps the recordings, as on CUDA; each run is a new process."""

    def run(
        self, clip: Path, on_item: Callable[[Label | Event], None] = lambda _: None, stop: Stop | None = None
    ) -> Report:
        """One run, to its end or to what on_item raises; it is called before each item is written."""
        config = AppConfig.model_validate(
            {"outputs": self.outputs | {"checkpoint_s": self.checkpoint_s}, "labels": self.labels}
        )
        run = Run(self.model, config, self.folder, stop or Stop(), self.span, self.resume)
        if self.together is not None:
            run = replace(run, together=self.together(self.model))
        (job,) = find_jobs([str(clip)], self.folder)
        report = Report(job)
        real = RecordedOutputs.write

        def write(outputs: RecordedOutputs, item: Label | Event) -> None:
            on_item(item)
            real(outputs, item)

        try:
            RecordedOutputs.write = write  # type: ignore[method-assign]
            with RunProgress() as progress:
                process_recording(run, report, progress)
        finally:
            RecordedOutputs.write = real  # type: ignore[method-assign]
        return report

    def run_killed_after(self, clip: Path, items: int) -> Report | None:
        """One run that dies before it writes one item more; None: it did."""
        seen = 0

        def count(_item: Label | Event) -> None:
            nonlocal seen
            seen += 1
            if seen > items:
                raise Killed

        try:
            return self.run(clip, count)
        except Killed:
            return None

    def results(self, clip: Path) -> dict[str, bytes]:
        return {
            name: path.read_bytes()
            for name in RESULTS
            if (path := self.folder / f"{clip.stem}.{name}").exists()
        }
