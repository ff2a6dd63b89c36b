"""Draws docs/images/grafana.png: what the dashboard's queries give of a run, each panel at its place.

    python benchmarks/grafana_picture.py [--seconds 120] [--model FILE] name=SOURCE...

Not by Grafana: a real Prometheus (Debian's package) scrapes a real run, answers every query of
dashboards/streamfuse.json, and a browser draws the answers under the titles and with the units of that file.
Files begin again and again; one source more is a camera that is not there, and events are told to a receiver.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.integration.browser import chromium
from tests.integration.live import LiveRun
from tests.integration.prometheus import BOARD, Prometheus, Series, prometheus
from tests.notify.receivers import HttpReceiver

COLUMN, ROW, GAP = 62, 34, 8
"""Pixels: a 24th of the width, a unit of height, and between panels."""
Line = tuple[str, str, list[tuple[float, float]]]
"""Name, unit, (time, value) of one series."""
COLOURS = (
    *("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c"),
    *("#b877d9", "#8ab8ff", "#ffb357", "#96d98d", "#ca95e5"),
)
LEGEND = 6
"""Series that are named below a panel."""
CSS = """
body { margin: 0; background: #111217; color: #ccccdc; font: 13px system-ui, "DejaVu Sans", sans-serif; }
div { position: absolute; box-sizing: border-box; overflow: hidden; }
.panel { background: #181b1f; border: 1px solid #2a2d34; border-radius: 3px; padding: 6px 10px; }
.row { font-weight: 600; font-size: 15px; padding: 8px 4px; }
h2 { margin: 0; font-size: 13px; font-weight: 550; }
strong { display: block; text-align: center; font-size: 32px; font-weight: 550; margin-top: 34px; }
strong { color: #73bf69; }
svg { display: block; }
text { fill: #9fa3ad; font-size: 11px; }
p { margin: 2px 0 0; font-size: 11px; line-height: 1.35; }
i { display: inline-block; width: 12px; height: 3px; margin: 0 4px 3px 10px; }
"""


def written(value: float, unit: str) -> str:
    """A number with its unit, as Grafana's formats of that name are."""
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    return f"{value:.3g}" + {"ops": " /s", "ppm": " ppm"}.get(unit, "")


def points(series: Series) -> list[tuple[float, float]]:
    told = [(float(at), float(value)) for at, value in series["values"]]
    return [(at, value) for at, value in told if math.isfinite(value)]


def named(legend: str, series: Series) -> str:
    for key, value in series["metric"].items():
        legend = legend.replace("{{" + key + "}}", value)
    return legend


def unit_of(panel: dict[str, Any], ref: str, name: str) -> str:
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    for rule in panel["fieldConfig"].get("overrides", ()):
        chosen = rule["matcher"]
        hit = chosen["options"] == ref or (chosen["id"] == "byRegexp" and name.endswith("restarts/h"))
        unit = next((p["value"] for p in rule["properties"] if p["id"] == "unit" and hit), unit)
    return str(unit)


def stat(lines: list[Line]) -> str:
    return (
        "<strong>" + " / ".join(written(line[-1][1], unit) for _, unit, line in lines if line) + "</strong>"
    )


def states(lines: list[Line], size: tuple[int, int], span: tuple[float, float]) -> str:
    """One bar a source: green while it is up."""
    wide, high = size[0] - 90, min(44, (size[1] - 44) // max(1, len(lines)))
    drawn = ""
    for place, (name, _, line) in enumerate(lines):
        top = place * high + 4
        drawn += f'<text x="0" y="{top + high / 2}">{html.escape(name)}</text>'
        for up, group in groupby(line, key=lambda point: point[1]):
            part = list(group)
            x0, x1 = ((at - span[0]) / (span[1] - span[0]) * wide for at in (part[0][0], part[-1][0] + 1))
            colour, said = ("#2f7d3b", "up") if up else ("#a33", "away")
            at_y = top + high / 2
            drawn += (
                f'<rect x="{90 + x0:.1f}" y="{top}" width="{x1 - x0:.1f}" height="{high - 8}"'
                f' fill="{colour}"/>'
            )
            drawn += f'<text x="{94 + x0:.1f}" y="{at_y}" style="fill:#fff">{said}</text>'
    return f'<svg width="{size[0]}" height="{size[1] - 30}">{drawn}</svg>'


def chart(lines: list[Line], size: tuple[int, int], span: tuple[float, float]) -> str:
    """Lines over time; a unit of its own has a scale of its own, on the right."""
    wide, high = size[0] - 120, size[1] - 30 - 18 * (1 + (min(len(lines), LEGEND) - 1) // 3) - 22
    units = list(dict.fromkeys(unit for _, unit, _ in lines))
    drawn = legend = ""
    for side, unit in enumerate(units[:2]):
        most = max((v for _, u, line in lines if u == unit for _, v in line), default=0)
        least = min(0.0, *(v for _, u, line in lines if u == unit for _, v in line), 0.0)
        most = most if most > least else least + 1
        for share in (0.0, 0.5, 1.0):
            y = 8 + high * (1 - share)
            x = 0 if side == 0 else wide + 62
            drawn += f'<text x="{x}" y="{y + 4:.1f}">{written(least + (most - least) * share, unit)}</text>'
            drawn += f'<path d="M60 {y:.1f}h{wide}" stroke="#2a2d34"/>'
        for place, (_, own, line) in enumerate(lines):
            if own == unit and line:
                rise, run = high / (most - least), wide / (span[1] - span[0])
                spots = " ".join(
                    f"{60 + (at - span[0]) * run:.1f},{8 + high - (v - least) * rise:.1f}" for at, v in line
                )
                colour = COLOURS[place % len(COLOURS)]
                drawn += f'<polyline points="{spots}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for place, (name, _, _) in enumerate(lines[:LEGEND]):
        legend += f'<i style="background:{COLOURS[place % len(COLOURS)]}"></i>{html.escape(name)}'
    more = f" and {len(lines) - LEGEND} more" if len(lines) > LEGEND else ""
    return f'<svg width="{size[0]}" height="{high + 16}">{drawn}</svg><p>{legend}{more}</p>'


def page(asked: Prometheus, span: tuple[float, float]) -> tuple[str, int]:
    """The whole dashboard as HTML, and its height."""
    body, bottom = "", 0
    for panel in json.loads(BOARD.read_text())["panels"]:
        at = panel["gridPos"]
        size = (at["w"] * COLUMN - GAP, at["h"] * (ROW + GAP) - GAP)
        left, top = 12 + at["x"] * COLUMN, 12 + at["y"] * (ROW + GAP)
        place = f"left:{left}px;top:{top}px;width:{size[0]}px;height:{size[1]}px"
        bottom = max(bottom, top + size[1])
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            body += f'<div class="row" style="{place}">{title}</div>'
            continue
        lines = []
        for target in panel["targets"]:
            for series in asked.ask(target["expr"], *span):
                name = named(target["legendFormat"], series)
                lines.append((name, unit_of(panel, target["refId"], name), points(series)))
        lines = [line for line in lines if line[2]]
        if not lines:
            sys.exit(f"no data: {panel['title']}")
        inner = (size[0] - 22, size[1])
        if panel["type"] == "stat":
            drawn = stat(lines)
        elif panel["type"] == "state-timeline":
            drawn = states(lines, inner, span)
        else:
            drawn = chart(lines, inner, span)
        body += f'<div class="panel" style="{place}"><h2>{title}</h2>{drawn}</div>'
    return f"<!doctype html><meta charset=utf-8><style>{CSS}</style>{body}", bottom + 12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="name=SOURCE")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--model", type=Path, default=ROOT / "streamfuse/model/default.ts")
    given = parser.parse_args()
    sources = dict(source.split("=", 1) for source in given.sources)
    with tempfile.TemporaryDirectory() as folder, HttpReceiver(lambda _: 200).running() as web:
        targets = {"desk": {"kind": "webhook", "url": web.url}}
        config = Path(folder) / "run.yaml"
        config.write_text(yaml.safe_dump({"notify": {"targets": targets, "rules": [{}]}}))
        cameras = {**sources, "gate": "rtsp://127.0.0.1:9/stream"}
        with (
            LiveRun(cameras, "-c", str(config), "--loop", model=given.model, metrics=True) as run,
            prometheus(Path(folder), run.port) as asked,
        ):
            run.until(lambda: all(run.labels(name) for name in sources), "labels of every source", 180)
            run.until(lambda: asked.ready, "Prometheus is ready")
            SYSTEM.sleep_ns(round(given.seconds * NS))
            end_s = SYSTEM.wall_ns() / NS
            text, high = page(asked, (end_s - given.seconds, end_s))
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 24 * COLUMN + 16, "height": high})
        shown.set_content(text)
        shown.screenshot(path=str(ROOT / "docs/images/grafana.png"))


if __name__ == "__main__":
    main()
