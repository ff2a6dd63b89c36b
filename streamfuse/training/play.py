"""Play trials to a model file, tick by tick, as the analyzer would."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from streamfuse.model.runtime import Model
from streamfuse.training.trials import Trial

F32 = npt.NDArray[np.float32]


def play(
    model: Model, trials: Sequence[Trial], batch: int = 16, progress: Callable[[int], None] | None = None
) -> list[list[F32]]:
    """The logits of every head to every trial: [trial][head] (ticks, classes).

    Trials of like length are stepped side by side, each from a new state.
    """
    answers: list[list[F32]] = [[] for _ in trials]
    order = sorted(range(len(trials)), key=lambda n: (trials[n].ticks, n))
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        for n, answer in zip(some, _side_by_side(model, [trials[n] for n in some]), strict=True):
            answers[n] = answer
        if progress is not None:
            progress(len(some))
    return answers


def _side_by_side(model: Model, trials: Sequence[Trial]) -> list[list[F32]]:
    spec = model.spec
    frames, count = spec.frames_per_tick, len(trials)
    video = np.zeros(spec.video_shape(count), np.float32)
    present = np.zeros((count, len(spec.views) + 1), np.bool_)
    for row, one in enumerate(trials):
        for view, name in enumerate(spec.views):
            shown = one.face if name == "face" else one.picture
            present[row, view] = shown is not None
            if shown is not None:
                video[row, view] = shown[None]
        present[row, -1] = one.sound is not None
    state = model.init_state(count)
    heads: list[list[F32]] = [[] for _ in spec.heads]
    for tick in range(max(one.ticks for one in trials)):
        sound = np.zeros((count, frames, spec.audio.n_mfcc), np.float32)
        for row, one in enumerate(trials):
            if one.sound is not None and tick < one.ticks:
                sound[row] = one.sound[tick * frames : (tick + 1) * frames]
        logits, state = model.step(video, sound, present, state)
        for kept, new in zip(heads, logits, strict=True):
            kept.append(new)
    stacked = [np.stack(kept, 1) for kept in heads]
    return [[one[row, : trials[row].ticks] for one in stacked] for row in range(count)]
