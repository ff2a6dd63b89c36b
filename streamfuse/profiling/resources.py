"""Processors, memory and queues of each process over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streamfuse.profiling.charts import Chart, round_ticks
from streamfuse.profiling.plots import HALF
from streamfuse.profiling.recording import Process, Recording
from streamfuse.types import NS

COLOURS = {"decode": ("s0", "s9", "s5", "s4"), "analyze": ("s2", "s7"), "publish": ("s3",)}
SPARE = "way"
LEAST = {"cpu": 0.01, "rss": 1.0, "queue": 1.0}


def by_process(
    recording: Recording, processes: Sequence[Process], what: str, y_title: str
) -> tuple[str, list[tuple[str, str]]]:
    """`cpu` (cores), `rss` (MB) or `queue` (messages) of each process over time; and the legend."""
    lines = [(p, points) for p in processes if (points := _line(p, recording, what))]
    seconds = (recording.end_ns - recording.begin_ns) / NS
    top = max((y for _, points in lines for _, y in points), default=0.0)
    ceiling = round_ticks(0, max(top, LEAST[what]))[-1]
    chart = Chart(HALF, 250, (0, seconds), (0, ceiling), "seconds", y_title)
    seen: Counter[str] = Counter()
    legend = []
    for process, points in lines:
        row = COLOURS[process.service]
        css = SPARE if process.spare else row[seen[process.service] % len(row)]
        seen[process.service] += not process.spare
        chart.line(points, css, step=what == "queue")
        legend.append((css, process.title))
    return chart.svg(title=f"{y_title} over time"), legend


def _line(process: Process, recording: Recording, what: str) -> list[tuple[float, float]]:
    samples = process.within(recording.begin_ns, recording.end_ns)
    at = [(sample.at_ns - recording.begin_ns) / NS for sample in samples]
    if what == "rss":
        return [(x, sample.rss_bytes / 1e6) for x, sample in zip(at, samples, strict=True)]
    if what == "queue":
        queues = [(x, s.gauges) for x, s in zip(at, samples, strict=True) if "waiting" in s.gauges]
        return [(x, float(g["waiting"] + g.get("under_way", 0))) for x, g in queues]
    step = max(2, round(len(samples) / 150))  # over a second at least: the kernel counts in ticks
    return [
        (
            (at[i] + at[i - step]) / 2,
            (samples[i].cpu_ns - samples[i - step].cpu_ns) / (at[i] - at[i - step]) / NS,
        )
        for i in range(step, len(samples), max(1, step // 2))
        if at[i] > at[i - step]
    ]
