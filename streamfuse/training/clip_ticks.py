"""A clip's ticks, whatever it is made of: one file, two files, a still, or a generator's script.

The reader and the assembler that serve the analyzer make them, so that training and evaluation see what a
camera will show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.media.decode import open_decoder
from streamfuse.media.frames import picture_from_rgb
from streamfuse.media.source import file_source
from streamfuse.model.spec import ModelSpec
from streamfuse.pipeline.interpret import new_assembler
from streamfuse.training.datasets.classes import PICTURES
from streamfuse.training.datasets.clips import Clip, Mark
from streamfuse.training.datasets.files import read_picture
from streamfuse.training.datasets.synthetic import picture_of, samples_of, script_of_clip
from streamfuse.types import F32, NS, Tick, TickHead

STILL_TICKS = 10
"""How long a picture without sound is shown."""
FOREVER = NS << 32


def ticks_of(clip: Clip, spec: ModelSpec) -> Iterator[Tick]:
    """Every tick of the clip, in order.

    raises  SourceError when a file of it can not be decoded
    """
    if clip.seed is not None:
        return _made(clip, spec)
    if clip.shots:
        return _shots(clip, spec)
    if clip.video is not None and clip.video == clip.audio and not _is_still(clip.video):
        return _read(clip.video, clip, spec)
    heard = _read(clip.audio, clip, spec, video=False) if clip.audio is not None else iter(())
    if clip.video is None:
        return heard
    if _is_still(clip.video):
        return _still(clip.video, clip, spec, heard)
    return _together(_read(clip.video, clip, spec, audio=False), heard)


def _is_still(path: Path) -> bool:
    return path.suffix.lower() in PICTURES


def _read(
    path: Path, clip: Clip, spec: ModelSpec, *, video: bool = True, audio: bool = True
) -> Iterator[Tick]:
    """The ticks of a file within the clip's time."""
    span = (clip.start_ns, clip.end_ns) if clip.start_ns or clip.end_ns is not None else None
    decoder = open_decoder(
        file_source(path),
        decode=DecodeConfig(video=video, audio=audio),
        ticks=TickConfig(),
        mode="recorded",
        picture_side=spec.picture_side,
        span=span,
    )
    assembler = new_assembler(clip.name, TickConfig(), spec, "recorded")
    end_ns = FOREVER if clip.end_ns is None else clip.end_ns
    try:
        for item in decoder:
            yield from (tick for tick in assembler.push(item) if tick.head.start_ns < end_ns)
        yield from (tick for tick in assembler.flush() if tick.head.start_ns < end_ns)
    finally:
        decoder.close()


def _together(seen: Iterable[Tick], heard: Iterable[Tick]) -> Iterator[Tick]:
    """The picture of one and the sound of the other, tick by tick, as long as the longer."""
    for index, (one, other) in enumerate(zip_longest(seen, heard)):
        if one is None:
            head = replace(other.head, index=index, video="missing")
            yield Tick(head, None, other.samples)
        elif other is None:
            yield Tick(replace(one.head, index=index, audio="missing"), one.picture, one.samples)
        else:
            yield Tick(replace(one.head, index=index, audio=other.head.audio), one.picture, other.samples)


def _still(path: Path, clip: Clip, spec: ModelSpec, heard: Iterable[Tick]) -> Iterator[Tick]:
    picture = read_picture(path)
    shown = 0
    for tick in heard:
        shown += 1
        yield Tick(replace(tick.head, video="ok"), picture, tick.samples)
    silence = np.zeros(spec.audio.context_samples + spec.hop_samples, np.float32)
    for index in range(0 if shown else STILL_TICKS):
        yield Tick(TickHead(clip.name, 0, index, 0, spec.video.hop_ns, "ok", "missing"), picture, silence)


def _shots(clip: Clip, spec: ModelSpec) -> Iterator[Tick]:
    """One stream: the camera and the microphone cut from shot to shot at the same moment."""
    ticks = (tick for shot in clip.shots for tick in _whole(shot, spec))
    for index, tick in enumerate(ticks):
        yield replace(tick, head=replace(tick.head, source=clip.name, index=index))


def _whole(shot: Clip, spec: ModelSpec) -> Iterator[Tick]:
    """A shot's ticks; where its sound is over before it ends, silence."""
    assert shot.end_ns is not None  # what a stream of shots is made of
    count = (shot.end_ns - shot.start_ns) // spec.video.hop_ns
    shown = 0
    for shown, tick in enumerate(islice(ticks_of(shot, spec), count), 1):  # noqa: B007
        yield tick
    for _ in range(count - shown if shown else 0):
        yield replace(tick, samples=np.zeros_like(tick.samples))


def _made(clip: Clip, spec: ModelSpec) -> Iterator[Tick]:
    script = script_of_clip(clip)
    hop, hop_ns = spec.hop_samples, spec.video.hop_ns
    heard: F32 = np.pad(samples_of(script), (spec.audio.context_samples, 0))
    for index in range(script.length_ns // hop_ns):
        # The newest picture of the tick is the one at its end.
        picture = picture_from_rgb(picture_of(script, (index + 1) * hop_ns - 1))
        samples = heard[index * hop : (index + 1) * hop + spec.audio.context_samples]
        yield Tick(TickHead(clip.name, 0, index, 0, hop_ns, "ok", "ok"), picture, samples)


def targets_of(
    marks: Sequence[Mark], labels: Sequence[str], ticks: int, hop_ns: int, start_ns: int, several: bool
) -> npt.NDArray[np.float32]:
    """What is right at each tick: (ticks, labels), by the middle of the tick; NaN where nothing is known.

    several  a sigmoid head: 1 for each label that holds; else shares that add up to 1
    """
    found = np.full((ticks, len(labels)), np.nan, np.float32)
    middle = start_ns + hop_ns * np.arange(ticks) + hop_ns // 2
    for mark in marks:
        if mark.label not in labels:
            continue
        here = (middle >= mark.start_ns) & (middle < (FOREVER if mark.end_ns is None else mark.end_ns))
        rows = found[here]
        rows[np.isnan(rows[:, 0])] = 0.0
        rows[:, labels.index(mark.label)] += mark.weight
        found[here] = rows
    if several:
        return np.minimum(found, np.float32(1.0))
    total = found.sum(1, keepdims=True)
    return np.asarray(found / np.where(total > 0, total, 1.0), np.float32)
