"""Events as WebVTT cues, for a player that shows a recording with its labels.

A cue lasts from one change of what is going on to the next, so cues follow each other and never overlap.
Format: https://www.w3.org/TR/webvtt1/, section 4.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamfuse.config import LabelConfig
from streamfuse.model.spec import HeadSpec
from streamfuse.types import MS, NS, Event

VTT_HEADER = "WEBVTT\n\n"


@dataclass(slots=True)
class CueState:
    """What goes from one push to the next: plain data, so that a checkpoint can hold it.

    now_ns   end of the last tick
    running  head -> labels whose event has begun by since_ns, in the order in which they did
    changes  (time, 0 end | 1 new, head, label) after since_ns, which others may still precede
    """

    since_ns: int = 0
    now_ns: int = 0
    running: dict[str, list[str]] = field(default_factory=dict)
    changes: list[tuple[int, int, str, str]] = field(default_factory=list)


class CueWriter:
    """The cues of a recording's events, in order, as soon as nothing can change them any more.

    An event is told `min_dwell_s` after it began, so a cue is held back for so long.
    """

    def __init__(self, heads: Sequence[HeadSpec], config: LabelConfig) -> None:
        self._heads = [head.name for head in heads]
        self._dwell_ns = max((round(config.head(h.name).min_dwell_s * NS) for h in heads), default=0)
        self.reset()

    def reset(self) -> None:
        self.state = CueState()

    def push(self, events: Sequence[Event], now_ns: int) -> list[str]:
        """Take the events of the tick that ended at `now_ns`; return the blocks that are complete.

        A block is a cue with the empty line after it; the file is VTT_HEADER and all the blocks.
        """
        for event in events:
            at_ns, order = (event.start_ns, 1) if event.end_ns is None else (event.end_ns, 0)
            self.state.changes.append((at_ns, order, event.head, event.label))
        self.state.changes.sort()
        # What began before the last tick's end less the dwell was told by then.
        sure_ns, self.state.now_ns = self.state.now_ns - self._dwell_ns, now_ns
        return self._advance(sure_ns)

    def flush(self) -> list[str]:
        """After the events of EventTracker.flush(): the blocks that were held back."""
        return self._advance(None)

    def _advance(self, until_ns: int | None) -> list[str]:
        """Go through the changes up to `until_ns`; None is all."""
        state, blocks = self.state, []
        while state.changes and (until_ns is None or state.changes[0][0] <= until_ns):
            at_ns, order, head, label = state.changes.pop(0)
            if at_ns // MS > state.since_ns // MS and (text := self._text()):
                blocks.append(f"{_time(state.since_ns)} --> {_time(at_ns)}\n{text}\n\n")
            state.since_ns = max(state.since_ns, at_ns)
            running = state.running.setdefault(head, [])
            if order:
                running.append(label)
            elif label in running:
                running.remove(label)
        return blocks

    def _text(self) -> str:
        running = self.state.running
        lines = [f"{name}: {', '.join(running[name])}" for name in self._heads if running.get(name)]
        # A label may be any text; a line end or markup in it would break the cue.
        return "\n".join(html.escape(" ".join(line.split()), quote=False) for line in lines)


def _time(time_ns: int) -> str:
    """HH:MM:SS.mmm, cut to the millisecond."""
    seconds, ms = divmod(time_ns // MS, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
