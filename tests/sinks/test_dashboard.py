"""The dashboard asks only for what there is: its queries are parsed, and compared with our registry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from streamfuse.sinks.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
BOARD = json.loads((ROOT / "dashboards" / "streamfuse.json").read_text())
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}
ADDED = {"job", "instance", "le"}
"""Labels that Prometheus puts on every series, and a histogram's own."""


def known() -> dict[str, set[str]]:
    """Every series that a run may show, with its labels."""
    series: dict[str, set[str]] = {}
    for collector in Metrics().registry._collector_to_names:
        labels = {*collector._labelnames, *ADDED}  # type: ignore[attr-defined]
        for family in collector.describe():
            series |= {family.name + suffix: labels for suffix in SUFFIXES[family.type]}
    return series


def panels() -> Iterator[dict[str, Any]]:
    for panel in BOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


QUERIES = [(p["title"], t["expr"], t["legendFormat"]) for p in panels() for t in p.get("targets", ())]


def plain(query: str) -> str:
    """Without Grafana's variables, as Prometheus gets it."""
    return query.replace("$__rate_interval", "1m").replace("$source", ".*")


def selectors(node: Any) -> Iterator[Any]:
    """Every series that a parsed query reads."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "args"):
        inner = getattr(node, name, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None and not isinstance(one, str | float | int):
                yield from selectors(one)


@pytest.mark.parametrize(("title", "query", "legend"), QUERIES)
def test_query_is_promql_about_series_that_there_are(title: str, query: str, legend: str) -> None:
    found = list(selectors(promql_parser.parse(plain(query))))
    assert found, f"{title}: {query} reads nothing"
    series = known()
    for selector in found:
        assert selector.name in series, f"{title}: no metric {selector.name}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in series[selector.name], f"{title}: {selector.name} has no {matcher.name}"
    asked = {word.strip() for by in re.findall(r"by \(([^)]*)\)", query) for word in by.split(",")}
    asked |= set(re.findall(r"{{(\w+)}}", legend))
    labels = set().union(*(series[selector.name] for selector in found))
    assert asked <= labels, f"{title}: no label {asked - labels}"


def test_every_metric_is_on_the_board() -> None:
    read = {s.name for _, query, _ in QUERIES for s in selectors(promql_parser.parse(plain(query)))}
    families = {family.name for c in Metrics().registry._collector_to_names for family in c.describe()}
    shown = {name for name in families if any(one.startswith(name) for one in read)}
    # What is running is no curve, and no source tells its lag yet.
    assert families - shown == {"streamfuse_build", "streamfuse_source_lag_seconds"}


def test_every_metric_is_in_the_documentation_and_nothing_else() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    told = set(re.findall(r"^\| `(streamfuse_\w+)`", text, re.MULTILINE))
    shown = {"counter": "_total", "info": "_info"}
    there = {
        family.name + shown.get(family.type, "")
        for c in Metrics().registry._collector_to_names
        for family in c.describe()
    }
    assert told == there


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
