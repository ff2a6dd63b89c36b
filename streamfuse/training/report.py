"""An evaluation as a table, as JSON, and as one self-contained page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from streamfuse.errors import OutputError
from streamfuse.model.runtime import Model
from streamfuse.training.assess import CLEAN, Measures

SCHEMA = "streamfuse.evaluation/1"


def page_of(model: Model, found: Sequence[Measures], dropped: Sequence[str], command: str) -> str:
    """The page: no script, no network, and everything that came from a file is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    spec = model.spec
    facts = (
        f"{model.path.name}, weights {spec.weights_sha256[:16] or 'of somebody else'}, preset {spec.preset}"
    )
    if spec.network is not None:
        facts += f", fusion {spec.network.fusion}"
    return environment.get_template("report.html").render(
        title=f"Evaluation of {spec.name}", facts=facts, command=command, sections=_sections(found),
        dropped=list(dropped),
    )  # fmt: skip


def _sections(found: Sequence[Measures]) -> list[dict[str, Any]]:
    sections = []
    for clean in (one for one in found if one.condition == CLEAN):
        mine = [one for one in found if (one.dataset, one.head) == (clean.dataset, clean.head)]
        others = [one for one in mine if one.condition != CLEAN]
        section: dict[str, Any] = {"clean": clean, "others": others}
        if clean.shown is not None and clean.raw is not None:
            section |= {"reliability": _reliability(clean), "deciles": _deciles(clean), "bars": _bars(mine)}
        sections.append(section)
    return sections


def _svg(width: int, height: int, inside: Sequence[str], what: str) -> Markup:
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(what)}">'
    return Markup(head + "".join(inside) + "</svg>")


def _axes(x: float, y: float, size: float, high: float, below: str, beside: str) -> list[str]:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = y + high * (1 - share)
        lines.append(f'<line x1="{x}" x2="{x + size}" y1="{at}" y2="{at}" stroke="var(--line)"/>')
        lines.append(
            f'<text class="faint" x="{x - 6}" y="{at + 4}" text-anchor="end">{100 * share:.0f}</text>'
        )
    lines.append(f'<text class="faint" x="{x + size}" y="{y + high + 30}" text-anchor="end">{below}</text>')
    lines.append(f'<text class="faint" x="{x - 28}" y="{y - 10}">{beside}</text>')
    return lines


def _reliability(one: Measures) -> Markup:
    x, y, size, high = 34.0, 20.0, 270.0, 200.0
    parts = _axes(x, y, size, high, "probability %", "right %")
    parts.append(
        f'<line x1="{x}" y1="{y + high}" x2="{x + size}" y2="{y}" '
        'stroke="var(--faint)" stroke-dasharray="4 4"/>'
    )
    for sure, right, share in one.reliability:
        radius = 2.5 + 12 * math.sqrt(share)
        place = f'cx="{x + size * sure:.1f}" cy="{y + high * (1 - right):.1f}" r="{radius:.1f}"'
        told = f"{100 * share:.0f} % of answers: {100 * sure:.0f} % sure, {100 * right:.0f} % right"
        parts.append(f'<circle {place} fill="var(--bar)" fill-opacity="0.75"><title>{told}</title></circle>')
    for share in (0.0, 0.5, 1.0):
        place = f'x="{x + size * share}" y="{y + high + 16}" text-anchor="middle"'
        parts.append(f'<text class="faint" {place}>{100 * share:.0f}</text>')
    return _svg(320, 262, parts, "Reliability diagram")


def _deciles(one: Measures) -> Markup:
    x, y, size, high = 34.0, 20.0, 270.0, 200.0
    parts = _axes(x, y, size, high, "", "right %")
    assert one.raw is not None and one.shown is not None  # what _sections() asked
    for row, (name, values, colour) in enumerate(
        (("shown", one.shown.by_decile, "var(--bar)"), ("raw", one.raw.by_decile, "var(--faint)"))
    ):
        points = [
            f"{x + size * (n + 0.5) / 10:.1f},{y + high * (1 - value):.1f}"
            for n, value in enumerate(values)
            if value == value
        ]
        dashes = "" if name == "shown" else ' stroke-dasharray="5 4"'
        line = " ".join(points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        left, top = x + 110 * row, y + high + 20
        place = f'x1="{left}" x2="{left + 22}" y1="{top - 4}" y2="{top - 4}"'
        parts.append(f'<line {place} stroke="{colour}" stroke-width="2"{dashes}/>')
        label = "labels shown" if name == "shown" else "winners"
        parts.append(f'<text x="{left + 27}" y="{top}">{label}</text>')
    return _svg(320, 262, parts, "Share of right answers over a stretch")


def _bars(mine: Sequence[Measures]) -> Markup:
    """Right per tick under each condition, a line where the clean one is."""
    x, wide, row = 150.0, 640.0, 22.0
    clean = next(one for one in mine if one.condition == CLEAN).tick["accuracy"]
    parts = []
    for n, one in enumerate(mine):
        value, y = one.tick["accuracy"], row * n + 4
        parts.append(f'<text x="{x - 8}" y="{y + 13}" text-anchor="end">{escape(one.condition)}</text>')
        colour = "var(--bar)" if one.condition == CLEAN else "var(--bar2)"
        parts.append(
            f'<rect x="{x}" y="{y}" width="{wide * value:.1f}" height="{row - 6}" rx="2" fill="{colour}"/>'
        )
        parts.append(f'<text x="{x + wide + 12}" y="{y + 13}">{100 * value:.1f} %</text>')
    at, end = x + wide * clean, row * len(mine)
    parts.append(
        f'<line x1="{at}" x2="{at}" y1="0" y2="{end}" stroke="var(--faint)" stroke-dasharray="3 3"/>'
    )
    return _svg(860, int(end + 4), parts, "Share of right ticks under each condition")


def as_json(model: Model, found: Sequence[Measures], dropped: Sequence[str], command: str) -> str:
    """One JSON document; measures that do not apply are null."""
    said = {
        "schema": SCHEMA,
        "model": {
            "name": model.spec.name,
            "sha256": model.sha256,
            "weights_sha256": model.spec.weights_sha256,
        },
        "command": command,
        "dropped": list(dropped),
        "measures": [_plain(one.as_dict()) for one in found],
    }
    return json.dumps(said, indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def show_measures(found: Sequence[Measures], console: Console) -> None:
    """The main figures, a table for each data set and head."""
    for dataset, head in dict.fromkeys((one.dataset, one.head) for one in found):
        table = Table(
            title=f"{head}, {dataset}: per cent; found in s; flips a minute",
            title_justify="left",
            box=SIMPLE,
            padding=(0, 1, 0, 0),
        )
        for name in ("", "clips", "clip", "tick", "UAR", "F1", "ECE", "loss", "found", "flips"):
            table.add_column(name, justify="right" if name else "left", no_wrap=bool(name))
        for one in found:
            if (one.dataset, one.head) == (dataset, head):
                table.add_row(*_row(one))
        console.print(table)


def _row(one: Measures) -> list[str]:
    tick = one.tick
    first = one.clip.get("accuracy", tick.get("map", math.nan))
    shares = (first, *(tick.get(name, math.nan) for name in ("accuracy", "uar", "macro_f1", "ece")))
    after = one.shown.median_s if one.shown else math.nan
    flips = one.shown.flips_a_minute if one.shown else math.nan
    cells = [_cell(100 * share, 1) for share in shares]
    last = [_cell(tick.get("log_loss", math.nan), 2), _cell(after, 2), _cell(flips, 1)]
    return [one.condition, str(one.clips), *cells, *last]


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def write_text(path: Path, text: str) -> None:
    """raises  OutputError"""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError("a report must be writable", got=error.strerror, where=path) from error
