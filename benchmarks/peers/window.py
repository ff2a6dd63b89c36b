"""What every peer has in common: the window of the last ticks, and how an answer is told."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from network import CONTEXT, FRAMES, HOP, HOP_S, RATE, WINDOW, Stepped
from torch import Tensor

MfccOf = Callable[[np.ndarray], Tensor]
"""(CONTEXT + HOP,) float32 -> (FRAMES, 40): the frames of one hop, from the samples they reach back to."""


class Media:
    """Filled by the readers, emptied by the one loop that asks the network: newest pictures, all sound.

    Times are seconds since the first picture, by the stream's own time stamps.
    """

    def __init__(self) -> None:
        self.ready = threading.Condition()
        self.pictures: deque[tuple[float, np.ndarray]] = deque(maxlen=64)
        self.sound = np.zeros(0, np.float32)
        self.sound_end_s: float | None = None
        self.picture_end_s = 0.0
        self.over = False

    def add_picture(self, at_s: float, dur_s: float, luma: np.ndarray) -> None:
        with self.ready:
            self.pictures.append((at_s, luma))
            self.picture_end_s = at_s + dur_s
            self.ready.notify()

    def add_sound(self, end_s: float, samples: np.ndarray) -> None:
        with self.ready:
            self.sound = np.concatenate([self.sound, samples])[-RATE:]
            self.sound_end_s = end_s
            self.ready.notify()

    def end(self) -> None:
        with self.ready:
            self.over = True
            self.ready.notify()

    def has(self, end_s: float) -> bool:
        """Picture and sound are there up to this time."""
        sound = self.sound_end_s is not None and self.sound_end_s >= end_s - 1e-4
        return sound and self.picture_end_s >= end_s - 1e-3

    def wait_for(self, end_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The newest picture before end_s and the sound of the hop that ends there, with its context."""

        with self.ready:
            self.ready.wait_for(lambda: self.over or self.has(end_s))
            if self.over:
                return None
            before = [luma for at_s, luma in self.pictures if at_s < end_s - 1e-4]
            past = round(((self.sound_end_s or end_s) - end_s) * RATE)
            stop = len(self.sound) - max(0, past)
            samples = self.sound[max(0, stop - HOP - CONTEXT) : stop]
        missing = HOP + CONTEXT - len(samples)
        return before[-1], np.pad(samples, (missing, 0)) if missing > 0 else samples


def answer_all(media: Media, mfcc_of: MfccOf, network: Any) -> None:
    """One answer for every 100 ms, as soon as they are complete, until the media end.

    Where the network is too slow for that, only the newest is answered: old answers are of no use to anyone.
    """
    pictures: deque[Tensor] = deque(maxlen=WINDOW)
    frames: deque[Tensor] = deque(maxlen=WINDOW)
    tick = 0
    with torch.inference_mode():
        while (came := media.wait_for((tick + 1) * HOP_S)) is not None:
            picture, sound = came
            pictures.append(torch.from_numpy(np.ascontiguousarray(picture)).float().div_(255))
            frames.append(mfcc_of(sound))
            tick += 1
            if media.has((tick + 1) * HOP_S):
                continue
            if isinstance(network, Stepped):
                heads = network(pictures[-1], frames[-1])
            elif len(pictures) < WINDOW:
                continue
            else:
                heads = network(torch.stack(list(pictures)), torch.cat(list(frames)))
            tell(tick * HOP_S, heads)


def tell(end_s: float, heads: list[Tensor]) -> None:
    """An answer: how far its media reach (since the first picture), and when it was there."""
    said = [int(logits.argmax()) for logits in heads]
    print(json.dumps({"end_s": round(end_s, 6), "t_ns": time.monotonic_ns(), "said": said}), flush=True)


def torchaudio_mfcc() -> MfccOf:
    """torchaudio's transform over a hop and its context: the same definition as ours, ten frames."""
    import torchaudio

    transform = torchaudio.transforms.MFCC(
        sample_rate=RATE,
        n_mfcc=40,
        log_mels=True,
        melkwargs={
            "n_fft": 512,
            "win_length": 400,
            "hop_length": 160,
            "n_mels": 64,
            "f_min": 20.0,
            "f_max": 7600.0,
            "center": False,
        },
    )

    def mfcc_of(samples: np.ndarray) -> Tensor:
        coefficients: Tensor = transform(torch.from_numpy(np.ascontiguousarray(samples)))
        return coefficients.T[-FRAMES:]

    mfcc_of(np.zeros(CONTEXT + HOP, np.float32))
    return mfcc_of


def is_over(error: BaseException) -> None:
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
