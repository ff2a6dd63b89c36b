"""The analyzer for one's own capture: push pictures and sound with their times, get labels."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial

import numpy as np
import numpy.typing as npt

from streamfuse.batch import recorded_batch, stages
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import LabelConfig, ModelConfig, TickConfig
from streamfuse.errors import StageError
from streamfuse.media.arrays import ArrayResampler
from streamfuse.media.frames import picture_from_rgb
from streamfuse.model.runtime import Model
from streamfuse.pipeline.interpret import Interpreter, loaded_model, new_assembler
from streamfuse.pipeline.live import dated
from streamfuse.types import (
    MS,
    NS,
    SAMPLE_RATE,
    U8,
    AudioChunk,
    Event,
    Label,
    Mode,
    Picture,
    SessionStart,
    Tick,
    Track,
    VideoFrame,
)

REORDER_NS = 1000 * MS
"""A step back below this is reordering, and the item is dropped; a larger one begins a new session."""
HEAD_NS = 2000 * MS
"""Recorded: so much of one track is kept while the other's first item is waited for. A decoder may give the
first picture long after the sound of its time (seen: 1.02 s, H.264)."""


class Analyzer:
    """Stage for media that somebody else captured or decoded: the labels of analyze() for the same media.

    model   a loaded model, a model file, or None for the default model
    tracks  what will be pushed; a track that is named but never pushed holds the labels back
    mode    "recorded": every tick, when all of it has come; "live": late items are not waited for
    source  the name in the labels
    events  what began and ended so far; take them with `events.clear()` after reading

    Live, the time of a session's first item is its zero. Recorded, the first one's zero is where the earlier
    of its tracks begins, and the two may come in the order in which decoders give them. A jump within a track
    of more than ticks.max_gap_ms forward, or of a second back, begins a new session.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str] | None = None,
        *,
        labels: LabelConfig | None = None,
        ticks: TickConfig | None = None,
        tracks: Collection[Track] = ("video", "audio"),
        mode: Mode = "recorded",
        source: str = "capture",
        device: str = "auto",
        clock: Clock = SYSTEM,
    ) -> None:
        self.model = loaded_model(model, device)
        self._ticks = ticks or TickConfig()
        self._tracks = frozenset(tracks)
        self._clock, self._source, self._live = clock, source, mode == "live"
        spec = self.model.spec
        self._assembler = new_assembler(source, self._ticks, spec, mode)
        together = recorded_batch(self.model, ModelConfig())
        self._preparer, stepper = stages(
            self.model, source, max_gap_ms=self._ticks.max_gap_ms, together=together
        )
        finish = partial(dated, clock=clock) if mode == "live" else None
        self._interpreter = Interpreter(stepper, labels or LabelConfig(), self._ticks, finish)
        self.events: list[Event] = []
        self._session = -1
        self._firsts_ns: dict[Track, int] = {}
        self._head: list[VideoFrame | AudioChunk] = []
        """What came before the first session could begin."""
        self._ends_ns: dict[Track, int] = {}
        self._video_pts_ns: int | None = None
        self._zero_ns = self._offset_ns = 0
        self._resampler: ArrayResampler | None = None

    def push_video(self, frame: U8 | Picture, pts_ns: int, *, dur_ns: int | None = None) -> list[Label]:
        """One picture: RGB (H, W, 3) uint8, or the planes of a decoder as Picture.

        dur_ns  how long it is shown; unset: as long as the one before it
        """
        picture = frame if isinstance(frame, Picture) else picture_from_rgb(_rgb(frame, self._source))
        labels = self._begin_if_new("video", pts_ns)
        if dur_ns is None:
            dur_ns = max(0, pts_ns - self._video_pts_ns) if self._video_pts_ns is not None else 0
        self._video_pts_ns = pts_ns
        return labels + self._push(VideoFrame(pts_ns, dur_ns, lambda: picture, self._clock.monotonic_ns()))

    def push_audio(
        self, samples: npt.NDArray[np.generic], pts_ns: int, *, sample_rate: int = SAMPLE_RATE
    ) -> list[Label]:
        """Sound: (n,) mono or (n, channels), float in [-1, 1] or int16, the first sample at pts_ns."""
        labels = self._begin_if_new("audio", pts_ns)
        if self._resampler is None or self._resampler.rate != sample_rate:
            labels += self._end_audio()
            self._resampler = ArrayResampler(sample_rate)
        for chunk in self._resampler.push(samples, pts_ns, self._clock.monotonic_ns()):
            labels += self._push(chunk)
        return labels

    def poll(self) -> list[Label]:
        """Live: the labels whose time is up though nothing was pushed."""
        ticks = self._assembler.poll(self._clock.monotonic_ns())
        return self._analyze(ticks)

    def flush(self) -> list[Label]:
        """The end: the labels of what was still waiting. Then reset() before anything else is pushed."""
        labels = self._begin_first() if self._firsts_ns and self._session < 0 else []
        labels += self._end_audio() + self._analyze(self._assembler.flush())
        return labels + self._keep(self._interpreter.flush())

    def reset(self) -> None:
        """Be as new."""
        self._assembler.reset()
        self._preparer.reset()
        self._interpreter.reset()
        self.events.clear()
        self._session = -1
        self._firsts_ns, self._head = {}, []
        self._forget_session()

    def _forget_session(self) -> None:
        self._ends_ns = {}
        self._video_pts_ns = None
        self._zero_ns = self._offset_ns = 0
        self._resampler = None

    def _begin_if_new(self, track: Track, pts_ns: int) -> list[Label]:
        """A SessionStart where this item is the first, or lies too far from its track's last."""
        if track not in self._tracks:
            raise StageError(
                f"{track} was not among the tracks", got=sorted(self._tracks), where=self._source
            )
        if self._session < 0:
            self._firsts_ns.setdefault(track, pts_ns)
            waits = not self._live and self._firsts_ns.keys() != self._tracks
            if waits and pts_ns - min(self._firsts_ns.values()) < HEAD_NS:
                return []
            return self._begin_first()
        jump_ns = self._jump_ns(track, pts_ns)
        return [] if jump_ns == 0 else self._begin_anew(pts_ns, f"the {track} jumped by {jump_ns / NS:.3f} s")

    def _jump_ns(self, track: Track, pts_ns: int) -> int:
        """How far an item lies from where it may be; 0: it goes on."""
        newest_ns = max(self._ends_ns.values(), default=self._zero_ns)
        end_ns = self._ends_ns.get(track, newest_ns)
        if track not in self._ends_ns and not self._live and self._zero_ns <= pts_ns <= newest_ns:
            return 0  # its decoder gives it later than the other one's
        jump_ns = pts_ns - end_ns
        return 0 if -REORDER_NS <= jump_ns <= self._ticks.max_gap_ms * MS else jump_ns

    def _begin_first(self) -> list[Label]:
        """The first session, where the earlier of its tracks begins; then what has waited for that."""
        labels = self._begin(min(self._firsts_ns.values()), 0, "start")
        head, self._head = self._head, []
        return labels + [label for item in head for label in self._push(item)]

    def _begin_anew(self, pts_ns: int, reason: str) -> list[Label]:
        labels = self._end_audio()
        # Time in the recording never falls back: a session begins where the one before it ended.
        reached_ns = max((end - self._zero_ns + self._offset_ns for end in self._ends_ns.values()), default=0)
        self._forget_session()
        return labels + self._begin(pts_ns, reached_ns, reason)

    def _begin(self, zero_ns: int, offset_ns: int, reason: str) -> list[Label]:
        self._zero_ns, self._offset_ns = zero_ns, offset_ns
        self._session += 1
        start = SessionStart(self._session, zero_ns, offset_ns, self._tracks, reason)
        return self._analyze(self._assembler.push(start, self._clock.monotonic_ns()))

    def _end_audio(self) -> list[Label]:
        """What the resampler still holds."""
        resampler, self._resampler = self._resampler, None
        return [label for chunk in (resampler.flush() if resampler else ()) for label in self._push(chunk)]

    def _push(self, item: VideoFrame | AudioChunk) -> list[Label]:
        if self._session < 0:
            self._head.append(item)
            return []
        track: Track = "audio" if isinstance(item, AudioChunk) else "video"
        end_ns = item.end_ns if isinstance(item, AudioChunk) else item.pts_ns + item.dur_ns
        self._ends_ns[track] = max(end_ns, self._ends_ns.get(track, end_ns))
        return self._analyze(self._assembler.push(item, self._clock.monotonic_ns()))

    def _analyze(self, ticks: list[Tick]) -> list[Label]:
        inputs = [one for tick in ticks for one in self._preparer.push(tick)]
        return [label for one in inputs for label in self._keep(self._interpreter.push(one))]

    def _keep(self, told: list[Label | Event]) -> list[Label]:
        self.events += [item for item in told if isinstance(item, Event)]
        return [item for item in told if isinstance(item, Label)]


def _rgb(frame: U8, where: str) -> U8:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        rule = "a picture must be RGB (H, W, 3) uint8"
        raise StageError(rule, got=f"{frame.dtype} {frame.shape}", where=where)
    return frame
