"""A model whose answers can be read off, and ticks and media made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.spec import HeadSpec, ModelSpec, VideoSpec
from streamfuse.types import MS, AudioChunk, Picture, Tick, TickHead, VideoFrame

HOP_NS = 100 * MS


def fake_spec(frames: int = 1, views: tuple[str, ...] = ("frame",), warm_ticks: int = 0) -> ModelSpec:
    return ModelSpec(
        name="fake",
        heads=(HeadSpec("scene", ("a", "b"), threshold=0.0), HeadSpec("emotion", ("none", "calm"))),
        views=views,
        video=VideoSpec(frames=frames, picture=FrameSpec(size=16)),
        warm_ticks=warm_ticks,
    )


class FakeModel:
    """Counts its steps in the state, and keeps what it was given.

    bad_at  the calls (from 0) whose answer is not a number
    """

    def __init__(self, spec: ModelSpec | None = None, bad_at: tuple[int, ...] = ()) -> None:
        self.spec, self.bad_at = spec or fake_spec(), bad_at
        self.path, self.sha256, self.device = Path("fake.ts"), "0" * 64, "cpu"
        self.calls: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []

    def init_state(self, batch: int = 1) -> list[int]:
        return [0]

    def step(self, video, audio, present, state):
        bad = len(self.calls) in self.bad_at
        self.calls.append((video.copy(), audio.copy(), present.copy(), state[0]))
        value = np.nan if bad else float(state[0] + 1)
        return [np.array([[value, 0.0]], np.float32), np.zeros((1, 2), np.float32)], [state[0] + 1]

    def probabilities(self, logits):
        scene = np.array([[1.0, 0.0]], np.float32) if np.isfinite(logits[0]).all() else logits[0]
        return {"scene": scene, "emotion": np.array([[0.3, 0.7]], np.float32)}


def grey_picture(value: int = 128, size: int = 32) -> Picture:
    half = (size + 1) // 2
    luma = np.full((size, size), value, np.uint8)
    return Picture((luma, np.full((half, half), 128, np.uint8), np.full((half, half), 128, np.uint8)))


def made_tick(
    index: int, *, session: int = 0, video: str = "ok", audio: str = "ok", dropped: int = 0, value: int = 128
) -> Tick:
    head = TickHead("made", session, index, 0, HOP_NS, video, audio, dropped=dropped)
    picture = None if video == "missing" else grey_picture(value)
    return Tick(head, picture, np.zeros(352 + 1600, np.float32))


def frames_and_sound(seconds: float, fps: int = 25) -> list[VideoFrame | AudioChunk]:
    """Grey pictures that get brighter and a soft noise, in the order of time."""
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    items: list[VideoFrame | AudioChunk] = []
    for index in range(round(seconds * fps)):
        picture = grey_picture(index * 7 % 256)
        items.append(VideoFrame(index * 1000 * MS // fps, 1000 * MS // fps, lambda p=picture: p))
    for start in range(0, len(noise), 1024):
        items.append(AudioChunk(start * 62_500, noise[start : start + 1024]))
    return sorted(items, key=lambda item: item.pts_ns)
