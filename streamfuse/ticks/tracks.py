"""What the assembler keeps of each track: pictures by tick, samples by absolute index, watermarks.

Times here count from the session's zero.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np

from streamfuse.ticks.windows import sample_at, sample_range, samples_of_hop, tick_of
from streamfuse.types import F32, MS, NS, SAMPLE_NS, AnyPicture, AudioChunk, Presence, VideoFrame

PACE_ITEMS = 15
"""A track's packet duration is the median of this many: one long frame of a variable rate is no trend."""

DUR_MAX_NS = 30 * NS
"""No frame is believed to last longer, and a live one not longer than the measured pace: ticks would
run ahead of the pictures that belong in them."""

SLACK_NS = MS
"""At 30 fps the third frame of a tick ends 1 ns before the tick, by rounding, or 1 ms in containers that
count those: to wait for the frame after it would make every live answer 33 ms older."""

JITTER_SAMPLES = 10 * MS // SAMPLE_NS
"""Containers round to 1 ms and capture clocks jitter by a few, while a lost packet is 20 ms or more: a
smaller step of the sound's pts is no gap, and its samples follow the last ones directly."""


@dataclass(slots=True)
class Watermark:
    """How far one track has come.

    end_ns    end of its last item
    slack_ns  by so little it may fall short of a tick's end and still have reached it
    sure_ns   nothing that belongs before it can still come, whatever durations the container claims
    misses    ticks in a row that went out without this track while it gave no sign of life
    """

    end_ns: int = 0
    slack_ns: int = 0
    sure_ns: int = 0
    ended: bool = False
    misses: int = 0
    pace: deque[int] = field(default_factory=lambda: deque(maxlen=PACE_ITEMS))

    @property
    def reach_ns(self) -> int:
        return self.end_ns + self.slack_ns

    @property
    def packet_ns(self) -> int:
        return int(median(self.pace)) if self.pace else 0


class Came(NamedTuple):
    """When an item came from the demuxer, and when it was decoded and pushed here (monotonic).

    late_ns  its arrival minus its own time (of sound, its end). It means nothing by itself; the difference of
             two tracks is how much later one of them comes
    """

    arrival_ns: int
    pushed_ns: int
    late_ns: int


class PictureTake(NamedTuple):
    """The video of one tick; end_ns and came are None where there is none."""

    presence: Presence
    picture: AnyPicture | None
    end_ns: int | None
    came: Came | None


class SoundTake(NamedTuple):
    """The sound of one tick; end_ns, and came of its last piece, are None where there is none."""

    presence: Presence
    samples: F32
    end_ns: int | None
    came: Came | None


@dataclass(slots=True)
class _Shot:
    """A frame that a tick may use. Rendering frees the decoder's frame, which is many times larger."""

    tick: int
    pts_ns: int
    end_ns: int
    came: Came
    frame: VideoFrame | None
    picture: AnyPicture | None = None
    used: bool = False

    def render(self) -> AnyPicture:
        if self.picture is None:
            assert self.frame is not None
            self.picture = self.frame.render()
            self.frame = None
        return self.picture


@dataclass(frozen=True, slots=True)
class Scope:
    """What the two tracks of a session share.

    first_tick  ticks before it are never made (another run made them); what belongs to them still
                serves as the picture that is held and as the context of the sound
    """

    zero_ns: int
    hop_ns: int
    context_samples: int
    live: bool
    first_tick: int = 0


class VideoTrack:
    """The newest frame of each tick that is still to go out, and the one that went out last."""

    def __init__(self, scope: Scope, hold_max_ns: int, counters: Counter[str]) -> None:
        self.mark = Watermark(slack_ns=SLACK_NS if scope.live else 0)
        self._scope, self._hold_max_ns, self._counters = scope, hold_max_ns, counters
        self._waiting: deque[_Shot] = deque()
        self._shown: _Shot | None = None
        self._newest_ns = -1

    def push(self, frame: VideoFrame, next_tick: int, now_ns: int) -> None:
        """Keep the frame if a tick can still use it; `next_tick` is the first one that did not go out."""
        pts_ns = frame.pts_ns - self._scope.zero_ns
        if pts_ns < 0:
            self._counters["early_frames"] += 1
            return
        if pts_ns <= self._newest_ns:
            self._counters["reordered_frames"] += 1
            return
        self._advance(pts_ns, frame.dur_ns)
        tick = tick_of(pts_ns, self._scope.hop_ns)
        came = Came(frame.arrival_ns, now_ns, frame.arrival_ns - frame.pts_ns)
        shot = _Shot(tick, pts_ns, self.mark.end_ns, came, frame)
        if tick < next_tick:  # then nothing is waiting: pts only grow
            shot.used = tick < self._scope.first_tick
            self._counters["late_frames"] += not shot.used
            self._shown = shot
        elif self._waiting and self._waiting[-1].tick == tick:
            self._waiting[-1] = shot
        else:
            if self._waiting:  # the newest of its tick for good, so it will be used
                self._waiting[-1].render()
            self._waiting.append(shot)

    def _advance(self, pts_ns: int, dur_ns: int) -> None:
        if self._newest_ns >= 0:
            self.mark.pace.append(pts_ns - self._newest_ns)
        elif dur_ns > 0:
            self.mark.pace.append(dur_ns)
        self._newest_ns = pts_ns
        believed_ns = DUR_MAX_NS
        if self._scope.live and len(self.mark.pace) >= PACE_ITEMS // 3:
            believed_ns = self.mark.packet_ns
            dur_ns = dur_ns if dur_ns > 0 else self.mark.packet_ns
        self.mark.end_ns = pts_ns + min(max(dur_ns, 1), believed_ns)
        self.mark.sure_ns = pts_ns

    def take(self, index: int) -> PictureTake:
        """The picture of tick `index`; called once for each tick, in order."""
        if self._waiting and self._waiting[0].tick == index:
            self._shown = self._waiting.popleft()
        shot = self._shown
        if shot is None or index * self._scope.hop_ns - shot.pts_ns > self._hold_max_ns:
            self._shown = None
            return PictureTake("missing", None, None, None)
        presence: Presence = "held" if shot.used else "ok"
        shot.used = True
        return PictureTake(presence, shot.render(), shot.end_ns, shot.came)


class _Piece(NamedTuple):
    start: int
    samples: F32
    came: Came

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


class AudioTrack:
    """Samples by absolute index, in pieces that grow and never overlap; what lies between is silence."""

    def __init__(self, scope: Scope, counters: Counter[str]) -> None:
        self.mark = Watermark()
        self._scope, self._counters = scope, counters
        self._hop_samples = samples_of_hop(scope.hop_ns)
        self._pieces: deque[_Piece] = deque()
        self._next: int | None = None
        self._follows_ns: int | None = None
        self._shift = 0

    def push(self, chunk: AudioChunk, next_tick: int, now_ns: int) -> None:
        """Place the samples; `next_tick` is the first one that did not go out."""
        start, samples = self._place(chunk), chunk.samples
        floor = self._next or 0
        if start < floor:
            cut = min(floor - start, len(samples))
            self._counters["early_samples" if self._next is None else "overlap_samples"] += cut
            start, samples = start + cut, samples[cut:]
        if not len(samples):
            return
        if self._next is not None:
            self._counters["gap_samples"] += start - self._next
        self._next = start + len(samples)
        # Late ones are kept all the same: the next tick's first MFCC windows reach back into them.
        first, last = self._scope.first_tick * self._hop_samples, next_tick * self._hop_samples
        self._counters["late_audio_samples"] += max(0, min(self._next, last) - max(start, first))
        came = Came(chunk.arrival_ns, now_ns, chunk.arrival_ns - chunk.end_ns)
        self._pieces.append(_Piece(start, samples, came))
        self._forget(last - self._scope.context_samples)
        self.mark.pace.append(len(chunk.samples) * SAMPLE_NS)
        self.mark.end_ns = self.mark.sure_ns = self._next * SAMPLE_NS

    def _place(self, chunk: AudioChunk) -> int:
        """The chunk's first absolute index.

        Decided anew only where the pts do not follow on, so that it does not matter how a run of
        samples was cut into chunks.
        """
        index = sample_at(chunk.pts_ns - self._scope.zero_ns)
        if chunk.pts_ns != self._follows_ns:
            step = 0 if self._next is None else index - self._next
            self._shift = -step if abs(step) <= JITTER_SAMPLES else 0
        self._follows_ns = chunk.end_ns
        return index + self._shift

    def _forget(self, before: int) -> None:
        while self._pieces and self._pieces[0].end <= before:
            self._pieces.popleft()

    def take(self, index: int) -> SoundTake:
        """The samples of tick `index` after its context; called once for each tick, in order."""
        window = sample_range(index, self._hop_samples, self._scope.context_samples)
        out = np.zeros(window.end - window.first, np.float32)
        end: int | None = None
        came: Came | None = None
        self._forget(window.first)
        for piece in self._pieces:
            if piece.start >= window.end:
                break
            low, high = max(piece.start, window.first), min(piece.end, window.end)
            out[low - window.first : high - window.first] = piece.samples[
                low - piece.start : high - piece.start
            ]
            if high > window.start:
                end = high
                came = piece.came
        if end is None:
            return SoundTake("missing", out, None, None)
        return SoundTake("ok", out, end * SAMPLE_NS, came)
