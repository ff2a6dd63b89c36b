"""From what was noted of a run to the numbers of report.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np

from streamfuse.errors import OutputError
from streamfuse.profiling.environment import Environment
from streamfuse.profiling.floor import Floor
from streamfuse.profiling.recording import Answered, Mark, Process, Recording
from streamfuse.profiling.schema import SCHEMA, Happened, Part, ProcessUse, Rate, Report, Samples, Stream
from streamfuse.profiling.statistics import F64, Distribution, distribution
from streamfuse.trace import latency_parts, track_parts
from streamfuse.types import MS, NS, Track

LEAST_CPU_S = 2.0
"""Processes report twice a second: in less time than this their use cannot be told."""
LEAST_ANSWERS = 20
"""Fewer answers in the measured part say nothing about a distribution."""
AGES = ("edge_age", "centre_age", "video_age", "audio_age", "av_skew", "sync_wait")
TRACKS: tuple[Track, ...] = ("video", "audio")


def build_report(
    recording: Recording,
    *,
    source: str,
    rate: Rate,
    created: str,
    warm_up_s: float,
    hop_ns: int,
    floor: Floor,
    environment: Environment,
) -> Report:
    """The numbers of a recording's measured part.

    raises  OutputError where fewer than LEAST_ANSWERS answers lie in it
    """
    answers, every = _measured(recording)
    seconds, paced = (recording.end_ns - recording.begin_ns) / NS, rate == "paced"
    media_s = len(every) * hop_ns / NS
    streams = [_stream(name, rows, recording, seconds, hop_ns, paced) for name, rows in answers.items()]
    uses = [use for one in recording.processes.values() if (use := _use(one, recording)) is not None]
    samples = _samples(answers, recording)
    return Report(
        schema=SCHEMA,
        created=created,
        source=source,
        rate=rate,
        streams_wanted=len(answers),
        warm_up_s=round(warm_up_s, 3),
        duration_s=round(seconds, 3),
        hop_ms=hop_ns / MS,
        answers=len(every),
        dropped=sum(stream.dropped for stream in streams),
        absent=sum(_absent(stream, seconds, hop_ns) for stream in streams) if paced else None,
        partial=sum(stream.partial for stream in streams),
        missed_by_profile=recording.missed,
        deadline_misses=sum(stream.deadline_misses or 0 for stream in streams) if paced else None,
        offered_per_s=round(len(streams) * NS / hop_ns, 3) if paced else None,
        achieved_per_s=round(sum(stream.achieved_per_s for stream in streams), 3),
        realtime_factor=round(media_s / len(answers) / seconds, 3),
        cpu_s_per_media_s=_cpu_s(uses, media_s, seconds),
        rss_bytes=max(samples.rss_bytes, default=None),
        ages_ms=_ages(every),
        parts=parts_of([latency_parts(a.head.trace, a.publish_ns) for a in every]),
        track_parts={track: _track_parts(every, track) for track in TRACKS},
        streams=streams,
        processes=uses,
        happened=[_happened(mark, recording) for mark in recording.marks if _within(mark, recording)],
        floor=floor,
        environment=environment,
        samples=samples,
    )


def _measured(recording: Recording) -> tuple[dict[str, list[Answered]], list[Answered]]:
    """The answers of the measured part by source, and all of them. Raises OutputError."""
    answers = {name: recording.measured(name) for name in sorted(recording.answers)}
    every = [a for rows in answers.values() for a in rows]
    if len(every) < LEAST_ANSWERS:
        hint = "measure for longer (--duration), or take a longer file"
        raise OutputError(
            f"a report needs {LEAST_ANSWERS} answers after the warm-up", got=len(every), hint=hint
        )
    return answers, every


def _cpu_s(uses: list[ProcessUse], media_s: float, seconds: float) -> float | None:
    """Processor seconds for a second of media; None where it cannot be told."""
    cpu_s = sum(use.cpu_s for use in uses)
    return round(cpu_s / media_s, 4) if cpu_s and seconds >= LEAST_CPU_S else None


def _track_parts(every: list[Answered], track: Track) -> list[Part]:
    found = [track_parts(a.head.trace, track, a.publish_ns) for a in every]
    return parts_of([parts for parts in found if parts])


def parts_of(rows: list[dict[str, int]]) -> list[Part]:
    """Every part that the rows have, in the order of the way; a part a row has not is 0 there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    total = sum(sum(row.values()) for row in rows) or 1
    made = []
    for name in names:
        stage, _, part = name.rpartition(".")
        values = [row.get(name, 0) for row in rows]
        spread = distribution(values)
        if spread is not None:
            share = round(sum(values) / total, 6)
            made.append(Part(stage=stage, part=part, share=share, time_ms=spread))  # type: ignore[arg-type]
    return made


def _ages(every: list[Answered]) -> dict[str, Distribution]:
    spread = {name: distribution([a.latency[name] for a in every if name in a.latency]) for name in AGES}
    return {name: d for name, d in spread.items() if d is not None}


def _absent(stream: Stream, seconds: float, hop_ns: int) -> int:
    """One tick may fall to either side of the measured part's ends."""
    return max(0, int(seconds * NS / hop_ns) - 1 - stream.answers - stream.dropped)


def _stream(
    name: str, rows: list[Answered], recording: Recording, seconds: float, hop_ns: int, paced: bool
) -> Stream:
    dropped = sum(a.head.dropped for a in rows)
    late = sum(a.edge_age_ns > hop_ns for a in rows)
    kinds = Counter(m.kind for m in recording.marks if m.source == name and _within(m, recording))
    decode = [p for p in recording.processes.values() if p.service == "decode" and p.name == name]
    transport = [
        sample.gauges["transport_ns"]
        for process in decode
        for sample in process.within(recording.begin_ns, recording.end_ns)
        if "transport_ns" in sample.gauges
    ]
    return Stream(
        source=name,
        answers=len(rows),
        dropped=dropped,
        partial=sum(a.head.partial for a in rows),
        deadline_misses=late + dropped if paced else None,
        offered_per_s=round(NS / hop_ns, 3) if paced else None,
        achieved_per_s=round(len(rows) / seconds, 3),
        sessions=len({a.head.session for a in rows}),
        reconnects=kinds["reconnect"],
        flips_per_min=flips_per_minute(rows, hop_ns),
        edge_age_ms=distribution([a.edge_age_ns for a in rows]),
        transport_ms=distribution(transport),
    )


def flips_per_minute(rows: list[Answered], hop_ns: int) -> dict[str, float]:
    """How often the label of each head that says one changed, a minute of media."""
    said: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for head, label in row.scores.items():
            if label is not None:
                said[head].append(label)
    minutes = len(rows) * hop_ns / (60 * NS)
    return {
        head: round(sum(a != b for a, b in pairwise(labels)) / minutes, 3) for head, labels in said.items()
    }


def _use(process: Process, recording: Recording) -> ProcessUse | None:
    samples = process.within(recording.begin_ns, recording.end_ns)
    if len(samples) < 2:
        return None
    cpu_s, lasted_s = _used(process, recording)
    sizes = [sample.rss_bytes for sample in samples]
    waiting = [sample.gauges["waiting"] for sample in samples if "waiting" in sample.gauges]
    return ProcessUse(
        process=process.title,
        cpu_s=round(cpu_s, 4),
        cpu_share=round(cpu_s / lasted_s if lasted_s > 0 else 0.0, 4),
        rss_mean_bytes=round(float(np.mean(sizes))),
        rss_max_bytes=max(sizes),
        waiting_max=max(waiting) if waiting else None,
    )


def _used(process: Process, recording: Recording) -> tuple[float, float]:
    """Processor seconds within the measured part, and how long of it the process is known to have lived."""
    at, used = _cpu_points(process, recording)
    ends = np.clip([recording.begin_ns, recording.end_ns], at[0], at[-1])
    cpu_ns = np.diff(np.interp(ends, at, used))
    return float(cpu_ns[0]) / NS, float(ends[1] - ends[0]) / NS


def _cpu_points(process: Process, recording: Recording) -> tuple[F64, F64]:
    """Use so far at each report; between two reports it is taken to be even, after the last there is none.

    A process first heard of within the measured part was started in it: what it had used by then counts from
    the moment at which one core could have begun with it.
    """
    at = [sample.at_ns for sample in process.samples]
    used = [sample.cpu_ns for sample in process.samples]
    if at[0] > recording.begin_ns and used[0] > 0:
        at, used = [max(recording.begin_ns, at[0] - used[0]), *at], [0, *used]
    return np.array(at, np.float64), np.array(used, np.float64)


def _samples(answers: dict[str, list[Answered]], recording: Recording) -> Samples:
    cpu, rss = totals_by_second(recording)
    return Samples(
        edge_age_us={name: [round(a.edge_age_ns / 1000) for a in rows] for name, rows in answers.items()},
        answers_per_s=_by_second(answers, recording, len(cpu)),
        cpu_share=[round(float(v), 4) for v in cpu],
        rss_bytes=[round(float(v)) for v in rss],
    )


def _by_second(answers: dict[str, list[Answered]], recording: Recording, seconds: int) -> list[int]:
    counts = Counter((a.publish_ns - recording.begin_ns) // NS for rows in answers.values() for a in rows)
    return [counts[second] for second in range(seconds)]


def totals_by_second(recording: Recording) -> tuple[list[float], list[float]]:
    """Cores in use and resident bytes of all processes together, for each whole second measured."""
    seconds = int((recording.end_ns - recording.begin_ns) // NS)
    edges = recording.begin_ns + np.arange(seconds + 1) * NS
    cpu, rss = np.zeros(seconds), np.zeros(seconds)
    for process in recording.processes.values():
        if len(process.samples) < 2:
            continue
        at = np.array([sample.at_ns for sample in process.samples], np.float64)
        size = np.array([sample.rss_bytes for sample in process.samples], np.float64)
        cpu += np.diff(np.interp(edges, *_cpu_points(process, recording))) / NS
        rss += np.interp((edges[:-1] + edges[1:]) / 2, at, size, left=0, right=0)
    return cpu.tolist(), rss.tolist()


def _within(mark: Mark, recording: Recording) -> bool:
    return recording.begin_ns <= mark.at_ns < recording.end_ns


def _happened(mark: Mark, recording: Recording) -> Happened:
    at_s = round((mark.at_ns - recording.begin_ns) / NS, 3)
    return Happened(at_s=at_s, kind=mark.kind, source=mark.source, text=mark.text)
