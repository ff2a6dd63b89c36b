"""Decoded frames of two tracks become sessions: SessionStart, then frames and chunks on one line of time.

A break is found by whichever track shows it first. Frames of the new session then wait at a gate while the
other track still delivers what belongs to the old one:

    video  old old | new new new            gate: new new new
    audio  old old old old old | new                              ──► old ..., SessionStart, new ...

In live mode nothing waits: the session starts at once, and what trails behind is dropped and counted.
"""

from __future__ import annotations

from collections import Counter

from streamfuse.media.gate import Builder, Gate, Span, clip, reason_for
from streamfuse.media.timeline import Decoded, Line, Verdict
from streamfuse.types import NS, MediaItem, Mode, SessionStart, Track, TrackEnd

TRAIL_NS = 10 * NS
"""A track that goes on for so long where the other one left has a clock of its own."""
SKEW_NS = {"live": 10 * NS, "recorded": 3600 * NS}
"""Tracks whose first items are further apart run on clocks of their own. Live, both arrive together; in a
recording one track may begin late, but not by an hour."""
SLACK_NS = 10 * NS
"""How far past the end of a span one track is read for the sake of the other."""


class Sessions:
    """Push decoded frames in arrival order, get MediaItems; end() gives the tail and the TrackEnds.

    starts       first pts of each track as far as probing told (recorded)
    duration_ns  of the recording, where known: a jump forward within it is time of the recording too
    """

    def __init__(
        self,
        builders: dict[Track, Builder],
        *,
        mode: Mode,
        max_gap_ns: int,
        first_session: int = 0,
        starts: dict[Track, int] | None = None,
        duration_ns: int | None = None,
        span: Span | None = None,
        counters: Counter[str] | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter() if counters is None else counters
        self.session = first_session - 1
        self.done = False
        """Everything up to the end of the span was given out."""
        self._builders = builders
        self._lines: dict[Track, Line] = {track: Line(track) for track in builders}
        self._live = mode == "live"
        self._started = self._went_back = False
        self._max_gap_ns = max_gap_ns
        self._skew_ns = SKEW_NS[mode]
        self._duration_ns = duration_ns
        self._zero_ns = self._offset_ns = 0
        self._newest_ns: int | None = None
        self._to_ns = None if span is None or span.to_ns is None else span.zero_ns + span.to_ns
        self._file_zero_ns: int | None = None if span is None else span.zero_ns
        self._gate: Gate | None = Gate("start")
        self._starts = dict(starts or {})
        self._set_first_zero(span)
        self._out: list[MediaItem] = []

    @property
    def position_ns(self) -> int:
        """Media time reached in the recording, from 0."""
        if self._newest_ns is None:
            return self._offset_ns
        return self._offset_ns + max(0, self._newest_ns - self._zero_ns)

    def expected_ns(self, track: Track) -> int | None:
        """Where the track's next item would begin, before its shift; None before its first."""
        line = self._lines[track]
        if line.suspects:
            return line.suspects[-1].pts_ns + line.suspects[-1].dur_ns
        return None if line.last_ns is None else line.end_ns - line.shift_ns

    def push(self, item: Decoded) -> list[MediaItem]:
        self._place(item)
        return self._take()

    def _place(self, item: Decoded) -> None:
        line = self._lines[item.track]
        verdict = line.judge(item, self._reached(line), self._max_gap_ns)
        if verdict in (Verdict.JUMP, Verdict.CHANGE):
            disproved, confirmed = line.suspect(item, verdict, self._max_gap_ns)
            self.counters["disproved"] += disproved
            if confirmed:
                self._confirm(line, verdict)
        else:
            self.counters["disproved"] += len(line.suspects)
            line.suspects.clear()
            if verdict is Verdict.LATE:
                self.counters["reordered"] += 1
            else:
                self._accept(line, item)

    def end(self) -> list[MediaItem]:
        """The input is over: give out what waits, then a TrackEnd for every track."""
        for line in self._lines.values():
            self.counters["disproved"] += len(line.suspects)
            line.suspects.clear()
            self._flush(line)
        if self._gate is not None and self._gate.waiting:
            self._close()
        if self._started:
            self._out += [TrackEnd(track) for track in self._lines]
        return self._take()

    def _take(self) -> list[MediaItem]:
        out, self._out = self._out, []
        return out

    def _set_first_zero(self, span: Span | None) -> None:
        assert self._gate is not None
        starts = self._starts.values()
        if len(starts) > 1 and max(starts) - min(starts) > self._skew_ns:
            first = self._starts["video"]
            self._lines["audio"].shift_ns = first - self._starts["audio"]
            self._starts["audio"] = first
            self.counters["realigned"] += 1
        if span is not None:
            self._gate.zero_ns = span.zero_ns + span.from_ns

    # -- breaks ----------------------------------------------------------------

    def _reached(self, line: Line) -> int:
        newest = self._gate.newest_ns if self._gate is not None and line.joined else self._newest_ns
        return line.end_ns if newest is None else newest

    def _confirm(self, line: Line, verdict: Verdict) -> None:
        """The suspects were right: a new session, or this track's arrival in one that has begun."""
        suspects, line.suspects = line.suspects, []
        undecided: list[Decoded] = []
        if line.joined:
            self._break(line, suspects[0], verdict)
            for other in self._lines.values():
                undecided += other.suspects
                other.suspects = []
        elif line.last_ns is not None or self._gate is None:
            self._arrive(line, suspects[0].pts_ns + line.shift_ns)
        line.parameters = suspects[0].parameters
        for item in suspects:
            self._accept(line, item)
        for item in undecided:  # what the other track put aside may be at home in the new session
            self._place(item)

    def _break(self, line: Line, first: Decoded, verdict: Verdict) -> None:
        pts_ns = first.pts_ns + line.shift_ns
        reached = self._reached(line)
        if self._gate is not None:
            self._close()
        steady = line.continues(pts_ns, self._max_gap_ns)
        reason = reason_for(first, verdict, pts_ns - line.end_ns)
        # A change in mid-stream begins where both tracks have got to, a jump where it lands.
        zero = max(reached, pts_ns) if steady else None
        self._gate = Gate(
            reason, from_ns=zero if steady else pts_ns, backward=pts_ns < reached and not steady, cut=steady
        )
        self._gate.zero_ns = zero
        for other in self._lines.values():
            other.leave()
        self._arrive(line, pts_ns)

    def _arrive(self, line: Line, pts_ns: int) -> None:
        """The track leaves its old line (its tail still belongs there) and enters the new session."""
        self._flush(line)
        line.arrive()
        newest = self._gate.newest_ns if self._gate is not None else self._newest_ns
        if newest is not None and abs(pts_ns - newest) > self._skew_ns:
            line.shift_ns += newest - pts_ns
            self.counters["realigned"] += 1

    def _has_moved(self, line: Line, pts_ns: int) -> bool:
        """Whether a track that had not arrived in the newest session has done so with pts_ns."""
        gate = self._gate
        if gate is None:  # trailing behind a session that has begun
            past = pts_ns >= self._zero_ns and not self._went_back
            return past or not line.continues(pts_ns, self._max_gap_ns)
        if gate.from_ns is None:
            return True
        if line.last_ns is None:
            old = self._newest_ns if self._newest_ns is not None else gate.from_ns
            return pts_ns >= gate.from_ns if gate.cut else abs(pts_ns - gate.from_ns) <= abs(pts_ns - old)
        return not line.continues(pts_ns, self._max_gap_ns) or (not gate.backward and pts_ns >= gate.from_ns)

    # -- items -----------------------------------------------------------------

    def _accept(self, line: Line, item: Decoded) -> None:
        pts_ns = item.pts_ns + line.shift_ns
        if not line.joined:
            if self._has_moved(line, pts_ns):
                self._arrive(line, pts_ns)
                pts_ns = item.pts_ns + line.shift_ns
            elif self._gate is None:
                self._trail(line, pts_ns, item.dur_ns)
                return
        if line.parameters is None:
            line.parameters = item.parameters
        line.advance(pts_ns, item.dur_ns)
        self._route(line, self._builders[item.track].push(item, pts_ns))
        self._reach(line, pts_ns, line.end_ns)
        if self._gate is not None and line.joined and self._ready():
            self._close()
        self._check_span(pts_ns)

    def _trail(self, line: Line, pts_ns: int, dur_ns: int) -> None:
        """Count an item that came too late for the old session; after TRAIL_NS of it, let the track join."""
        self.counters["late"] += 1
        if line.trailing_since_ns is None:
            line.trailing_since_ns = pts_ns
        if pts_ns - line.trailing_since_ns <= TRAIL_NS:
            line.advance(pts_ns, dur_ns)
            return
        line.arrive()
        line.shift_ns += (self._newest_ns or 0) - pts_ns
        self.counters["realigned"] += 1

    def _reach(self, line: Line, pts_ns: int, end_ns: int) -> None:
        if self._gate is not None and line.joined:
            self._gate.reach(pts_ns, end_ns)
        else:
            self._newest_ns = end_ns if self._newest_ns is None else max(end_ns, self._newest_ns)

    def _flush(self, line: Line) -> None:
        self._route(line, self._builders[line.track].flush())

    def _route(self, line: Line, items: list[MediaItem]) -> None:
        if self._gate is not None and line.joined:
            self._gate.waiting += items
        elif self._started and (line.joined or self._gate is not None):
            for item in items:
                self._give(item)
        else:
            self.counters["late"] += len(items)

    def _give(self, item: MediaItem) -> None:
        """Give out one item of the current session, without what lies before its start or past the span."""
        clipped = clip(item, self._zero_ns, self._to_ns)
        if clipped is not None:
            self._out.append(clipped)
        elif self._file_zero_ns is None:
            self.counters["before_start"] += 1

    # -- the gate --------------------------------------------------------------

    def _ready(self) -> bool:
        gate = self._gate
        assert gate is not None
        if self._live or (gate.zero_ns is not None and gate.from_ns is None):
            return True
        return all(line.joined for line in self._lines.values()) or gate.is_full

    def _close(self) -> None:
        """Let the new session begin: SessionStart, then all that waited."""
        gate = self._gate
        assert gate is not None
        for line in self._lines.values():
            if not line.joined:
                self._flush(line)
        if gate.first_ns is None:
            return
        zero = gate.zero_ns
        if zero is None:
            zero = gate.first_ns
            if not self._started and not self._live:
                zero = min([zero, *self._starts.values()])
        self._offset_ns = self._next_offset(zero)
        self._zero_ns, self._newest_ns, self._gate = zero, gate.newest_ns, None
        self._went_back = gate.backward
        self.session += 1
        self.counters["sessions"] += 1
        self._started = True
        tracks = frozenset(self._lines)
        self._out.append(SessionStart(self.session, zero, self._offset_ns, tracks, gate.reason))
        for item in gate.waiting:
            self._give(item)

    def _next_offset(self, zero: int) -> int:
        if not self._started:
            return 0 if self._file_zero_ns is None else max(0, zero - self._file_zero_ns)
        reached = self.position_ns
        jumped = self._offset_ns + zero - self._zero_ns
        # A hole in a recording is part of its time, as players count it, unless the stamps are plainly wrong.
        believed = self._duration_ns is not None and jumped <= self._duration_ns
        return max(reached, jumped) if believed else reached

    def _check_span(self, pts_ns: int) -> None:
        if self._to_ns is None or pts_ns < self._to_ns:
            return
        there = [
            line.joined and line.last_ns is not None and line.last_ns >= self._to_ns
            for line in self._lines.values()
        ]
        self.done = all(there) or pts_ns >= self._to_ns + SLACK_NS
