"""trace.json: the run as Perfetto (ui.perfetto.dev) and chrome://tracing open it.

Trace Event Format: one process for each of ours, a thread for each stage, slices for the work and the waits
of a tick, a flow from the arrival of its last sample to its label, counters for the queues, and instants for
what happened. Times are microseconds from the beginning of the measured part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from streamfuse.profiling.recording import Answered, Recording
from streamfuse.trace import AUDIO, DECODE, SYNC, VIDEO, critical_stamps
from streamfuse.types import Stamp

MAX_ANSWERS = 20_000
"""The last so many answers of all sources: about 60 MB, which the viewers still open."""
THREADS = {VIDEO: 1, AUDIO: 2, SYNC: 3, DECODE: 4, "analyze": 1, "publish": 1}
TITLES = {VIDEO: "picture", AUDIO: "sound", SYNC: "wait for the other track", DECODE: "tick"}
WAITS = 100
"""Waits stand in threads of their own: they overlap the work on the tick before."""


def trace_text(recording: Recording) -> str:
    """The whole file as text."""
    answers = sorted(
        (a for name in recording.answers for a in recording.measured(name)), key=lambda a: a.publish_ns
    )[-MAX_ANSWERS:]
    pids = _pids(recording)
    events: list[dict[str, Any]] = list(_names(recording, pids))
    for number, answer in enumerate(answers):
        events += _of_answer(answer, number, recording.begin_ns, pids)
    events += _of_processes(recording, pids)
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}, separators=(",", ":")) + "\n"


def _pids(recording: Recording) -> dict[tuple[str, str], int]:
    """(service, source) -> the pid under which its slices stand; one analyze or publish stands for all."""
    pids: dict[tuple[str, str], int] = {}
    for process in recording.processes.values():
        if not process.spare or (process.service, "") not in pids:
            pids[(process.service, process.name if process.service == "decode" else "")] = process.pid
    return pids


def _names(recording: Recording, pids: dict[tuple[str, str], int]) -> Iterator[dict[str, Any]]:
    for process in recording.processes.values():
        yield _meta("process_name", process.pid, 0, process.title)
    for (service, _), pid in pids.items():
        stages = (VIDEO, AUDIO, SYNC, DECODE) if service == "decode" else (service,)
        for stage in stages:
            yield _meta("thread_name", pid, THREADS[stage], TITLES.get(stage, stage))
        if service != "decode":
            yield _meta("thread_name", pid, WAITS, f"waiting for {service}")


def _of_answer(
    answer: Answered, number: int, begin_ns: int, pids: dict[tuple[str, str], int]
) -> Iterator[dict[str, Any]]:
    source, tick = answer.head.source, answer.head.index
    about = {"source": source, "session": answer.head.session, "tick": tick}
    for stamp in answer.head.trace.stamps:
        service = _service(stamp)
        pid = pids.get((service, source if service == "decode" else ""), 0)
        thread = THREADS.get(stamp.stage, 50)
        if stamp.end_ns > stamp.start_ns:
            yield _slice(
                f"{stamp.stage} {source} {tick}", pid, thread, stamp.start_ns, stamp.end_ns, begin_ns, about
            )
        if stamp.start_ns > stamp.enqueue_ns:
            waits = thread if stamp.stage == SYNC else WAITS
            title = f"wait for {'the other track' if stamp.stage == SYNC else stamp.stage} {source} {tick}"
            yield _slice(title, pid, waits, stamp.enqueue_ns, stamp.start_ns, begin_ns, about)
    yield from _flow(answer, number, begin_ns, pids)


def _flow(
    answer: Answered, number: int, begin_ns: int, pids: dict[tuple[str, str], int]
) -> Iterator[dict[str, Any]]:
    """From the frame to the label, bound to the slices that enclose its points."""
    trace, source = answer.head.trace, answer.head.source
    last = VIDEO if trace.video_arrival_ns >= trace.audio_arrival_ns else AUDIO
    steps = [s for s in trace.stamps if s.stage == last]
    steps += [s for s in critical_stamps(trace) if s.stage not in (DECODE, SYNC) and s.end_ns > s.start_ns]
    for index, stamp in enumerate(steps):
        service = _service(stamp)
        phase = "s" if index == 0 else "f" if index == len(steps) - 1 else "t"
        event = {
            "ph": phase,
            "cat": "tick",
            "name": "frame to label",
            "id": number,
            "pid": pids.get((service, source if service == "decode" else ""), 0),
            "tid": THREADS.get(stamp.stage, 50),
            "ts": _us(stamp.start_ns, begin_ns),
        }
        yield event | ({"bp": "e"} if phase == "f" else {})


def _of_processes(recording: Recording, pids: dict[tuple[str, str], int]) -> Iterator[dict[str, Any]]:
    begin_ns = recording.begin_ns
    for process in recording.processes.values():
        for sample in process.within(begin_ns, recording.end_ns):
            at = _us(sample.at_ns, begin_ns)
            queues = {k: sample.gauges[k] for k in ("waiting", "under_way") if k in sample.gauges}
            if queues:
                yield {"ph": "C", "name": "queue", "pid": process.pid, "ts": at, "args": queues}
            memory = {"MB": round(sample.rss_bytes / 1e6, 1)}
            yield {"ph": "C", "name": "memory", "pid": process.pid, "ts": at, "args": memory}
    for mark in recording.marks:
        if begin_ns <= mark.at_ns < recording.end_ns:
            pid = pids.get(("decode", mark.source), 0)
            event = {"ph": "i", "s": "g", "name": f"{mark.kind}: {mark.text}", "pid": pid, "tid": 0}
            yield event | {"ts": _us(mark.at_ns, begin_ns)}


def _service(stamp: Stamp) -> str:
    return "decode" if stamp.stage in (VIDEO, AUDIO, SYNC, DECODE) else stamp.stage


def _slice(
    name: str, pid: int, thread: int, start_ns: int, end_ns: int, begin_ns: int, about: dict[str, Any]
) -> dict[str, Any]:
    times = {"ts": _us(start_ns, begin_ns), "dur": _us(end_ns, start_ns)}
    return {"ph": "X", "cat": "stage", "name": name, "pid": pid, "tid": thread, **times, "args": about}


def _meta(what: str, pid: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": thread, "args": {"name": name}}


def _us(at_ns: int, from_ns: int) -> float:
    return round((at_ns - from_ns) / 1000, 3)
