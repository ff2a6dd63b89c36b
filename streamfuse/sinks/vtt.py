"""`<stem>.vtt`: what is going on, as subtitles for a player or a browser's <track>."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from streamfuse.labels.sidecar import VTT_HEADER, CueState, CueWriter
from streamfuse.sinks.durable import PartFile, Patience
from streamfuse.sinks.mark import Mark
from streamfuse.types import Event

if TYPE_CHECKING:
    from pathlib import Path

    from streamfuse.config import LabelConfig
    from streamfuse.model.spec import HeadSpec
    from streamfuse.types import Label


class _Held(msgspec.Struct):
    """What is not written yet."""

    cues: CueState
    events: list[Event]
    now_ns: int


class Subtitles:
    """Cues are written as soon as no later event can change them."""

    replays: ClassVar[bool] = False

    def __init__(
        self,
        path: Path,
        heads: Sequence[HeadSpec],
        config: LabelConfig,
        *,
        resume: Mark | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.path = path
        self._cues = CueWriter(heads, config)
        self._tick_events: list[Event] = []
        self._now_ns = 0
        self._settled = False
        if resume is not None:
            held = msgspec.msgpack.decode(resume.held, type=_Held)
            self._cues.state, self._tick_events, self._now_ns = held.cues, held.events, held.now_ns
        self._file = PartFile(path, resume=None if resume is None else resume.seal, patience=patience)
        if resume is None:
            try:
                self._file.write(VTT_HEADER)
            except BaseException:
                self._file.close(complete=False)
                raise

    def write_label(self, label: Label) -> None:
        # The events that a label brought come after it, so they are complete when the next label comes.
        self._take_tick()
        self._now_ns = label.head.end_ns

    def write_event(self, event: Event) -> None:
        self._tick_events.append(event)

    def mark(self) -> Mark:
        held = _Held(self._cues.state, self._tick_events, self._now_ns)
        return Mark(self._file.seal(), msgspec.msgpack.encode(held))

    def settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._take_tick()
            self._write(self._cues.flush())

    def sync(self) -> int:
        return self._file.sync()

    def close(self, complete: bool) -> None:
        try:
            if complete:
                self.settle()
        except BaseException:
            self._file.close(complete=False)
            raise
        self._file.close(complete)

    def _take_tick(self) -> None:
        self._write(self._cues.push(self._tick_events, self._now_ns))
        self._tick_events = []

    def _write(self, blocks: Sequence[str]) -> None:
        for block in blocks:
            self._file.write(block)
