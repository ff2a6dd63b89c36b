"""The live table in the terminal: one row per source, made from a record, with no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from streamfuse.types import HeadLabel, Label

State = Literal["connecting", "running", "reconnecting", "stalled", "failed", "ended", "paused"]
Layout = Literal["bars", "plain", "tight"]
LAYOUTS: tuple[Layout, ...] = ("bars", "plain", "tight")
"""Widest first; `tight` fits 80 columns."""

STYLES: dict[State, str] = {
    "connecting": "yellow",
    "running": "green",
    "reconnecting": "yellow",
    "stalled": "red",
    "failed": "bold red",
    "ended": "dim",
    "paused": "dim",
}
BAR = 8
"""Cells of a score bar."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source as the table shows it; numbers are since the source started.

    label       its last label, or None before the first
    age_p50_ns  median age of recent labels (edge to publish), or None
    fps         ticks analysed a second, over the last seconds
    trouble     why it is not running, in a few words, safe to show
    """

    source: str
    state: State
    label: Label | None = None
    age_p50_ns: int | None = None
    fps: float | None = None
    dropped: int = 0
    reconnects: int = 0
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """About the whole table: how long it has run, on which device, which model.

    summary  one line above it: the ages of all sources together
    """

    elapsed_ns: int = 0
    device: str = ""
    model: str = ""
    summary: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)


class StatusBoard:
    """What rich.live.Live shows: the table as wide as the terminal allows, then a line per trouble."""

    def __init__(self, sources: Sequence[SourceStatus], board: BoardStatus | None = None) -> None:
        self._sources, self._board = sources, board or BoardStatus()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._board.summary:
            yield Text(plain(self._board.summary), "bold")
        for layout in LAYOUTS:
            table = status_table(self._sources, layout)
            wanted = Measurement.get(console, options.update(width=10_000), table).maximum
            if wanted <= options.max_width:
                break
        yield table
        yield _caption(self._board)
        for status in self._sources:
            if status.trouble:
                yield Text.assemble((f"{plain(status.source)}: ", "bold"), (plain(status.trouble), "red"))
        for note in self._board.notes:
            yield Text(plain(note), "yellow")


def status_table(sources: Sequence[SourceStatus], layout: Layout = "bars") -> Table:
    """One row per source; the columns of heads are those that any label so far has."""
    heads = list(dict.fromkeys(name for status in sources if status.label for name in status.label.heads))
    heads = heads or ["scene", "emotion"]
    tight = layout == "tight"
    table = Table(expand=False, header_style="bold", pad_edge=False, box=box.SIMPLE_HEAD, border_style="dim")
    table.padding = (0, 1, 0, 0) if tight else (0, 1)
    table.add_column("source", no_wrap=True, max_width=12 if tight else 24)
    table.add_column("state", no_wrap=True)
    for head in [" · ".join(heads)] if tight else heads:
        table.add_column(plain(head), no_wrap=True, overflow="ellipsis", max_width=30 if tight else None)
    for name in ("age p50", "fps", "drops", "reconn")[: 3 if tight else 4]:
        table.add_column(name, justify="right", no_wrap=True)
    for status in sources:
        table.add_row(*_row(status, heads, layout))
    return table


def _row(status: SourceStatus, heads: Sequence[str], layout: Layout) -> list[Text]:
    said = status.label.heads if status.label else {}
    live = status.state == "running"
    age = "–" if status.age_p50_ns is None else f"{status.age_p50_ns / 1e6:.0f} ms"
    if layout == "tight":
        words = [_words(said[head]) for head in heads if head in said]
        answers = [Text(" · ".join(words) or "–", "" if live else "dim")]
    else:
        answers = [_head(said.get(head), bars=layout == "bars", dim=not live) for head in heads]
    numbers = [
        Text(age),
        Text("–" if status.fps is None else f"{status.fps:.1f}"),
        Text(f"{status.dropped:,}", "yellow" if status.dropped else ""),
        Text(f"{status.reconnects:,}", "yellow" if status.reconnects else ""),
    ]
    return [
        Text(plain(status.source), "bold"),
        _state(status),
        *answers,
        *numbers[: 3 if layout == "tight" else 4],
    ]


def _state(status: SourceStatus) -> Text:
    text = Text(f"● {status.state}", STYLES[status.state])
    label = status.label
    if status.state == "running" and label is not None:
        missing = [name for name, presence in label.modalities.items() if presence == "missing"]
        # A face that is not there is an everyday thing; a dead track is not.
        missing = [name for name in missing if name in ("video", "audio")]
        if missing:
            text.append(f" no {', '.join(missing)}", "yellow")
    return text


def _words(said: HeadLabel) -> str:
    if said.labels is None:
        return plain(said.label or "–")
    return ", ".join(plain(label) for label, _ in said.labels[:3]) or "–"


def _head(said: HeadLabel | None, *, bars: bool, dim: bool) -> Text:
    if said is None:
        return Text("–", "dim")
    style = "dim" if dim else ""
    if said.labels is not None:
        words = ", ".join(f"{plain(label)} {score:.2f}" for label, score in said.labels[:3])
        return Text(words or "–", style if words else "dim")
    score = said.score or 0.0
    full = round(min(1.0, max(0.0, score)) * BAR)
    weak = dim or said.label in ("unknown", "none")
    name, name_style = plain(said.label or "–"), "dim" if weak else "bold"
    number = (f" {score:.2f}", "dim" if weak else "")
    if not bars:
        return Text.assemble((name, name_style), number)
    bar = [("━" * full, "dim" if weak else "cyan"), ("━" * (BAR - full), "bright_black")]
    return Text.assemble((f"{name:<10} ", name_style), *bar, number)


def _caption(board: BoardStatus) -> Text:
    seconds = board.elapsed_ns // 1_000_000_000
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return Text(" · ".join(filter(None, (clock, plain(board.device), plain(board.model)))), "dim")


def plain(text: str | None) -> str:
    """Names and messages come from outside: no control character of theirs may reach the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text or "")
