"""`<stem>.vtt`: what is going on, as subtitles for a player or a browser's <track>."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from streamfuse.labels.sidecar import VTT_HEADER, CueWriter
from streamfuse.sinks.durable import PartFile

if TYPE_CHECKING:
    from pathlib import Path

    from streamfuse.config import LabelConfig
    from streamfuse.model.spec import HeadSpec
    from streamfuse.types import Event, Label


class Subtitles:
    """Cues are written as soon as no later event can change them."""

    replays: ClassVar[bool] = True

    def __init__(self, path: Path, heads: Sequence[HeadSpec], config: LabelConfig) -> None:
        self.path = path
        self._cues = CueWriter(heads, config)
        self._tick_events: list[Event] = []
        self._now_ns = 0
        self._file = PartFile(path)
        self._file.write(VTT_HEADER)

    def write_label(self, label: Label) -> None:
        # The events that a label brought come after it, so they are complete when the next label comes.
        self._take_tick()
        self._now_ns = label.head.end_ns

    def write_event(self, event: Event) -> None:
        self._tick_events.append(event)

    def sync(self) -> int:
        return self._file.sync()

    def close(self, complete: bool) -> None:
        try:
            if complete:
                self._take_tick()
                self._write(self._cues.flush())
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
