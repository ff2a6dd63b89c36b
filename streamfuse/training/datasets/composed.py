"""Streams composed of stills and sounds: each shot has a picture and a sound of one label, then both change.

Data sets of pictures alone and of sounds alone say nothing about an offset between the two, nor about how
soon a change is found. Such streams do, as far as cuts between stills can: their times of change are known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamfuse.training.datasets.clips import Clip, Mark
from streamfuse.types import NS

SHOTS = 4
SHOT_NS = 3 * NS
DATASET = f"stills and sounds of one label, cut every {SHOT_NS // NS} s"


def composed_streams(clips: Sequence[Clip], count: int, seed: int = 0) -> list[Clip]:
    """`count` streams for each head with two labels or more that are both seen and heard in `clips`."""
    heads = dict.fromkeys(mark.head for clip in clips for mark in clip.marks)
    streams = []
    for head in heads:
        seen = _by_label([clip for clip in clips if clip.video and not clip.audio], head)
        heard = _by_label([clip for clip in clips if clip.audio and not clip.video], head)
        labels = sorted(seen.keys() & heard.keys())
        rng = np.random.default_rng(seed)
        for n in range(count if len(labels) > 1 else 0):
            order = _order(labels, rng)
            shots = [_shot(_one_of(seen[one], rng), _one_of(heard[one], rng)) for one in order]
            streams.append(_stream(f"composed {head} {n}", head, order, shots))
    return streams


def _by_label(clips: Sequence[Clip], head: str) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        for label in {mark.label for mark in clip.marks_of(head)}:
            found.setdefault(label, []).append(clip)
    return found


def _order(labels: Sequence[str], rng: np.random.Generator) -> list[str]:
    """SHOTS labels, none twice in a row."""
    order: list[str] = []
    while len(order) < SHOTS:
        others = [one for one in labels if order[-1:] != [one]]
        order.append(others[int(rng.integers(len(others)))])
    return order


def _one_of(clips: Sequence[Clip], rng: np.random.Generator) -> Clip:
    return clips[int(rng.integers(len(clips)))]


def _shot(seen: Clip, heard: Clip) -> Clip:
    name, start = f"{seen.name} {heard.name}", heard.start_ns
    return Clip(name, (), name, "", DATASET, seen.video, heard.audio, start, start + SHOT_NS)


def _stream(name: str, head: str, labels: Sequence[str], shots: Sequence[Clip]) -> Clip:
    marks = tuple(Mark(head, one, n * SHOT_NS, (n + 1) * SHOT_NS) for n, one in enumerate(labels))
    return Clip(name, marks, name, "", DATASET, end_ns=len(shots) * SHOT_NS, shots=tuple(shots))
