"""Charts as SVG text: a frame with round ticks, and marks in it. Colours are classes of the page's style.

Everything that is drawn is a number or a text of ours; what comes from outside goes through escape().
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 40
TICKS = 5


def round_ticks(low: float, high: float, wanted: int = TICKS) -> list[float]:
    """About so many round numbers (1, 2, 5 times a power of ten) from at most `low` to at least `high`."""
    span = max(high - low, 1e-9)
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    """A number on an axis: no needless digits."""
    if value == 0:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


@dataclass
class Chart:
    """A frame from (x0, y0) to (x1, y1) in the data's own numbers."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str = ""
    y_title: str = ""
    left: int = LEFT
    marks: list[str] = field(default_factory=list)

    def at_x(self, value: float) -> float:
        low, high = self.x
        return round(self.left + (value - low) / ((high - low) or 1) * (self.width - self.left - RIGHT), 2)

    def at_y(self, value: float) -> float:
        low, high = self.y
        inner = self.height - TOP - BOTTOM
        return round(TOP + (1 - (value - low) / ((high - low) or 1)) * inner, 2)

    @property
    def floor(self) -> int:
        return self.height - BOTTOM

    def line(self, points: Iterable[tuple[float, float]], css: str, *, step: bool = False) -> None:
        """A line through the points; step: each value holds until the next."""
        path, before = [], None
        for px, py in points:
            x, y = self.at_x(px), self.at_y(py)
            if before is None:
                path.append(f"M{x} {y}")
            else:
                path.append(f"H{x}V{y}" if step else f"L{x} {y}")
            before = y
        if path:
            self.marks.append(f'<path class="line {css}" d="{"".join(path)}"/>')

    def area(self, points: Sequence[tuple[float, float]], css: str) -> None:
        if not points:
            return
        base = self.at_y(max(self.y[0], 0.0))
        top = "".join(f"L{self.at_x(px)} {self.at_y(py)}" for px, py in points)
        start, end = self.at_x(points[0][0]), self.at_x(points[-1][0])
        self.marks.append(f'<path class="area {css}" d="M{start} {base}{top}L{end} {base}Z"/>')

    def band(self, points: Sequence[tuple[float, float, float]], css: str) -> None:
        """Between two values at each x."""
        if not points:
            return
        there = "L".join(f"{self.at_x(px)} {self.at_y(high)}" for px, _, high in points)
        back = "L".join(f"{self.at_x(px)} {self.at_y(low)}" for px, low, _ in reversed(points))
        self.marks.append(f'<path class="area {css}" d="M{there}L{back}Z"/>')

    def box(self, x0: float, x1: float, y0: float, y1: float, css: str, tip: str = "") -> None:
        left, right, low, high = self.at_x(x0), self.at_x(x1), self.at_y(y0), self.at_y(y1)
        size = (
            f'x="{left}" y="{high}" width="{max(0.6, right - left):.2f}" height="{max(0.0, low - high):.2f}"'
        )
        self.marks.append(f'<rect class="{css}" {size}{_tip(tip)}/>')

    def dots(self, points: Iterable[tuple[float, float, str]], css: str, radius: float = 2.2) -> None:
        for px, py, tip in points:
            place = f'cx="{self.at_x(px)}" cy="{self.at_y(py)}" r="{radius}"'
            self.marks.append(f'<circle class="{css}" {place}{_tip(tip)}/>')

    def upright(self, value: float, css: str, text: str = "", tip: str = "", row: int = 0) -> None:
        """A vertical line, with a word at its top, so many rows down."""
        x, y = self.at_x(value), TOP + 10 + 15 * row
        self.marks.append(f'<line class="{css}" x1="{x}" x2="{x}" y1="{TOP}" y2="{self.floor}"{_tip(tip)}/>')
        if text:
            right = x > self.width - 120
            anchor, shift = ("end", -4) if right else ("start", 4)
            place = f'x="{x + shift}" y="{y}" text-anchor="{anchor}"'
            self.marks.append(f'<text class="note" {place}>{escape(text)}</text>')

    def below(self, value: float, css: str, tip: str = "") -> None:
        """A short mark under the axis, for what happens often."""
        x, y = self.at_x(value), self.floor
        self.marks.append(f'<line class="{css}" x1="{x}" x2="{x}" y1="{y - 9}" y2="{y}"{_tip(tip)}/>')

    def level(self, value: float, css: str, text: str = "") -> None:
        """A horizontal line, with a word at its right end."""
        y = self.at_y(value)
        self.marks.append(
            f'<line class="{css}" x1="{self.left}" x2="{self.width - RIGHT}" y1="{y}" y2="{y}"/>'
        )
        if text:
            x = self.width - RIGHT
            self.marks.append(
                f'<text class="note" x="{x}" y="{y - 4}" text-anchor="end">{escape(text)}</text>'
            )

    def svg(self, *, y_ticks: bool = True, y_percent: bool = False, title: str = "") -> str:
        """The whole picture; its title is what a screen reader says."""
        grid = []
        for tick in round_ticks(*self.x, wanted=max(3, self.width // 110)):
            if self.x[0] - 1e-9 <= tick <= self.x[1] + 1e-9:
                x = self.at_x(tick)
                grid.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{self.floor}"/>')
                grid.append(f'<text x="{x}" y="{self.floor + 16}" text-anchor="middle">{short(tick)}</text>')
        for tick in round_ticks(*self.y) if y_ticks else ():
            if self.y[0] - 1e-9 <= tick <= self.y[1] + 1e-9:
                y, said = self.at_y(tick), f"{tick:.0%}" if y_percent else short(tick)
                grid.append(
                    f'<line class="grid" x1="{self.left}" x2="{self.width - RIGHT}" y1="{y}" y2="{y}"/>'
                )
                grid.append(f'<text x="{self.left - 7}" y="{y + 4}" text-anchor="end">{said}</text>')
        x_middle, y_middle = (self.left + self.width - RIGHT) / 2, (TOP + self.floor) / 2
        place = f'x="{x_middle}" y="{self.height - 6}" text-anchor="middle"'
        grid.append(f'<text class="axis" {place}>{self.x_title}</text>')
        if self.y_title:
            turn = f'transform="translate(14 {y_middle}) rotate(-90)"'
            grid.append(f'<text class="axis" {turn} text-anchor="middle">{self.y_title}</text>')
        inner = "".join(grid + self.marks)
        said = f"<title>{escape(title)}</title>" if title else ""
        return f'<svg viewBox="0 0 {self.width} {self.height}" role="img">{said}{inner}</svg>'


def _tip(text: str) -> str:
    return f' data-tip="{escape(text)}"' if text else ""
