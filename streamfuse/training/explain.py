"""What drove a label: parts of the pictures, times and bands of the sound, by covering them up.

The seconds before the asked time are played again and again with one thing hidden: a modality, a region of
all pictures of one view (the frame, or the face in it), all pictures of one moment, or a band of the sound
at one moment. What the label loses by it is that thing's share in it. Nothing of the model is needed but its
answers, so that it works for any model file. Hidden is not black: a region becomes its own mean, sound
becomes its quietest.

Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks" (arXiv 1311.2901), 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from streamfuse.analysis import Preparer
from streamfuse.errors import SourceError, StageError
from streamfuse.kernels.mfcc import mfcc
from streamfuse.model.runtime import Model
from streamfuse.training.clip_ticks import ticks_of
from streamfuse.training.datasets.clips import Clip
from streamfuse.training.features import dct_matrix
from streamfuse.training.takes import Take, played
from streamfuse.types import F32, NS

F64 = npt.NDArray[np.float64]
BEFORE_S = 3.0
"""So much before the asked time is looked at."""
CELLS = 8
"""Regions along each side of the picture; each covering is two cells wide and high, so that they overlap."""
BANDS = 8
MOMENT_TICKS = 3
SIDE_BY_SIDE = 16
"""Coverings that are played at once."""


@dataclass(frozen=True)
class Explanation:
    """Why `label` of `head` was said at at_s, with probability `score`.

    share    by modality: what the label's log-odds lose without it, as parts of 1 where any of it helps
    regions  by view that was seen, (CELLS, CELLS): what they lose without that part of its pictures
    moments  (M,): without the pictures of that time; sounds (BANDS, M): without that band at that time
    times    (M + 1,) seconds: the edges of the moments
    pictures (M, H, W): what was seen then, in [0, 1]; spectrum (frames, bands): what was heard
    views    by view, (H, W): the last of its pictures
    """

    head: str
    label: str
    score: float
    at_s: float
    share: dict[str, float]
    regions: dict[str, F64]
    moments: F64
    sounds: F64
    times: F64
    pictures: F32
    views: dict[str, F32]
    spectrum: F32

    @property
    def loudest_view(self) -> str:
        return max(self.share, key=lambda name: self.share[name])


def explain(model: Model, clip: Clip, at_s: float, head: str | None = None) -> Explanation:
    """Explain the answer to the tick of the clip at at_s (seconds of the clip).

    head    unset: the first of the model's
    raises  StageError for a head that the model does not have; SourceError for a time beyond the clip
    """
    heads = [one.name for one in model.spec.heads]
    if head is not None and head not in heads:
        raise StageError("a head must be one of the model's", got=head, hint=", ".join(heads))
    at = 0 if head is None else heads.index(head)
    take, start = _window(model, clip, at_s)
    return Covering(model, take, at, start).explanation(at_s)


def _window(model: Model, clip: Clip, at_s: float) -> tuple[Take, int]:
    """The ticks from BEFORE_S before at_s up to it, and the index of the first."""
    spec = model.spec
    last = int(at_s * NS) // spec.video.hop_ns
    preparer = Preparer(spec)
    ticks = list(islice(ticks_of(clip, spec), last + 1))
    if len(ticks) <= last:
        length = len(ticks) * spec.video.hop_ns / NS
        raise SourceError(
            "the time must be within the clip", got=f"{at_s:g} s of {length:g} s", where=clip.name
        )
    start = max(0, last + 1 - round(BEFORE_S * NS / spec.video.hop_ns))
    made = [one for tick in ticks for one in preparer.push(tick)][start:]
    heard = [tick.samples[-spec.hop_samples :] for tick in ticks[start:]]
    samples = np.concatenate([ticks[start].samples[: spec.audio.context_samples], *heard])
    take = Take(
        clip, np.stack([one.video for one in made]), np.stack([one.audio for one in made]),
        np.stack([one.present for one in made]), samples, {}, spec,
    )  # fmt: skip
    return take, start


class Covering:
    """Plays a take with parts of it hidden, and tells what the label's log-odds lose."""

    def __init__(self, model: Model, take: Take, head: int, start: int) -> None:
        self.model, self.take, self.head, self.start = model, take, head, start
        self.label = int(self._answers([take])[0].argmax())
        self.whole = self._odds(self._answers([take]))[0]

    def _answers(self, takes: Sequence[Take]) -> F64:
        """Probabilities (N, classes) at the last tick."""
        name = self.model.spec.heads[self.head].name
        rows = []
        for first in range(0, len(takes), SIDE_BY_SIDE):
            said = played(self.model, takes[first : first + SIDE_BY_SIDE])
            last = [np.stack([one[h][-1] for one in said]) for h in range(len(self.model.spec.heads))]
            rows.append(self.model.probabilities(last)[name])
        return np.concatenate(rows).astype(np.float64)

    def _odds(self, answers: F64) -> F64:
        chosen = np.clip(answers[:, self.label], 1e-6, 1 - 1e-6)
        return np.asarray(np.log(chosen / (1 - chosen)))

    def _loss(self, takes: Sequence[Take]) -> F64:
        return np.asarray(self.whole - self._odds(self._answers(takes)))

    def explanation(self, at_s: float) -> Explanation:
        spec, take = self.model.spec, self.take
        head = spec.heads[self.head]
        edges = np.array([*range(0, take.ticks, MOMENT_TICKS), take.ticks])
        score = float(self._answers([take])[0, self.label])
        return Explanation(
            head.name, head.labels[self.label], score, at_s, self._share(),
            {name: self._regions(view) for view, name in self._seen()},
            self._moments(edges), self._sounds(edges), (self.start + edges) * spec.video.hop_ns / NS,
            self._luma(self.take.video[edges[1:] - 1, 0]),
            {name: self._last(view) for view, name in self._seen()}, self._spectrum(),
        )  # fmt: skip

    def _share(self) -> dict[str, float]:
        """Shapley values of the modalities: what each adds, on average over the orders of adding them."""
        names = [*self.model.spec.views, "audio"]
        there = [m for m in range(len(names)) if self.take.present[:, m].any()]
        coalitions = [[m for k, m in enumerate(there) if code >> k & 1] for code in range(1 << len(there))]
        takes = []
        for kept in coalitions:
            present = np.zeros_like(self.take.present)
            present[:, kept] = self.take.present[:, kept]
            takes.append(replace(self.take, present=present))
        worth = self._odds(self._answers(takes))
        values = np.zeros(len(names))
        for k, m in enumerate(there):
            for code in range(1 << len(there)):
                if not code >> k & 1:
                    values[m] += _weight(code.bit_count(), len(there)) * (worth[code | 1 << k] - worth[code])
        helped = np.maximum(values, 0.0)
        total = float(helped.sum())
        return {n: float(v / total) if total > 0 else 0.0 for n, v in zip(names, helped, strict=True)}

    def _seen(self) -> list[tuple[int, str]]:
        """Index and name of the views that were there at all."""
        return [(n, name) for n, name in enumerate(self.model.spec.views) if self.take.present[:, n].any()]

    def _regions(self, view: int) -> F64:
        """One view at a time: the same cells of another one show something else."""
        size = self.take.video.shape[-1]
        edges = np.linspace(0, size, CELLS + 1).astype(int)
        takes = []
        for row in range(CELLS - 1):
            for column in range(CELLS - 1):
                rows, columns = (slice(edges[n], edges[n + 2]) for n in (row, column))
                place = (slice(None), view, ..., rows, columns)
                video = self.take.video.copy()
                video[place] = video[place].mean((-1, -2), keepdims=True)
                takes.append(replace(self.take, video=video))
        lost = self._loss(takes).reshape(CELLS - 1, CELLS - 1)
        # A cell's is the mean of the up to four coverings that hid it.
        total, count = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
        for y in (0, 1):
            for x in (0, 1):
                total[y : y + CELLS - 1, x : x + CELLS - 1] += lost
                count[y : y + CELLS - 1, x : x + CELLS - 1] += 1
        return np.asarray(total / count)

    def _moments(self, edges: npt.NDArray[np.int64]) -> F64:
        takes = []
        for start, end in pairwise(edges):
            video = self.take.video.copy()
            video[start:end] = video[start:end].mean((-1, -2), keepdims=True)
            takes.append(replace(self.take, video=video))
        return self._loss(takes)

    def _sounds(self, edges: npt.NDArray[np.int64]) -> F64:
        """Bands are hidden in the log-mel spectrum that the MFCCs stand for."""
        spec = self.model.spec.audio
        matrix = dct_matrix(spec).numpy()
        bands = np.linspace(0, spec.n_mels, BANDS + 1).astype(int)
        smooth = self.take.audio @ matrix.T
        quiet = np.quantile(smooth.reshape(-1, spec.n_mels), 0.05, axis=0)
        takes = []
        for low, high in pairwise(bands):
            for start, end in pairwise(edges):
                hidden = smooth[start:end, :, low:high]
                change = np.minimum(quiet[low:high] - hidden, 0.0)
                audio = self.take.audio.copy()
                audio[start:end] += (change @ matrix[low:high]).astype(np.float32)
                takes.append(replace(self.take, audio=audio))
        return self._loss(takes).reshape(BANDS, -1)

    def _last(self, view: int) -> F32:
        at = int(np.flatnonzero(self.take.present[:, view])[-1])
        return np.asarray(self._luma(self.take.video[at : at + 1, view])[0])

    def _luma(self, shown: F32) -> F32:
        """(N, C, H, W) as the model sees it to (N, H, W) in [0, 1]."""
        spec = self.model.spec.video.picture
        luma = shown.mean(1) * np.float32(spec.std[0]) + np.float32(spec.mean[0])
        return np.asarray(np.clip(luma, 0.0, 1.0), np.float32)

    def _spectrum(self) -> F32:
        spec = self.model.spec.audio
        more = -len(self.take.samples) % spec.hop_length
        frames = mfcc(np.pad(self.take.samples, (more, 0)).astype(np.float32), spec)
        heard = frames[-self.take.ticks * self.model.spec.frames_per_tick :]
        return np.asarray(heard @ dct_matrix(spec).numpy().T, np.float32)


def _weight(before: int, players: int) -> float:
    """The share of orders in which just these `before` players come first, and then the one in question."""
    orders = 1.0
    for n in range(1, before + 1):
        orders *= n / (players - n)
    return orders / players
