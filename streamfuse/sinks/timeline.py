"""What a timeline shows, gathered as labels go by, in bounded memory whatever the length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamfuse.sinks.cells import EMPTY, FULL, CodePlane, Grid, PeakPlane, level_of
from streamfuse.sinks.summary import LabelShares

if TYPE_CHECKING:
    from streamfuse.types import Event, HeadLabel, Label, Presence

MAX_LANES = 24
"""Labels of one many-label head that get a lane; those said most."""
MAX_SESSIONS = 500
TOP = 10
PRESENCES: tuple[Presence, ...] = ("ok", "held", "missing")


class Timeline:
    """Push every label and event of a recording, then draw it (page.py)."""

    def __init__(self) -> None:
        self.shares = LabelShares()
        self.end_ns = 0
        self.sessions: list[tuple[int, int]] = []
        """(start_ns, number) of each session."""
        self.grid: Grid | None = None
        self.one: dict[str, _OneTrack] = {}
        self.many: dict[str, dict[str, PeakPlane]] = {}
        self.presence: dict[str, CodePlane] = {}
        self._ends: dict[str, dict[str, list[Event]]] = {}

    def push_label(self, label: Label) -> None:
        head = label.head
        if self.grid is None:
            self.grid = Grid(head.hop_ns)
        self.shares.push(label)
        self.end_ns = max(self.end_ns, head.end_ns)
        if not self.sessions or (self.sessions[-1][1] != head.session and len(self.sessions) < MAX_SESSIONS):
            self.sessions.append((head.start_ns, head.session))
        cell = self.grid.cell(head.start_ns)
        for name, said in label.heads.items():
            self._push_head(self.grid, cell, name, said)
        for view, presence in label.modalities.items():
            if view not in self.presence:
                self.presence[view] = self.grid.code_plane()
            self.presence[view].put(cell, PRESENCES.index(presence), FULL)

    def push_event(self, event: Event) -> None:
        if event.kind != "end" or event.end_ns is None:
            return
        kept = self._ends.setdefault(event.head, {"longest": [], "strongest": []})
        for order, key in (("longest", _by_length), ("strongest", _by_peak)):
            kept[order].append(event)
            if len(kept[order]) >= 8 * TOP:
                kept[order] = sorted(kept[order], key=key)[:TOP]

    def longest(self, head: str) -> list[Event]:
        return sorted(self._ends.get(head, {}).get("longest", []), key=_by_length)[:TOP]

    def strongest(self, head: str) -> list[Event]:
        return sorted(self._ends.get(head, {}).get("strongest", []), key=_by_peak)[:TOP]

    def _push_head(self, grid: Grid, cell: int, name: str, said: HeadLabel) -> None:
        if said.labels is None:
            if name not in self.one:
                self.one[name] = _OneTrack(grid.code_plane(), [])
            self.one[name].put(cell, said)
            return
        lanes = self.many.setdefault(name, {})
        for label, score in said.labels:
            if label not in lanes and len(lanes) < 4 * MAX_LANES:
                lanes[label] = grid.peak_plane()
            if label in lanes:
                lanes[label].put(cell, level_of(score))


@dataclass(frozen=True, slots=True)
class _OneTrack:
    """A head that says one label at a time."""

    plane: CodePlane
    labels: list[str]

    def put(self, cell: int, said: HeadLabel) -> None:
        if said.label is None:
            return
        if said.label not in self.labels and len(self.labels) < EMPTY - 1:
            self.labels.append(said.label)
        code = self.labels.index(said.label) if said.label in self.labels else EMPTY - 1
        self.plane.put(cell, code, level_of(said.score))


def _by_length(event: Event) -> tuple[int, int, str]:
    return (event.start_ns - (event.end_ns or event.start_ns), event.start_ns, event.label)


def _by_peak(event: Event) -> tuple[float, int, str]:
    return (-round(event.peak, 4), event.start_ns, event.label)
