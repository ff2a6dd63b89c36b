"""What a person sees of a run that is under way."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from streamfuse.cli.progress import PLAIN_EVERY_NS, RunProgress, clock_text
from streamfuse.types import NS
from tests.hand_clock import HandClock


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=110, color_system=None), out


def test_bar_shows_media_time_speed_and_time_left_of_what_is_asked_for() -> None:
    clock = HandClock()
    screen, out = console(terminal=True)
    with RunProgress(of=2, console=screen, clock=clock) as progress:
        progress.begin("film.mp4", 3600 * NS, 3000 * NS)
        clock.now_ns += 10 * NS
        progress.advance("film.mp4", 3150 * NS)
    shown = re.split(r"[\r\n]|\x1b\[[0-9?]*[A-Za-z]", out.getvalue())
    line = next(text for text in reversed(shown) if "ETA" in text)
    assert "[1/2] film.mp4" in line
    # 150 of 600 s in 10 s, whatever lies before the part that was asked for.
    assert re.search(r"25%\s+2:30/10:00\s+15\.0 x real time\s+ETA 0:30", line), line


def test_pipe_gets_a_line_now_and_then() -> None:
    clock = HandClock()
    screen, out = console(terminal=False)
    with RunProgress(of=1, console=screen, clock=clock) as progress:
        progress.begin("film.mp4", None, 60 * NS)
        progress.advance("film.mp4", 61 * NS)
        assert out.getvalue() == ""
        clock.now_ns += PLAIN_EVERY_NS
        progress.advance("film.mp4", 360 * NS)
        progress.advance("film.mp4", 361 * NS)
        assert out.getvalue() == "film.mp4: 5:00, 10.0 x real time\n"
        progress.end("film.mp4")
        progress.end("film.mp4")


def test_brackets_in_a_name_are_no_markup() -> None:
    screen, out = console(terminal=False)
    RunProgress(console=screen).say("[red]clip[/red] [1].mp4: done")
    assert out.getvalue() == "[red]clip[/red] [1].mp4: done\n"


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0:00"), (NS // 2, "0:01"), (59_400_000_000, "0:59"), (3600 * NS, "1:00:00"), (90 * NS, "1:30")],
)
def test_clock_text(ns: int, text: str) -> None:
    assert clock_text(ns) == text
