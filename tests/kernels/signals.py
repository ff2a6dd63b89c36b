"""Sounds and pictures that the kernel tests share, each made to expose one kind of mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamfuse.types import F32, Chroma, Matrix, Picture

RATE = 16_000


def noise(n: int = RATE, level: float = 0.1, seed: int = 1) -> F32:
    return (np.random.default_rng(seed).standard_normal(n) * level).astype(np.float32)


def tone(hertz: float, n: int = RATE, level: float = 1.0) -> F32:
    return (level * np.sin(2 * np.pi * hertz * np.arange(n) / RATE)).astype(np.float32)


def square_wave(hertz: float = 441, n: int = RATE) -> F32:
    """Full scale, flat at -1 and 1."""
    return np.where(np.arange(n) * hertz / RATE % 1 < 0.5, 1, -1).astype(np.float32)


def spoken(n: int = 2 * RATE) -> F32:
    """A buzz with moving formants and pauses: the structure of speech where no recording is at hand."""
    t = np.arange(n) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 2.3 * t)) / RATE
    buzz = sum(np.sin(k * pitch) / k * np.exp(-(((k * 120 - 700 - 400 * np.sin(9 * t)) / 900) ** 2))
               for k in range(1, 40))  # fmt: skip
    syllables = np.clip(np.sin(2 * np.pi * 1.7 * t), 0, None)
    return (0.3 * buzz * syllables + noise(n, 1e-4)).astype(np.float32)


def sounds() -> dict[str, F32]:
    return {
        "speech": spoken(),
        "noise": noise(),
        "quiet noise": noise(level=1e-4),
        "tone 440": tone(440),
        "tone 1000": tone(1000),
        "tone 6653": tone(6653),
        "silence": np.zeros(RATE, np.float32),
        "square": square_wave(),
        "onset": np.concatenate([np.zeros(8000, np.float32), square_wave(n=8000)]),
    }


def recording(path: Path, seconds: float = 20) -> F32:
    """The sound of a media file at 16 kHz mono."""
    import av

    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        parts = [
            out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)
        ]
    return np.ascontiguousarray(np.concatenate(parts)[: int(seconds * RATE)], np.float32)


def random_picture(
    width: int,
    height: int,
    chroma: Chroma = "420",
    matrix: Matrix = "bt601",
    full_range: bool = False,
    pixel_aspect: tuple[int, int] = (1, 1),
    seed: int = 3,
    padding: int = 0,
) -> Picture:
    """Noise in every plane: each sample matters. `padding` bytes follow each row, as decoders leave them."""
    random = np.random.default_rng(seed)
    across, down = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "nv12": (2, 2)}[chroma]

    def plane(*shape: int) -> np.ndarray:
        row = int(np.prod(shape[1:]))
        whole = random.integers(0, 256, (shape[0], row + padding), np.uint8)
        view = whole[:, :row]
        if len(shape) == 2:
            return view
        strides = (whole.strides[0], shape[2], 1)
        return np.lib.stride_tricks.as_strided(view, shape, strides)

    small = (-(-height // down), -(-width // across))
    planes = (
        (plane(height, width), plane(*small, 2))
        if chroma == "nv12"
        else (plane(height, width), plane(*small), plane(*small))
    )
    return Picture(planes, chroma, matrix, full_range, pixel_aspect)


def frames(path: Path, every: int = 12, most: int = 6) -> list:
    """Some decoded PyAV frames of a media file."""
    import av

    taken = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % every == 0:
                taken.append(frame)
            if len(taken) == most:
                break
    return taken


def picture_of(frame, matrix: Matrix, full_range: bool) -> Picture:
    """A yuv420p frame's planes without a copy."""

    def plane(index: int, height: int, width: int) -> np.ndarray:
        source = frame.planes[index]
        return np.frombuffer(source, np.uint8).reshape(-1, source.line_size)[:height, :width]

    h, w = frame.height, frame.width
    return Picture(
        (plane(0, h, w), plane(1, -(-h // 2), -(-w // 2)), plane(2, -(-h // 2), -(-w // 2))),
        "420", matrix, full_range,
    )  # fmt: skip
