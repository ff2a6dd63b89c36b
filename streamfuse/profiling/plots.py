"""The pictures of report.html: each function makes one of them from what was noted."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np

from streamfuse.profiling.charts import TOP, Chart, round_ticks
from streamfuse.profiling.recording import Answered, Recording
from streamfuse.profiling.statistics import F64, percentile
from streamfuse.trace import AUDIO, SYNC, VIDEO, latency_parts
from streamfuse.types import MS, NS

HALF, FULL = 600, 1216
"""Widths of a card: half of the page, and all of it."""

PARTS = {
    "decode.queue_wait": ("waiting for the reader", "s10"),
    "decode.compute": ("decoding", "s0"),
    "sync.queue_wait": ("waiting for the other track", "s4"),
    "analyze.transit": ("way to the analyzer", "way"),
    "analyze.queue_wait": ("waiting for the analyzer", "s10"),
    "analyze.compute": ("kernels and network", "s2"),
    "publish.transit": ("way to the publisher", "way"),
    "publish.queue_wait": ("waiting for the publisher", "s10"),
    "publish.compute": ("smoothing, label", "s3"),
}
_OTHER = ("s5", "s6", "s7", "s8", "s9")
LEAST_NS = 5_000
"""A part that took less is no row of a waterfall."""
ENVELOPE = 3000
"""More answers of a stream than this are drawn as a band, not as dots."""
STREAM_COLOURS = ("s0", "s1", "s2", "s4", "s5", "s6", "s7", "s9")
MARKS = {
    "drop": ("m-drop", "dropped"),
    "reconnect": ("m-reconnect", "reconnect"),
    "restart": ("m-restart", "restart"),
    "trouble": ("m-trouble", "trouble"),
    "loop": ("m-loop", "file begins again"),
    "session": ("m-session", "new session"),
}


def part_title(name: str) -> str:
    return PARTS[name][0] if name in PARTS else name.replace(".", " ").replace("_", " ")


def part_colour(name: str) -> str:
    if name in PARTS:
        return PARTS[name][1]
    return "way" if name.endswith(".transit") else _OTHER[sum(map(ord, name)) % len(_OTHER)]


def ranked(answers: Sequence[Answered], q: float) -> Answered:
    """The answer that stands at this percentile of the edge age."""
    ordered = sorted(answers, key=lambda a: a.edge_age_ns)
    place = int(np.ceil(round(len(ordered) * q / 100, 9))) - 1
    return ordered[max(0, place)]


def waterfall(answer: Answered) -> str:
    """One answer from the arrival of its picture and sound to its label."""
    rows: list[tuple[str, str, int, int]] = []
    stamps = {stamp.stage: stamp for stamp in answer.head.trace.stamps}
    for track, title in ((VIDEO, "decoding the picture"), (AUDIO, "decoding the sound")):
        if track in stamps:
            rows.append(
                (title, "s0" if track == VIDEO else "s9", stamps[track].start_ns, stamps[track].end_ns)
            )
    if SYNC in stamps and stamps[SYNC].start_ns - stamps[SYNC].enqueue_ns > 0:
        sync = stamps[SYNC]
        rows.append(("one track waits for the other", "s4", sync.enqueue_ns, sync.start_ns))
    at_ns = answer.arrival_ns
    for name, taken in latency_parts(answer.head.trace, answer.publish_ns).items():
        stage = name.rpartition(".")[0]
        if taken >= LEAST_NS and not (
            stage == SYNC or (stage == "decode" and (VIDEO in stamps or AUDIO in stamps))
        ):
            rows.append((part_title(name), part_colour(name), at_ns, at_ns + taken))
        at_ns += taken
    first = min(start for _, _, start, _ in rows)
    span = max((answer.publish_ns - first) / MS, 0.001)
    chart = Chart(HALF, TOP + 26 * len(rows) + 40, (0, span * 1.12), (len(rows), 0), "ms", left=190)
    for index, (title, css, start, end) in enumerate(rows):
        begin, took = (start - first) / MS, (end - start) / MS
        tip = f"{title}: {took:.3f} ms, from {begin:.3f} to {begin + took:.3f} ms"
        chart.box(begin, begin + took, index + 0.8, index + 0.2, css, tip)
        y = chart.at_y(index + 0.5) + 4
        chart.marks.append(
            f'<text x="{chart.left - 8}" y="{y}" text-anchor="end" class="row">{escape(title)}</text>'
        )
        x = chart.at_x(begin + took) + 5
        chart.marks.append(f'<text x="{x}" y="{y}" class="value">{took:.2f}</text>')
    chart.upright((answer.arrival_ns - first) / MS, "mark arrival", tip="arrival of the last sample used")
    chart.upright(span, "mark published", tip="published")
    return chart.svg(y_ticks=False, title=f"Waterfall of tick {answer.head.index}")


def composition(answers: Sequence[Answered]) -> tuple[str, list[tuple[str, str]]]:
    """Of what the age is made: in all answers, around the median, and in the slowest; and the legend."""
    ages = np.array([a.edge_age_ns for a in answers], np.float64)
    order = np.argsort(ages, kind="stable")
    n = len(order)
    tail = max(1, round(n * 0.01)) if n >= 100 else max(1, n // 20)
    near = order[max(0, n // 2 - n // 20) : n // 2 + n // 20 + 1]
    groups = [
        ("all answers", order),
        ("around the median", near),
        (f"slowest {tail}" if n < 100 else "slowest 1 %", order[-tail:]),
    ]
    parts = [latency_parts(a.head.trace, a.publish_ns) for a in answers]
    # What makes less than a thousandth of all could not be seen.
    least = sum(sum(p.values()) for p in parts) / 1000
    names = list(dict.fromkeys(k for p in parts for k in p))
    names = [n for n in names if sum(p.get(n, 0) for p in parts) > least]
    means = [
        {n: float(np.mean([parts[i].get(n, 0) for i in rows])) / MS for n in names} for _, rows in groups
    ]
    top = max(sum(mean.values()) for mean in means)
    chart = Chart(FULL, TOP + 40 * 3 + 40, (0, round_ticks(0, top)[-1]), (3, 0), "ms", left=150)
    for index, ((title, _), mean) in enumerate(zip(groups, means, strict=True)):
        at = 0.0
        for name in names:
            share = mean[name] / (sum(mean.values()) or 1)
            tip = f"{part_title(name)}: {mean[name]:.2f} ms, {share:.0%}"
            chart.box(at, at + mean[name], index + 0.82, index + 0.18, part_colour(name), tip)
            at += mean[name]
        y = chart.at_y(index + 0.5) + 4
        chart.marks.append(f'<text x="{chart.left - 8}" y="{y}" text-anchor="end" class="row">{title}</text>')
        chart.marks.append(f'<text x="{chart.at_x(at) + 6}" y="{y}" class="value">{at:.1f} ms</text>')
    return chart.svg(y_ticks=False, title="Mean time per stage"), _legend(names)


def _legend(names: Sequence[str]) -> list[tuple[str, str]]:
    legend: dict[str, list[str]] = {}
    for name in names:
        legend.setdefault(part_colour(name), []).append(part_title(name))
    return [(css, ", ".join(dict.fromkeys(titles))) for css, titles in legend.items()]


def histogram(values_ns: Sequence[int], *, title: str, quantiles: bool = True) -> str:
    """How often which time was seen, in milliseconds; the last 0.1 % may lie beyond the right end."""
    values = np.sort(np.array(values_ns, np.float64)) / MS
    low, high = float(values[0]), _shown_end(values)
    ticks = round_ticks(min(low, 0.0) if low > 0 and low < high / 2 else low, max(high, low + 0.001))
    bins = np.linspace(ticks[0], ticks[-1], 61)
    counts, _ = np.histogram(np.minimum(values, ticks[-1]), bins)
    chart = Chart(HALF, 250, (ticks[0], ticks[-1]), (0, round_ticks(0, counts.max())[-1]), "ms", "answers")
    for count, x0, x1 in zip(counts, bins, bins[1:], strict=False):
        if count:
            chart.box(x0, x1, 0, float(count), "s0 bar", f"{x0:.2f} to {x1:.2f} ms: {count}")
    if quantiles:
        for row, (name, q) in enumerate((("p50", 50), ("p99", 99))):
            if len(values) >= 100 or q == 50:
                chart.upright(min(percentile(values, q), ticks[-1]), "mark", name, row=row)
    return chart.svg(title=title)


def cumulative(ages_ns: Sequence[int], hop_ms: float | None) -> str:
    """The share of answers that are not older than x."""
    values = np.sort(np.array(ages_ns, np.float64)) / MS
    end = round_ticks(0, _shown_end(values))[-1]
    chart = Chart(HALF, 250, (0, end), (0, 1), "age, ms", "share of answers")
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), 600)).astype(int))
    points = [(0.0, 0.0), *((min(float(values[i]), end), (i + 1) / len(values)) for i in places)]
    chart.area(points, "s0 soft")
    chart.line(points, "s0", step=True)
    for name, q in (("p50", 50), ("p95", 95), ("p99", 99)):
        if len(values) >= 100 or q < 99:
            age = percentile(values, q)
            chart.dots([(min(age, end), q / 100, f"{name}: {age:.2f} ms")], "s0 knot", 4)
    if hop_ms is not None and hop_ms <= end:
        chart.upright(hop_ms, "mark deadline", "one hop")
    return chart.svg(y_percent=True, title="Cumulative distribution of the age")


def _shown_end(values: F64) -> float:
    """Where an axis may end: a single wild value must not press all others into one corner."""
    return min(float(values[-1]), 3 * percentile(values, 99.9)) if len(values) > 1 else float(values[-1])


def over_time(recording: Recording, hop_ms: float | None) -> str:
    """The age of every answer, and what happened meanwhile; hop_ms: where there are deadlines."""
    series = [(name, recording.measured(name)) for name in sorted(recording.answers)]
    every = np.concatenate([[a.edge_age_ns / MS for a in rows] for _, rows in series if rows])
    seconds = (recording.end_ns - recording.begin_ns) / NS
    top = round_ticks(0, max(float(every.max()), 1e-3))[-1]
    chart = Chart(FULL, 300, (0, seconds), (0, top), "seconds", "age, ms")
    if hop_ms is not None and hop_ms <= top:
        chart.level(hop_ms, "mark deadline", "one hop: later is a missed deadline")
    for index, (name, rows) in enumerate(series):
        css = STREAM_COLOURS[index % len(STREAM_COLOURS)]
        points = [((a.publish_ns - recording.begin_ns) / NS, a.edge_age_ns / MS) for a in rows]
        if len(points) > ENVELOPE:
            chart.band(_envelope(points, seconds), f"{css} soft")
        else:
            tips = (
                f"{name}, {x:.1f} s, tick {a.head.index}: {y:.2f} ms"
                for (x, y), a in zip(points, rows, strict=True)
            )
            chart.dots(((x, y, tip) for (x, y), tip in zip(points, tips, strict=True)), f"{css} dot", 1.9)
        for stretch in _unbroken(points):
            chart.line(_running_median(stretch), css)
    for mark in recording.marks:
        at = (mark.at_ns - recording.begin_ns) / NS
        if 0 <= at <= seconds:
            draw = chart.below if mark.kind == "drop" else chart.upright
            tip = f"{mark.source} {mark.text}, second {at:.1f}".strip()
            draw(at, f"mark {MARKS[mark.kind][0]}", tip=tip)
    return chart.svg(title="Age of each answer over time")


def _unbroken(points: Sequence[tuple[float, float]]) -> list[Sequence[tuple[float, float]]]:
    """Stretches without a hole: a line across one would show ages where there were no answers."""
    if len(points) < 2:
        return [points]
    steps = np.diff([x for x, _ in points])
    hole = max(1.0, 10 * float(np.median(steps)))
    ends = [0, *(int(i) + 1 for i in np.flatnonzero(steps > hole)), len(points)]
    return [points[a:b] for a, b in pairwise(ends)]


def _running_median(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The median of each of at most 200 stretches."""
    count = max(1, min(200, len(points) // 10))
    cuts = np.array_split(np.arange(len(points)), count)
    return [(points[c[len(c) // 2]][0], float(np.median([points[i][1] for i in c]))) for c in cuts if len(c)]


def _envelope(points: Sequence[tuple[float, float]], seconds: float) -> list[tuple[float, float, float]]:
    """Lowest and highest value of each of 400 stretches of time."""
    made: dict[int, list[float]] = {}
    for x, y in points:
        made.setdefault(min(399, int(x / seconds * 400)), []).append(y)
    return [((k + 0.5) * seconds / 400, min(ys), max(ys)) for k, ys in sorted(made.items())]
