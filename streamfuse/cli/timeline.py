"""Labels over time in a terminal: a row per head, a colour per label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from streamfuse.cli.progress import clock_text
from streamfuse.sinks.summary import spoken
from streamfuse.types import NS, Event, Label

# Told apart on dark and light backgrounds, and each label has its own letter for those without colour.
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta")
QUIET = {"unknown": "·", "none": "-"}
MAX_EVENTS = 12


def show_timeline(console: Console, labels: Sequence[Label], events: Sequence[Event]) -> None:
    """Print each head's labels over the recording, their shares, and the first events.

    A column is the most frequent label of its part of the time.
    """
    if not labels:
        console.print("no ticks, so no labels")
        return
    names = list(labels[0].heads)
    room = max(len(name) for name in names) + 2
    width = max(10, min(console.width - room - 2, len(labels)))
    for name in names:
        _show_head(console, name, labels, room, width)
    first, last = labels[0].head.start_ns, labels[-1].head.end_ns
    start, end = clock_text(first), clock_text(last)
    console.print(" " * room + start + " " * max(1, width - len(start) - len(end)) + end, style="dim")
    _show_events(console, events)


def _show_head(console: Console, name: str, labels: Sequence[Label], room: int, width: int) -> None:
    said = [spoken(label.heads[name]) for label in labels]
    counts = Counter(word for words in said for word in words)
    styles = {word: COLOURS[i % len(COLOURS)] for i, (word, _) in enumerate(counts.most_common())}
    signs = _signs([word for word, _ in counts.most_common()])
    row = Text(name.ljust(room))
    for column in range(width):
        start = column * len(said) // width
        part = said[start : max(start + 1, (column + 1) * len(said) // width)]
        words = Counter(word for tick in part for word in tick[:1]).most_common(1)
        word = words[0][0] if words else ""
        row.append(
            signs.get(word, " "), style=f"reverse {styles[word]}" if word and word not in QUIET else "dim"
        )
    console.print(row, soft_wrap=True)
    key = Text(" " * room)
    for word, count in counts.most_common(6):
        key.append(f"{signs[word]} {word} {count / len(said):.0%}  ", style=styles[word])
    console.print(key, soft_wrap=True)


def _signs(words: Sequence[str]) -> dict[str, str]:
    """One letter for each label: of its own where one is free."""
    signs = {word: QUIET[word] for word in words if word in QUIET}
    for word in words:
        if word not in signs:
            free = (c for c in [*word.lower(), *word.upper(), *"0123456789"] if c.isalnum())
            signs[word] = next((c for c in free if c not in signs.values()), "*")
    return signs


def _show_events(console: Console, events: Sequence[Event]) -> None:
    ended = [event for event in events if event.kind == "end" and event.end_ns is not None]
    for event in ended[:MAX_EVENTS]:
        span = f"{event.start_ns / NS:7.1f} s to {(event.end_ns or 0) / NS:.1f} s"
        console.print(f"{span}  {event.head}: {event.label} (at most {event.peak:.2f})", markup=False)
    if len(ended) > MAX_EVENTS:
        console.print(f"          and {len(ended) - MAX_EVENTS} more")
