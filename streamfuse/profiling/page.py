"""report.html: the measurement as one page, self-contained, for any browser, with no network."""

from __future__ import annotations

from functools import cache

import jinja2

from streamfuse.profiling import plots, resources
from streamfuse.profiling.recording import Recording
from streamfuse.profiling.schema import Happened, Report
from streamfuse.types import MS

MAX_HAPPENED = 60
"""Rows of the list of what happened; the report.json has them all."""


def render_page(report: Report, recording: Recording) -> str:
    """The page as text. What comes from outside goes through jinja2's autoescape or charts.escape."""
    answers = [a for name in sorted(recording.answers) for a in recording.measured(name)]
    ages = [a.edge_age_ns for a in answers]
    slow = 99 if len(answers) >= 100 else 100
    median, late = plots.ranked(answers, 50), plots.ranked(answers, slow)
    bars, bars_legend = plots.composition(answers)
    processes = [
        p for p in recording.processes.values() if len(p.within(recording.begin_ns, recording.end_ns)) > 1
    ]
    processes.sort(key=lambda p: (("decode", "analyze", "publish").index(p.service), p.spare, p.name))
    drawn = {
        what: resources.by_process(recording, processes, what, title)
        for what, title in (("cpu", "cores"), ("rss", "MB"), ("queue", "messages"))
    }
    skewed = [
        a.latency["av_skew"] for a in answers if a.head.video != "missing" and a.head.audio != "missing"
    ]
    deadline_ms = report.hop_ms if report.rate == "paced" else None
    happened = _told(report)
    waited = [a.latency["sync_wait"] for a in answers]
    return _template().render(
        report=report,
        saturated=report.rate == "saturated",
        ages=report.ages_ms,
        edge=report.ages_ms["edge_age"],
        median=median,
        late=late,
        late_name="p99" if slow == 99 else "slowest",
        median_svg=plots.waterfall(median),
        late_svg=plots.waterfall(late),
        bars=bars,
        bars_legend=bars_legend,
        histogram=plots.histogram(ages, title="Histogram of the age"),
        cumulative=plots.cumulative(ages, deadline_ms),
        over_time=plots.over_time(recording, deadline_ms),
        over_time_legend=_streams_legend(recording),
        marks=[(css, text) for kind, (css, text) in plots.MARKS.items() if _seen(report, kind)],
        skew=plots.histogram(skewed, title="A/V skew", quantiles=False) if _spread(skewed) else None,
        waits=plots.histogram(waited, title="Wait for the other track") if _spread(waited) else None,
        drawn=drawn,
        parts=[part for part in report.parts if part.time_ms.max > 0],
        part_title=plots.part_title,
        part_colour=plots.part_colour,
        happened=happened[:MAX_HAPPENED],
        more=max(0, len(happened) - MAX_HAPPENED),
        ms=MS,
    )


def _spread(values: list[int]) -> bool:
    """Worth a picture: not all the same to a microsecond."""
    return len(values) > 1 and max(values) - min(values) > 1000


def _told(report: Report) -> list[Happened]:
    """What happened, with the drops of each stream as one row."""
    rows = [one for one in report.happened if one.kind != "drop"]
    for stream in report.streams:
        drops = [one for one in report.happened if one.kind == "drop" and one.source == stream.source]
        if drops:
            gaps = f"in {len(drops)} places, the last at {drops[-1].at_s:.1f} s"
            text = f"{stream.dropped} ticks dropped {gaps}"
            rows.append(Happened(at_s=drops[0].at_s, kind="drop", source=stream.source, text=text))
    return sorted(rows, key=lambda one: one.at_s)


def _seen(report: Report, kind: str) -> bool:
    return any(one.kind == kind for one in report.happened)


def _streams_legend(recording: Recording) -> list[tuple[str, str]]:
    names = sorted(recording.answers)
    colours = plots.STREAM_COLOURS
    return [(colours[i % len(colours)], name) for i, name in enumerate(names)]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("streamfuse", "profiling"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["ms"] = _ms
    environment.filters["mb"] = lambda value: "–" if value is None else f"{value / 1e6:,.0f} MB"
    environment.filters["share"] = lambda value: f"{value:.1%}"
    return environment.get_template("report.html")


def _ms(value: float | None) -> str:
    """Three digits are enough to read; report.json has them all."""
    if value is None:
        return "–"
    if abs(value) < 0.005:
        return "0"
    return f"{value:,.{2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0}f}".replace("-", "−")
