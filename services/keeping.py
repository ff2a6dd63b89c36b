"""What a decode process keeps beside sending ticks: a recording of what it sent, and clips of events.

For clips it hears of its own source's events from the publish process, as anybody may.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streamfuse.clock import Clock
from streamfuse.config import RunConfig
from streamfuse.errors import OutputError
from streamfuse.media.clips import PacketRing
from streamfuse.notify.files import event_path, write_file
from streamfuse.notify.rules import chosen
from streamfuse.types import NS, Event, SessionStart
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.link import Outlet
from streamfuse.wire.recording import Recorder
from streamfuse.wire.transport import Socket, Wire

log = logging.getLogger(__name__)

SLACK_NS = 25 * NS
"""Packets are kept for so much longer than a clip is: an event is told after its dwell, and key frames may be
ten seconds apart."""
MAX_CLIPS = 32
"""Clips that wait for their end; more events at once get none, which is counted."""
MAX_SESSIONS = 16


class Keeping:
    """Hooks for the decode service; nothing in them waits. What is written, threads write.

    ring  the packets for clips, where the run cuts any
    """

    def __init__(self, config: RunConfig, name: str, wire: Wire, clock: Clock) -> None:
        self._clock = clock
        self.ring: PacketRing | None = None
        self._clips: _Clips | None = None
        self._recorder: Recorder | None = None
        files, record = config.notify.files, config.record
        if files.cuts_clips:
            long_ns = round((files.before_s + files.after_s) * NS) + SLACK_NS
            self.ring = PacketRing(max_bytes=files.ring_bytes, max_ns=long_ns)
            events = Subscriber(wire, topics=[f"event/{name}"], connect=[config.endpoint("labels")])
            self._clips = _Clips(config, name, self.ring, events, clock)
        if record.folder is not None:
            self._recorder = Recorder(
                Path(record.folder), name, max_bytes=record.max_bytes, max_s=record.max_s, clock=clock
            )

    @staticmethod
    def is_wanted(config: RunConfig) -> bool:
        return config.notify.files.cuts_clips or config.record.folder is not None

    @property
    def counters(self) -> dict[str, int]:
        clips = {} if self._clips is None else self._clips.counts
        return {**clips, **({} if self._recorder is None else self._recorder.counts)}

    def ports(self) -> Sequence[Socket]:
        return [] if self._clips is None else [self._clips.events.socket]

    def listen_to(self, link: Outlet) -> None:
        if self._recorder is not None:
            link.tap = self._recorder.take

    def session(self, start: SessionStart) -> None:
        if self._clips is not None:
            self._clips.session(start)

    def turn(self) -> None:
        if self._clips is not None:
            self._clips.turn(self._clock.monotonic_ns())

    def close(self) -> None:
        """Write what waits: clips end where the packets do."""
        if self._clips is not None:
            self._clips.close()
        if self._recorder is not None:
            self._recorder.close()


class _Clips:
    """Events heard -> clips cut, when their last second has come.

    counts  clips; clips_missed: the source cannot be cut, began too late, or too many at once
    """

    def __init__(
        self, config: RunConfig, name: str, ring: PacketRing, events: Subscriber, clock: Clock
    ) -> None:
        self._files, self._name, self._ring, self.events, self._clock = (
            config.notify.files,
            name,
            ring,
            events,
            clock,
        )
        self._starts: dict[int, SessionStart] = {}
        self._waiting: list[tuple[int, Event]] = []
        self._jobs: queue.Queue[Event | None] = queue.Queue()
        self._trouble = ""
        self.counts: Counter[str] = Counter(clips=0, clips_missed=0)
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._thread.start()

    def session(self, start: SessionStart) -> None:
        self._starts[start.session] = start
        if len(self._starts) > MAX_SESSIONS:
            del self._starts[next(iter(self._starts))]

    def turn(self, now_ns: int) -> None:
        while (message := self.events.receive()) is not None:
            event = message.body
            if isinstance(event, Event) and event.source == self._name:
                self._take_in(event, now_ns)
        due = [event for due_ns, event in self._waiting if due_ns <= now_ns]
        self._waiting = [one for one in self._waiting if one[0] > now_ns]
        for event in due:
            self._jobs.put(event)

    def close(self) -> None:
        for _, event in self._waiting:
            self._jobs.put(event)
        self._jobs.put(None)
        self._thread.join()

    def _take_in(self, event: Event, now_ns: int) -> None:
        if event.kind != "new" or not chosen(self._files, event):
            return
        if len(self._waiting) + self._jobs.qsize() >= MAX_CLIPS:
            self.counts["clips_missed"] += 1
            return
        self._waiting.append((now_ns + round(self._files.after_s * NS), event))

    def _run(self) -> None:
        while (event := self._jobs.get()) is not None:
            try:
                self._cut(event)
                self.counts["clips"] += 1
            except OutputError as error:
                self.counts["clips_missed"] += 1
                if self._trouble != str(error):
                    self._trouble = str(error)
                    log.warning("%s", error)

    def _cut(self, event: Event) -> None:
        start = self._starts.get(event.session)
        path = event_path(self._files.folder or "", event, ".mp4")
        if start is None or path is None:
            raise OutputError("a clip is of a session of this process", got=event.session)
        at_ns = event.start_ns - start.offset_ns + start.zero_ns
        before_ns, after_ns = round(self._files.before_s * NS), round(self._files.after_s * NS)
        write_file(path, self._ring.cut(at_ns - before_ns, at_ns + after_ns))
