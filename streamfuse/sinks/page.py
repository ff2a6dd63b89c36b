"""A timeline as one page: `<stem>.html`, self-contained, no network, no server.

The heads over time, the longest scenes, the strongest moments, the shares; the recording itself plays
beside them when it lies where the page can see it. Everything that comes from a file, a name or a model
goes through jinja2's autoescape or its tojson, and the page's own policy forbids it to load anything.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import jinja2
import numpy as np

from streamfuse.sinks.cells import EMPTY, FULL, Grid, PeakPlane
from streamfuse.sinks.durable import PartFile, Patience
from streamfuse.sinks.timeline import MAX_LANES, Timeline
from streamfuse.types import NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamfuse.types import Event, Label

PALETTE = tuple(f"c{number}" for number in range(12))
"""Colours in the style sheet; further labels take them again."""
USUAL_COLOURS = {
    label: colour
    for colour, labels in {
        "c0": ("sad", "sadness"),
        "c1": ("surprise", "surprised"),
        "c2": ("disgust", "disgusted"),
        "c3": ("angry", "anger"),
        "c4": ("fear", "fearful"),
        "c5": ("calm",),
        "c10": ("happy", "happiness"),
        "c11": ("neutral",),
    }.items()
    for label in labels
}
NO_ANSWER = ("unknown", "none")
"""Labels that are no answer: grey, and last in every list."""
MAX_PAGE_BYTES = 1_400_000
"""Of cells, as text; merging goes on until they fit, so that the page opens at once."""


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the page says beside the labels.

    name   the recording, as people call it
    model  the model's name, with what tells it from others
    media  the recording itself, played beside the timeline if it lies near the page
    """

    name: str
    model: str = ""
    media: Path | None = None


class TimelinePage:
    """`<stem>.html`, written when the recording is complete.

    It cannot be appended to: a resumed run gives it the labels and events so far once more, and the page is
    then the same as that of an undisturbed run.
    """

    replays: ClassVar[bool] = True

    def __init__(self, path: Path, facts: PageFacts, *, patience: Patience | None = None) -> None:
        self.path = path
        self._facts = facts
        self._file = PartFile(path, patience=patience)
        self._settled = False
        self.timeline = Timeline()

    def write_label(self, label: Label) -> None:
        self.timeline.push_label(label)

    def write_event(self, event: Event) -> None:
        self.timeline.push_event(event)

    def mark(self) -> None:
        """It replays."""

    def settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._file.write(render_page(self.timeline, self._facts, self.path) + "\n")

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


def render_page(timeline: Timeline, facts: PageFacts, path: Path) -> str:
    """The page as text; `path` is where it will lie, for the way from there to the recording."""
    data = page_data(timeline)
    return _template().render(
        facts=facts,
        media=media_link(facts.media, path) if facts.media else None,
        duration_ns=timeline.end_ns,
        ticks=timeline.shares.ticks,
        sessions=len(timeline.sessions),
        data=data,
        heads=[_head_tables(timeline, head["name"], head) for head in data["heads"]],
    )


def page_data(timeline: Timeline) -> dict[str, Any]:
    """What the page's script draws: cells in base64, two bytes a cell for a head, one for a lane."""
    grid = timeline.grid or Grid(NS // 10)
    lanes = {name: _chosen_lanes(timeline, name) for name in timeline.many}
    planes = 2 * len(timeline.one) + sum(map(len, lanes.values())) + len(timeline.presence)
    while grid.used * planes * 4 / 3 > MAX_PAGE_BYTES:
        grid.halve()
    used = grid.used
    heads: list[dict[str, Any]] = []
    for name in timeline.shares.heads():
        colours = colours_of([label for label, _ in _ranked(timeline, name)])
        if name in timeline.one:
            track = timeline.one[name]
            heads.append(
                {
                    "name": name,
                    "kind": "one",
                    "labels": track.labels,
                    "colours": [colours[label] for label in track.labels],
                    "codes": _packed(track.plane.codes[:used]),
                    "levels": _packed(track.plane.levels[:used]),
                }
            )
        else:
            shown = [
                {"label": label, "colour": colours[label], "levels": _packed(plane.levels[:used])}
                for label, plane in lanes.get(name, {}).items()
            ]
            heads.append({"name": name, "kind": "many", "lanes": shown})
    presence = [{"name": name, "codes": _packed(p.codes[:used])} for name, p in timeline.presence.items()]
    return {
        "duration": timeline.end_ns / NS,
        "cell": grid.cell_ns / NS,
        "cells": used,
        "full": FULL,
        "empty": EMPTY,
        "sessions": [[start_ns / NS, number] for start_ns, number in timeline.sessions],
        "heads": heads,
        "presence": presence,
    }


def colours_of(labels: list[str]) -> dict[str, str]:
    """Label -> its colour's name in the style sheet: emotions by custom, the others in turn."""
    chosen = {label: label for label in labels if label in NO_ANSWER}
    for label in labels:
        usual = USUAL_COLOURS.get(label.lower())
        if usual is not None and usual not in chosen.values():
            chosen.setdefault(label, usual)
    free = [name for name in PALETTE if name not in chosen.values()] or list(PALETTE)
    for turn, label in enumerate(label for label in labels if label not in chosen):
        chosen[label] = free[turn % len(free)]
    return chosen


def media_link(media: Path, page: Path) -> str | None:
    """The way from the page to the recording, if it lies beside, below or one folder above it."""
    way = Path(os.path.relpath(media.absolute(), page.absolute().parent))
    return None if way.parts.count("..") > 1 else quote(way.as_posix(), errors="surrogateescape")


def clock_text(ns: int) -> str:
    """1:02:03.4, or 2:03.4 below an hour."""
    tenths = ns * 10 // NS
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{tenths // 10:02d}.{tenths % 10}"


def length_text(ns: int) -> str:
    """4.2 s, 3 min 05 s, 2 h 05 min."""
    seconds = ns / NS
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _head_tables(timeline: Timeline, name: str, drawn: dict[str, Any]) -> dict[str, Any]:
    ranked = _ranked(timeline, name)
    colours = colours_of([label for label, _ in ranked])
    return {
        "name": name,
        "kind": drawn["kind"],
        "shares": [(label, colours[label], share) for label, share in ranked],
        "longest": [(event, colours.get(event.label, "c0")) for event in timeline.longest(name)],
        "strongest": [(event, colours.get(event.label, "c0")) for event in timeline.strongest(name)],
    }


def _ranked(timeline: Timeline, head: str) -> list[tuple[str, float]]:
    """Shares, largest first, with the labels that are no answer at the end."""
    ranked = timeline.shares.ranked(head)
    return sorted(ranked, key=lambda item: item[0] in NO_ANSWER)


def _chosen_lanes(timeline: Timeline, head: str) -> dict[str, PeakPlane]:
    lanes = timeline.many[head]
    shown = [label for label, _ in timeline.shares.ranked(head) if label in lanes][:MAX_LANES]
    return {label: lanes[label] for label in shown}


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.rint(values).astype(np.uint8).tobytes()).decode("ascii")


@cache
def _template() -> jinja2.Template:
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("streamfuse.sinks", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Callable[[int], str]] = {"clock": clock_text, "length_text": length_text}
    page.filters.update(filters)
    return page.get_template("timeline.html")
