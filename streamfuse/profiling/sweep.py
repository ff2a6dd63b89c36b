"""A grid of settings: every combination measured, one table, one plot, and what to choose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Literal

import jinja2
import msgspec

from streamfuse.errors import ConfigError
from streamfuse.profiling.charts import Chart, round_ticks
from streamfuse.profiling.plots import FULL
from streamfuse.profiling.schema import Report

SCHEMA: Literal["streamfuse.sweep/1"] = "streamfuse.sweep/1"
MAX_CELLS = 200
HELD = 0.01
"""A setting holds its load when fewer than one tick in a hundred is dropped."""
SHORT_NAMES = {
    "threads": "model.threads",
    "device": "model.device",
    "model": "model.path",
    "wait": "ticks.max_wait_ms",
    "batch": "model.max_batch",
    "batch_wait": "model.max_batch_wait_ms",
    "decode_threads": "decode.threads",
}
"""What stands for a key of the configuration; any other key may be named in full."""
OF_THE_PLAN = ("hop", "window", "streams")
"""What is no key of the configuration: the model's hop (ms) and window (frames), the number of streams."""

Settings = dict[str, str]


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One combination and what it gave; `error` where it could not be measured.

    age_p50_ms, age_p99_ms  of the edge age
    p99_is_max              fewer than 100 answers: what stands for the p99 is the largest
    late_ms                 hop + p99: how late the answer about a moment is, but for one in a hundred
    """

    settings: Settings
    error: str | None = None
    hop_ms: float | None = None
    streams: int | None = None
    age_p50_ms: float | None = None
    age_p99_ms: float | None = None
    p99_is_max: bool = False
    late_ms: float | None = None
    dropped_share: float | None = None
    missed_share: float | None = None
    cpu_s_per_s: float | None = None
    cores: float | None = None
    rss_bytes: int | None = None

    @property
    def name(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.settings.items()) or "as configured"

    @property
    def holds(self) -> bool:
        return self.dropped_share is not None and self.dropped_share < HELD


class Sweep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema: Literal["streamfuse.sweep/1"]
    created: str
    source: str
    duration_s: float
    target_ms: float | None
    chosen: int | None
    """Place of the cheapest cell that holds its load and, where there is one, the target."""
    cells: list[Cell]


def parse_grid(texts: Sequence[str]) -> list[Settings]:
    """`hop=50,100 threads=1,2` -> every combination, the last varying fastest. Raises ConfigError."""
    axes: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        parts = [value.strip() for value in values.split(",")]
        if not equals or not name or not all(parts):
            raise ConfigError(
                "--vary takes NAME=VALUE,VALUE", got=repr(text), hint="such as --vary hop=50,100"
            )
        if name in axes:
            raise ConfigError("--vary names each setting once", got=f"{name} twice")
        if name not in OF_THE_PLAN and name not in SHORT_NAMES and "." not in name:
            known = ", ".join((*OF_THE_PLAN, *SHORT_NAMES))
            raise ConfigError("--vary must name a setting", got=name, hint=f"{known}, or a key such as a.b")
        axes[name] = parts
    cells = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if len(cells) > MAX_CELLS:
        raise ConfigError(f"a sweep has at most {MAX_CELLS} combinations", got=len(cells))
    return cells


def cell_of(settings: Settings, report: Report) -> Cell:
    edge = report.ages_ms["edge_age"]
    late_ms = edge.p99 if edge.p99 is not None else edge.max
    due = report.answers + report.dropped
    return Cell(
        settings=settings,
        hop_ms=report.hop_ms,
        streams=report.streams_wanted,
        age_p50_ms=edge.p50,
        age_p99_ms=late_ms,
        p99_is_max=edge.p99 is None,
        late_ms=round(report.hop_ms + late_ms, 6),
        dropped_share=round(report.dropped / due, 6),
        missed_share=round((report.deadline_misses or 0) / due, 6),
        cpu_s_per_s=report.cpu_s_per_media_s,
        cores=round(sum(use.cpu_share for use in report.processes), 4),
        rss_bytes=report.rss_bytes,
    )


def choose(cells: Sequence[Cell], target_ms: float | None) -> int | None:
    """The cheapest cell, in processor time for a second of a stream, that holds load and target.

    Without a target, the one whose answers are least late.
    """
    able = [i for i, cell in enumerate(cells) if cell.holds]
    if target_ms is None:
        return min(able, key=lambda i: cells[i].late_ms or 0.0, default=None)
    able = [i for i in able if (cells[i].late_ms or 0.0) <= target_ms]
    return min(able, key=lambda i: (cells[i].cpu_s_per_s or 0.0, cells[i].late_ms or 0.0), default=None)


def plot(sweep: Sweep) -> str:
    """Cost against lateness: down and to the left is better."""
    shown = [(i, cell) for i, cell in enumerate(sweep.cells) if cell.late_ms is not None]
    if not shown:
        return ""
    most = max(cell.late_ms or 0.0 for _, cell in shown)
    right = round_ticks(0, max(most, sweep.target_ms or 0.0))[-1]
    top = round_ticks(0, max(cell.cpu_s_per_s or 0.0 for _, cell in shown))[-1]
    titles = ("how late an answer is at p99 (hop + age), ms", "processor s for a second of a stream")
    chart = Chart(FULL, 380, (0, right), (0, top), *titles, left=64)
    if sweep.target_ms is not None:
        chart.upright(sweep.target_ms, "mark deadline", "target")
    for place, cell in shown:
        css = "chosen" if place == sweep.chosen else "s0" if cell.holds else "s6"
        x, y = cell.late_ms or 0.0, cell.cpu_s_per_s or 0.0
        dropped = f", {cell.dropped_share:.1%} dropped" if cell.dropped_share else ""
        chart.dots([(x, y, f"{cell.name}: {x:.1f} ms, {y:.3f} s/s{dropped}")], css, 6)
        if len(shown) <= 24:
            anchor, shift = ("end", -9) if chart.at_x(x) > FULL - 260 else ("start", 9)
            at = f'x="{chart.at_x(x) + shift}" y="{chart.at_y(y) + 4}" text-anchor="{anchor}"'
            chart.marks.append(f'<text class="note" {at}>{escape(cell.name)}</text>')
    return chart.svg(title="Cost against lateness")


def render_sweep(sweep: Sweep) -> str:
    """sweep.html as text."""
    return _template().render(sweep=sweep, svg=plot(sweep))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("streamfuse", "profiling"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("sweep.html")
