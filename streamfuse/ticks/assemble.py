"""Two tracks become ticks: each with the newest picture before its end and its own samples."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

import numpy as np

from streamfuse.config import TickConfig
from streamfuse.errors import StageError
from streamfuse.ticks.lag import Lags
from streamfuse.ticks.stamps import first_stamps
from streamfuse.ticks.tracks import AudioTrack, Came, PictureTake, Scope, SoundTake, VideoTrack, Watermark
from streamfuse.ticks.windows import samples_of_hop, tick_count, tick_end, tick_of
from streamfuse.types import (
    MS,
    NS,
    AudioChunk,
    MediaItem,
    Mode,
    SessionStart,
    Tick,
    TickHead,
    Trace,
    Track,
    TrackEnd,
    VideoFrame,
)

INTERLEAVE_MAX_NS = 30 * NS
"""Recorded: a track that lies further behind the other is not waited for (2 MB of sound, 300 pictures)."""

AHEAD_MAX_NS = 30 * NS
"""An item that begins so far after all that came is on another clock: dropped, counted."""

PATIENCE_TICKS = 10
"""Live: a track that gave no sign of life for so many ticks is not waited for until it does."""

NEVER = 1 << 62
"""A tick index that no session reaches."""

COUNTERS = (
    "sessions",
    "ticks",
    "partial",
    "early_frames",
    "late_frames",
    "reordered_frames",
    "early_samples",
    "late_audio_samples",
    "overlap_samples",
    "gap_samples",
    "ahead_items",
)


class _Session:
    """The tracks of one session, and how far its ticks have come.

    next_tick  the first one that has not gone out
    passed     when the first track passed the end of next_tick and of those after it
    lags       how much later the other one usually does
    """

    def __init__(self, start: SessionStart, scope: Scope, hold_max_ns: int, counters: Counter[str]) -> None:
        self.start = start
        self.next_tick = scope.first_tick
        self.passed: deque[int] = deque()
        self.video = VideoTrack(scope, hold_max_ns, counters) if "video" in start.tracks else None
        self.audio = AudioTrack(scope, counters) if "audio" in start.tracks else None
        self.marks = [track.mark for track in (self.video, self.audio) if track is not None]
        self.lags = Lags(scope.first_tick)

    @property
    def end_ns(self) -> int:
        """The end of the later track, from zero."""
        return max((mark.end_ns for mark in self.marks), default=0)

    def running(self) -> list[Watermark]:
        return [mark for mark in self.marks if not mark.ended]


class Assembler:
    """Stage[MediaItem, Tick]: the ticks of one source, over all its sessions.

    Recorded: a tick goes out when nothing that belongs to it can still come; the ticks are the same for
    every order in which the two tracks arrive (while they stay within INTERLEAVE_MAX_NS) and for every
    cut of the sound into chunks. A frame's claimed duration decides nothing but the session's end:
    containers of variable frame rate lie about it.

    Live: a tick goes out when the watermarks (last pts + duration) have passed its end, or a bounded time
    after the first of them has. `now_ns` is monotonic time; poll() when `deadline_ns` has come.

    source, hop_ns   go into each TickHead
    context_samples  how far a tick's samples reach back before its hop
    resume           (session, index) of the first tick to make; what comes before it only prepares it
    stamps           live: say in each tick's trace where its time went
    """

    def __init__(
        self,
        source: str,
        config: TickConfig,
        *,
        mode: Mode,
        hop_ns: int,
        context_samples: int,
        resume: tuple[int, int] = (0, 0),
        stamps: bool = True,
    ) -> None:
        samples_of_hop(hop_ns)
        if context_samples < 0:
            raise StageError("context_samples must not be negative", got=context_samples, where=source)
        self._source, self._config = source, config
        self._live = mode == "live"
        self._stamps = stamps and self._live
        self._hop_ns, self._context_samples = hop_ns, context_samples
        self._resume = resume
        self.reset()

    def reset(self) -> None:
        self._counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self._session: _Session | None = None
        self._flushed = False
        self._now_ns = 0

    @property
    def counters(self) -> dict[str, int]:
        """What was made, dropped and filled since the start, by name."""
        return dict(self._counters)

    @property
    def deadline_ns(self) -> int | None:
        """Live: when the oldest tick that waits is to go out whatever has come."""
        session = self._session
        if session is None or not session.passed:
            return None
        return session.passed[0] + self._wait_ns(session)

    def push(self, item: MediaItem, now_ns: int = 0) -> list[Tick]:
        self._now_ns = now_ns
        if self._flushed:
            raise StageError("no push() after flush(), reset() first", where=self._source)
        if isinstance(item, SessionStart):
            return self._begin(item)
        session = self._session
        if session is None:
            raise StageError(
                "the first item must be a SessionStart", got=type(item).__name__, where=self._source
            )
        if isinstance(item, TrackEnd):
            self._mark(session, item.track).ended = True
            if not session.running():
                return self._finish()
        else:
            self._take_in(session, item, now_ns)
        return self._ready(session, now_ns)

    def poll(self, now_ns: int) -> list[Tick]:
        """Live: the ticks whose time is up."""
        self._now_ns = now_ns
        return [] if self._session is None else self._ready(self._session, now_ns)

    def flush(self) -> list[Tick]:
        """End every track; the last tick is filled up with zeros."""
        self._flushed = True
        return self._finish()

    def _begin(self, start: SessionStart) -> list[Tick]:
        ticks = self._finish()
        start = self._after_last_tick(start)
        self._counters["sessions"] += 1
        session, first_tick = self._resume
        if start.session != session:
            first_tick = 0 if start.session > session else NEVER
        scope = Scope(start.zero_ns, self._hop_ns, self._context_samples, self._live, first_tick)
        self._session = _Session(start, scope, self._config.hold_max_ms * MS, self._counters)
        return ticks

    def _after_last_tick(self, start: SessionStart) -> SessionStart:
        """Time in the recording never falls back: one track may have run on after the other's new session."""
        if self._session is None:
            return start
        last = max(0, tick_count(self._session.end_ns, self._hop_ns) - 1)
        last_start_ns = self._session.start.offset_ns + last * self._hop_ns
        return replace(start, offset_ns=max(start.offset_ns, last_start_ns))

    def _finish(self) -> list[Tick]:
        session, ticks = self._session, []
        if session is not None:
            for mark in session.marks:
                mark.ended = True
            count = tick_count(session.end_ns, self._hop_ns)
            ticks = [self._emit(session) for _ in range(session.next_tick, count)]
        return ticks

    def _mark(self, session: _Session, name: Track) -> Watermark:
        track = session.video if name == "video" else session.audio
        if track is None or track.mark.ended:
            rule = "no items of a track that was not selected or has ended"
            raise StageError(rule, got=name, where=f"{self._source} session {session.start.session}")
        return track.mark

    def _take_in(self, session: _Session, item: VideoFrame | AudioChunk, now_ns: int) -> None:
        name: Track = "video" if isinstance(item, VideoFrame) else "audio"
        mark = self._mark(session, name)
        mark.misses = 0
        ahead_max_ns = max(AHEAD_MAX_NS, self._config.max_gap_ms * MS)
        reached_ns = max(session.end_ns, session.next_tick * self._hop_ns)
        if item.pts_ns - session.start.zero_ns - reached_ns > ahead_max_ns:
            self._counters["ahead_items"] += 1
        elif isinstance(item, VideoFrame) and session.video is not None:
            session.video.push(item, session.next_tick, now_ns)
        elif isinstance(item, AudioChunk) and session.audio is not None:
            session.audio.push(item, session.next_tick, now_ns)
        first = tick_of(item.pts_ns - session.start.zero_ns, self._hop_ns)
        session.lags.reach(name, first, mark.reach_ns // self._hop_ns, now_ns)

    def _ready(self, session: _Session, now_ns: int) -> list[Tick]:
        """Emit every tick that need not wait any longer."""
        reach_ns = max((mark.reach_ns for mark in session.marks), default=0)
        while tick_end(session.next_tick + len(session.passed), self._hop_ns) <= reach_ns:
            session.passed.append(now_ns)
            session.lags.cross(now_ns)
        is_due = self._is_due_live if self._live else self._is_due_recorded
        ticks = []
        while session.passed and is_due(session, now_ns):
            ticks.append(self._emit(session))
        return ticks

    def _is_due_recorded(self, session: _Session, _now_ns: int) -> bool:
        end_ns = tick_end(session.next_tick, self._hop_ns)
        if session.end_ns - end_ns >= INTERLEAVE_MAX_NS:
            return True
        return all(mark.sure_ns >= end_ns for mark in session.running())

    def _is_due_live(self, session: _Session, now_ns: int) -> bool:
        end_ns = tick_end(session.next_tick, self._hop_ns)
        behind = [mark for mark in session.running() if mark.reach_ns < end_ns]
        if all(mark.misses >= PATIENCE_TICKS for mark in behind):
            return True
        return now_ns >= session.passed[0] + self._wait_ns(session)

    def _wait_ns(self, session: _Session) -> int:
        if self._config.max_wait_ms is not None:
            return self._config.max_wait_ms * MS
        return session.lags.wait_ns(max((mark.packet_ns for mark in session.marks), default=0))

    def _emit(self, session: _Session) -> Tick:
        index = session.next_tick
        end_ns = tick_end(index, self._hop_ns)
        behind = [mark for mark in session.running() if mark.reach_ns < end_ns]
        for mark in behind:
            mark.misses += 1
        video, audio = self._take_video(session, index), self._take_audio(session, index)
        head = TickHead(
            source=self._source,
            session=session.start.session,
            index=index,
            offset_ns=session.start.offset_ns,
            hop_ns=self._hop_ns,
            video=video.presence,
            audio=audio.presence,
            partial=self._live and bool(behind),  # recorded: that track is over, nothing was late
            skew_ns=_later_ns(video, audio) if self._live else _skew_ns(video, audio, end_ns),
            trace=self._trace(session, video.came, audio.came),
        )
        session.next_tick += 1
        if session.passed:
            session.passed.popleft()
        self._counters["ticks"] += 1
        self._counters["partial"] += head.partial
        return Tick(head, video.picture, audio.samples)

    def _trace(self, session: _Session, video: Came | None, audio: Came | None) -> Trace:
        if not self._stamps:
            return Trace(video.arrival_ns if video else 0, audio.arrival_ns if audio else 0)
        passed_ns = session.passed[0] if session.passed else self._now_ns
        return first_stamps(video, audio, passed_ns, self._now_ns)

    def _take_video(self, session: _Session, index: int) -> PictureTake:
        if session.video is None:
            return PictureTake("missing", None, None, None)
        return session.video.take(index)

    def _take_audio(self, session: _Session, index: int) -> SoundTake:
        if session.audio is None:
            zeros = np.zeros(self._context_samples + samples_of_hop(self._hop_ns), np.float32)
            return SoundTake("missing", zeros, None, None)
        return session.audio.take(index)


def _later_ns(video: PictureTake, audio: SoundTake) -> int:
    """How much later the sound of a moment came than its picture."""
    if video.came is None or audio.came is None:
        return 0
    return audio.came.late_ns - video.came.late_ns


def _skew_ns(video: PictureTake, audio: SoundTake, end_ns: int) -> int:
    """Video end minus audio end, each cut at the tick's end: 0 when both cover the tick."""
    if video.end_ns is None or audio.end_ns is None:
        return 0
    return min(video.end_ns, end_ns) - min(audio.end_ns, end_ns)
