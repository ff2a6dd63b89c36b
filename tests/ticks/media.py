"""Generated tracks for the assembler's tests, and what their ticks must be, computed the plain way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from streamfuse.config import TickConfig
from streamfuse.ticks.assemble import Assembler
from streamfuse.types import (
    MS,
    SAMPLE_NS,
    AudioChunk,
    MediaItem,
    Mode,
    Picture,
    SessionStart,
    Tick,
    TrackEnd,
    VideoFrame,
)

HOP_NS = 100 * MS
HOP = 1600
CONTEXT = 352
BOTH = frozenset({"video", "audio"})


def assembler(mode: Mode = "recorded", *, resume: tuple[int, int] = (0, 0), **settings: int) -> Assembler:
    config = TickConfig(**settings)
    return Assembler("cam", config, mode=mode, hop_ns=HOP_NS, context_samples=CONTEXT, resume=resume)


def start(session: int = 0, zero_ns: int = 0, tracks: frozenset = BOTH, offset_ns: int = 0) -> SessionStart:
    return SessionStart(session, zero_ns, offset_ns, tracks)


def picture(number: int) -> Picture:
    """A picture that can be told from others by its number."""
    return Picture((np.array([[number >> 8, number & 255]], np.uint8),))


def number_of(tick: Tick) -> int | None:
    if tick.picture is None:
        return None
    high, low = tick.picture.planes[0][0]
    return int(high) << 8 | int(low)


@dataclass
class Camera:
    """Makes frames and counts how often each one is rendered."""

    renders: dict[int, int] = field(default_factory=dict)

    def frame(self, number: int, pts_ns: int, dur_ns: int = 40 * MS, arrival_ns: int = 0) -> VideoFrame:
        def render() -> Picture:
            self.renders[number] = self.renders.get(number, 0) + 1
            return picture(number)

        return VideoFrame(pts_ns, dur_ns, render, arrival_ns)


def ramp(first: int, count: int) -> np.ndarray:
    """Samples that say where they belong (exact in float32 below 2**24)."""
    return np.arange(first + 1, first + 1 + count, dtype=np.float32)


def chunk(first: int, count: int, zero_ns: int = 0, arrival_ns: int = 0) -> AudioChunk:
    """Samples [first, first + count) of a session, at their place."""
    return AudioChunk(zero_ns + first * SAMPLE_NS, ramp(first, count), arrival_ns)


def run(items: Iterable[MediaItem], made: Assembler | None = None) -> list[Tick]:
    made = made or assembler()
    ticks = [tick for item in items for tick in made.push(item)]
    return ticks + made.flush()


@dataclass(frozen=True)
class Session:
    """zero_ns; frames (pts, claimed duration) and runs of sound [first, end) in samples, both from zero."""

    zero_ns: int
    frames: tuple[tuple[int, int], ...]
    runs: tuple[tuple[int, int], ...]

    @property
    def end_ns(self) -> int:
        video = self.frames[-1][0] + self.frames[-1][1] if self.frames else 0
        return max(video, self.runs[-1][1] * SAMPLE_NS if self.runs else 0)


def _summed(steps: Sequence[int]) -> list[int]:
    return list(np.cumsum(steps, dtype=np.int64)) if steps else []


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Up to some 10 s: any frame rate, lying durations, gaps in the sound, tracks late, short or absent."""
    step = draw(st.sampled_from([1, 17, 33, 40, 100, 300])) * MS
    steps = st.integers(1, step) | st.just(step) | st.just(HOP_NS) | st.just(2500 * MS)
    late = st.just(0) | st.integers(0, 3_000_000_000) | st.just(HOP_NS)
    pts = [int(p) for p in _summed([draw(late), *draw(st.lists(steps, max_size=40))])]
    durations = st.integers(1, 2 * step) | st.just(step)
    frames = tuple((p, draw(durations)) for p in pts[:: draw(st.sampled_from([1, len(pts) + 1]))])
    # A gap is longer than the jitter that is smoothed over.
    holes = st.integers(161, 20_000)
    edges = draw(st.lists(st.tuples(holes, st.integers(1, 12_000)), max_size=6))
    runs, at = [], -draw(st.sampled_from([0, 161]))
    for hole, length in edges:
        first = max(0, at + hole)
        runs.append((first, first + length))
        at = first + length
    return Session(
        draw(st.integers(-(10**12), 10**15)), frames if draw(st.booleans()) else frames[:1], tuple(runs)
    )


def frames_of(session: Session, camera: Camera) -> list[MediaItem]:
    made = [camera.frame(i, session.zero_ns + p, d) for i, (p, d) in enumerate(session.frames)]
    return [*made, TrackEnd("video")]


def chunks_of(session: Session, cuts: Callable[[], int], offset_ns: int = 0) -> list[MediaItem]:
    """The runs of sound in chunks of `cuts()` samples."""
    made: list[MediaItem] = []
    for first, end in session.runs:
        while first < end:
            count = min(cuts(), end - first)
            made.append(chunk(first, count, session.zero_ns + offset_ns))
            first += count
    return [*made, TrackEnd("audio")]


def merged(a: Sequence[MediaItem], b: Sequence[MediaItem], rng: random.Random) -> list[MediaItem]:
    """Both, each in its own order, in bursts of random length."""
    a, b, out = list(a), list(b), []
    while a or b:
        source = a if a and (not b or rng.random() < 0.5) else b
        count = rng.choice([1, 1, 2, 5, 50])
        out += source[:count]
        del source[:count]
    return out


@dataclass(frozen=True)
class Expected:
    video: str
    audio: str
    number: int | None
    samples: np.ndarray
    skew_ns: int


def expected_ticks(session: Session, hold_max_ns: int = 1000 * MS) -> list[Expected]:
    """DESIGN section 2 taken word by word, over the whole session at once."""
    count = -(-session.end_ns // HOP_NS)
    sound = np.zeros(CONTEXT + (count + 1) * HOP, np.float32)
    there = np.zeros(len(sound), bool)
    for first, end in session.runs:
        sound[CONTEXT + first : CONTEXT + end] = ramp(first, end - first)
        there[CONTEXT + first : CONTEXT + end] = True
    out: list[Expected] = []
    for k in range(count):
        newest = [i for i, (pts, _) in enumerate(session.frames) if pts < (k + 1) * HOP_NS]
        number = newest[-1] if newest else None
        if number is not None and k * HOP_NS - session.frames[number][0] > hold_max_ns:
            number = None
        seen = number is not None and number == (out[-1].number if out else None)
        video = "missing" if number is None else "held" if seen else "ok"
        own = np.flatnonzero(there[CONTEXT + k * HOP : CONTEXT + (k + 1) * HOP])
        skew = 0
        if number is not None and len(own):
            video_end = min(sum(session.frames[number]), (k + 1) * HOP_NS)
            skew = int(video_end - (k * HOP + own[-1] + 1) * SAMPLE_NS)
        samples = sound[k * HOP : k * HOP + CONTEXT + HOP]
        out.append(Expected(video, "ok" if len(own) else "missing", number, samples, skew))
    return out


def assert_ticks(ticks: list[Tick], session: Session) -> None:
    wanted = expected_ticks(session)
    assert [t.head.index for t in ticks] == list(range(len(wanted)))
    for tick, want in zip(ticks, wanted, strict=True):
        head = tick.head
        assert (head.video, head.audio, number_of(tick)) == (want.video, want.audio, want.number), head
        assert (head.partial, head.dropped, head.skew_ns) == (False, 0, want.skew_ns), head
        assert tick.samples.dtype == np.float32
        assert np.array_equal(tick.samples, want.samples), head


def film(session: int = 0) -> list[MediaItem]:
    """Some four seconds of both tracks, in bursts."""
    camera = Camera()
    frames = [camera.frame(i, i * 70 * MS, 70 * MS) for i in range(60)]
    sounds = [chunk(i * 1024, 1024) for i in range(70)]
    return [start(session), *merged(frames, sounds, random.Random(3))]
