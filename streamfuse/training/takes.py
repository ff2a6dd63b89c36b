"""Clips as an evaluation plays them: through the reader, the kernels and the model file, tick by tick.

One take can be played under several conditions side by side: without sound, darker, with noise, with the
sound too late. Each is a stream of its own, from a new state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamfuse.analysis import Preparer
from streamfuse.kernels.mfcc import mfcc
from streamfuse.model.runtime import Model
from streamfuse.model.spec import ModelSpec
from streamfuse.training.clip_ticks import targets_of, ticks_of
from streamfuse.training.datasets.clips import Clip
from streamfuse.types import F32, SAMPLE_RATE, Tick

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Take:
    """One clip as the model is shown it.

    video    (T, V, C, S, S); audio (T, n, n_mfcc); present (T, V + 1)
    samples  (context + T * hop,): what `audio` was made of
    truth    by head of the model: (T, classes), NaN where not known
    """

    clip: Clip
    video: F32
    audio: F32
    present: Bools
    samples: F32
    truth: dict[str, F32]
    spec: ModelSpec

    @property
    def ticks(self) -> int:
        return len(self.present)


def take_of(clip: Clip, spec: ModelSpec) -> Take | None:
    """Decode and prepare a clip; None where it is shorter than a tick.

    raises  SourceError when it can not be decoded
    """
    preparer = Preparer(spec)
    # In order, as a stream: a preparer may follow what it has seen.
    made = [(tick, one) for tick in ticks_of(clip, spec) for one in preparer.push(tick)]
    if not made:
        return None
    truth = {
        head.name: targets_of(
            clip.marks_of(head.name), head.labels, len(made), spec.video.hop_ns, clip.start_ns,
            head.kind == "sigmoid",
        )
        for head in spec.heads
    }  # fmt: skip
    return Take(
        clip,
        np.stack([one.video for _, one in made]),
        np.stack([one.audio for _, one in made]),
        np.stack([one.present for _, one in made]),
        _samples([tick for tick, _ in made], spec),
        truth,
        spec,
    )


def _samples(ticks: Sequence[Tick], spec: ModelSpec) -> F32:
    first = ticks[0].samples[: spec.audio.context_samples]
    return np.concatenate([first, *(tick.samples[-spec.hop_samples :] for tick in ticks)])


Change = Callable[[Take, np.random.Generator], Take]


def without(view: str) -> Change:
    """A modality is missing: "video" (every view of it) or "audio"."""

    def change(take: Take, _: np.random.Generator) -> Take:
        present = take.present.copy()
        gone = slice(-1, None) if view == "audio" else slice(0, -1)
        present[:, gone] = False
        return replace(take, present=present)

    return change


def half_the_pictures(take: Take, rng: np.random.Generator) -> Take:
    """Every other picture is lost at random, and the one before it held."""
    kept = np.maximum.accumulate(np.where(rng.random(take.ticks) < 0.5, np.arange(take.ticks), 0))
    return replace(take, video=take.video[kept])


def of_pictures(bend: Callable[[F32, np.random.Generator], F32]) -> Change:
    """`bend` is given the pictures in [0, 1]."""

    def change(take: Take, rng: np.random.Generator) -> Take:
        spec = take.spec.video.picture
        shape = (1, 1, spec.channels, 1, 1)
        mean = np.array(spec.mean[: spec.channels], np.float32).reshape(shape)
        std = np.array(spec.std[: spec.channels], np.float32).reshape(shape)
        bent = np.clip(bend(take.video * std + mean, rng), 0.0, 1.0)
        return replace(take, video=((bent - mean) / std).astype(np.float32))

    return change


LUMA = np.array([0.299, 0.587, 0.114], np.float32)
WARM = np.array([1.3, 1.0, 0.7], np.float32)
"""A lamp's light on a grey picture."""


def coloured(gains: F32) -> Callable[[F32, np.random.Generator], F32]:
    """Each channel of the grey picture times its gain, and as the model sees that: in colour, or as luma."""

    def bend(seen: F32, _: np.random.Generator) -> F32:
        rgb = seen.shape[-3] == len(LUMA)
        grey = np.tensordot(LUMA, np.moveaxis(seen, -3, 0), 1) if rgb else np.take(seen, 0, -3)
        channels = np.clip(np.expand_dims(grey, -3) * gains[:, None, None], 0.0, 1.0)
        if rgb:
            return channels.astype(np.float32)
        return np.expand_dims(np.tensordot(LUMA, np.moveaxis(channels, -3, 0), 1), -3).astype(np.float32)

    return bend


def with_noise(snr_db: float) -> Change:
    """White noise so far below the sound's own power."""

    def change(take: Take, rng: np.random.Generator) -> Take:
        power = float((take.samples.astype(np.float64) ** 2).mean())
        level = np.sqrt(power * 10 ** (-snr_db / 10))
        heard = take.samples + (level * rng.normal(size=len(take.samples))).astype(np.float32)
        return _with_sound(take, heard)

    return change


def sound_late(ms: int) -> Change:
    """The sound is so much behind the picture (negative: before it)."""

    def change(take: Take, _: np.random.Generator) -> Take:
        by = ms * SAMPLE_RATE // 1000
        heard = np.zeros_like(take.samples)
        if by >= 0:
            heard[by:] = take.samples[: len(heard) - by]
        else:
            heard[:by] = take.samples[-by:]
        return _with_sound(take, heard)

    return change


def _with_sound(take: Take, samples: F32) -> Take:
    spec = take.spec.audio
    # Whole hops before the first tick: a frame must end where the analyzer's does.
    more = -len(samples) % spec.hop_length
    frames = mfcc(np.pad(samples, (more, 0)).astype(np.float32), spec)[-take.audio.size // spec.n_mfcc :]
    return replace(take, audio=frames.reshape(take.audio.shape))


CONDITIONS: dict[str, Change] = {
    "as recorded": lambda take, _: take,
    "no sound": without("audio"),
    "no picture": without("video"),
    "half the pictures": half_the_pictures,
    "dark": of_pictures(lambda x, _: x * np.float32(0.3)),
    "noisy picture": of_pictures(lambda x, rng: x + rng.normal(0, 0.07, x.shape).astype(np.float32)),
    "grey": of_pictures(coloured(np.ones_like(WARM))),
    "tinted": of_pictures(coloured(WARM)),
    "sound 200 ms early": sound_late(-200),
    "sound 80 ms early": sound_late(-80),
    "sound 80 ms late": sound_late(80),
    "sound 200 ms late": sound_late(200),
    "noise, SNR 20 dB": with_noise(20),
    "noise, SNR 10 dB": with_noise(10),
    "noise, SNR 0 dB": with_noise(0),
}


def applies(name: str, take: Take) -> bool:
    """Does a condition change this take, and leave something of it?"""
    seen, heard = bool(take.present[:, :-1].any()), bool(take.present[:, -1].any())
    if name == "no picture" or name.startswith("sound "):
        return seen and heard
    if name == "no sound":
        return seen and heard
    if name.startswith("noise,"):
        return heard
    return name == "as recorded" or seen


def played(model: Model, takes: Sequence[Take]) -> list[list[F32]]:
    """The logits of every head to takes of one length: [take][head] (T, classes)."""
    spec, count = model.spec, len(takes)
    state = model.init_state(count)
    video = np.stack([one.video for one in takes])
    audio = np.stack([one.audio for one in takes])
    said: list[list[F32]] = [[] for _ in spec.heads]
    for tick in range(takes[0].ticks):
        # With T > 1 the last T ticks; before there are so many, the first one stands for those before it.
        window = np.clip(np.arange(tick - spec.video.frames + 1, tick + 1), 0, None)
        present = np.stack([one.present[tick] for one in takes])
        seen = np.ascontiguousarray(video[:, window].swapaxes(1, 2))
        heard = audio[:, window].reshape(count, -1, spec.audio.n_mfcc)
        logits, state = model.step(seen, heard, present, state)
        for kept, new in zip(said, logits, strict=True):
            kept.append(new)
    heads = [np.stack(kept, 1) for kept in said]
    return [[head[row] for head in heads] for row in range(count)]
