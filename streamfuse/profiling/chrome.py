"""trace.json: the run as Perfetto (ui.perfetto.dev) and chrome://tracing open it.

Trace Event Format: one process for each of ours, a thread for each stage with slices for its work, waits
beside them (asynchronous, as the waits of several ticks overlap), a flow from each last frame, of the picture
and of the sound, to the label, counters for the queues, and instants for what happened. Times are
microseconds from the earliest event.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from streamfuse.profiling.recording import Answered, Process, Recording
from streamfuse.trace import AUDIO, DECODE, SYNC, VIDEO
from streamfuse.types import Stamp

MAX_ANSWERS = 20_000
"""The last so many answers of all sources: about 60 MB, which the viewers still open."""
THREADS = {VIDEO: 1, AUDIO: 2, SYNC: 3, DECODE: 4, "analyze": 1, "publish": 1}
_OTHER_THREAD = 50
TITLES = {VIDEO: "picture", AUDIO: "sound", SYNC: "ticks", DECODE: "tick"}
LANE = 100
"""What overlaps the slices of its thread without lying within one gets a thread beside it, so much higher:
viewers drop slices that do not nest."""

Event = dict[str, Any]
"""Its times are monotonic nanoseconds until _rebased()."""


def trace_text(recording: Recording) -> str:
    """The whole file as text."""
    answers = sorted(
        (a for name in recording.answers for a in recording.measured(name)), key=lambda a: a.publish_ns
    )[-MAX_ANSWERS:]
    pids = _Pids(recording)
    work = [_work(answer, pids) for answer in answers]
    names = _nested([event for of_answer in work for event in of_answer.values()])
    events = [*_names(recording), *names]
    for number, (answer, slices) in enumerate(zip(answers, work, strict=True)):
        events += [*slices.values(), *_waits(answer, number, pids), *_flows(slices, number)]
    events += _of_processes(recording, pids)
    return (
        json.dumps({"displayTimeUnit": "ms", "traceEvents": _rebased(events)}, separators=(",", ":")) + "\n"
    )


class _Pids:
    """Which process did a stage's work: that of its service and source which had last begun to run then.

    One that took over, or was started again, did not do the work of the one before it.
    """

    def __init__(self, recording: Recording) -> None:
        self._turns: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for process in recording.processes.values():
            if process.running_from_ns is not None:
                self._turns[_whose(process)].append((process.running_from_ns, process.pid))
        for turns in self._turns.values():
            turns.sort()

    def at(self, service: str, source: str, at_ns: int) -> int:
        """0: nobody is known to have done it."""
        turns = self._turns.get((service, source if service == "decode" else ""), [])
        begun = [pid for from_ns, pid in turns if from_ns <= at_ns]
        return begun[-1] if begun else turns[0][1] if turns else 0


def _whose(process: Process) -> tuple[str, str]:
    return process.service, process.name if process.service == "decode" else ""


def _names(recording: Recording) -> Iterator[Event]:
    for process in recording.processes.values():
        yield _meta("process_name", process.pid, 0, process.title)
        stages = (VIDEO, AUDIO, SYNC, DECODE) if process.service == "decode" else (process.service,)
        for stage in stages:
            yield _meta("thread_name", process.pid, _thread(stage), TITLES.get(stage, stage))


def _work(answer: Answered, pids: _Pids) -> dict[str, Event]:
    """The slice of each stage that took time."""
    source, tick = answer.head.source, answer.head.index
    about = {"source": source, "session": answer.head.session, "tick": tick}
    return {
        stamp.stage: {
            "ph": "X",
            "cat": "stage",
            "name": f"{stamp.stage} {source} {tick}",
            "pid": pids.at(_service(stamp), source, stamp.end_ns),
            "tid": _thread(stamp.stage),
            "ts": stamp.start_ns,
            "dur": stamp.end_ns - stamp.start_ns,
            "args": about,
        }
        for stamp in answer.head.trace.stamps
        if stamp.end_ns > stamp.start_ns
    }


def _nested(slices: list[Event]) -> list[Event]:
    """Move what does not nest to a thread beside its own; return the names of these."""
    lanes: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
    names: dict[tuple[int, int], Event] = {}
    for event in sorted(slices, key=lambda e: (e["ts"], -e["dur"])):
        pid, thread = event["pid"], event["tid"]
        lane = _lane(lanes[pid, thread], event["ts"], event["ts"] + event["dur"])
        if lane > 0:
            event["tid"] = thread + lane * LANE
            title = f"{TITLES.get(event['name'].split(' ')[0], event['name'].split(' ')[0])} {lane + 1}"
            names[pid, event["tid"]] = _meta("thread_name", pid, event["tid"], title)
    return list(names.values())


def _lane(lanes: list[list[int]], start_ns: int, end_ns: int) -> int:
    """The first lane in which the slice is beside or within what is open there; it is open there now."""
    for number, open_until in enumerate(lanes):
        while open_until and open_until[-1] <= start_ns:
            open_until.pop()
        if not open_until or end_ns <= open_until[-1]:
            open_until.append(end_ns)
            return number
    lanes.append([end_ns])
    return len(lanes) - 1


def _waits(answer: Answered, number: int, pids: _Pids) -> Iterator[Event]:
    source, tick = answer.head.source, answer.head.index
    for stamp in answer.head.trace.stamps:
        if stamp.start_ns <= stamp.enqueue_ns:
            continue
        what = "the other track" if stamp.stage == SYNC else TITLES.get(stamp.stage, stamp.stage)
        event = {
            "cat": "wait",
            "name": f"wait for {what} {source} {tick}",
            "id": f"{number}.{stamp.stage}",
            "pid": pids.at(_service(stamp), source, stamp.end_ns),
            "tid": _thread(stamp.stage),
        }
        yield event | {"ph": "b", "ts": stamp.enqueue_ns}
        yield event | {"ph": "e", "ts": stamp.start_ns}


def _flows(slices: dict[str, Event], number: int) -> Iterator[Event]:
    """From the frame to the label, of picture and sound each, bound to the slices that enclose its points."""
    rest = [event for stage, event in slices.items() if stage not in (VIDEO, AUDIO, SYNC, DECODE)]
    tracks = [stage for stage in (VIDEO, AUDIO) if stage in slices] or [DECODE]
    for track in tracks:
        steps = ([slices[track]] if track in slices else []) + rest
        for index, event in enumerate(steps if len(steps) > 1 else ()):
            phase = "s" if index == 0 else "f" if index == len(steps) - 1 else "t"
            flow = {"ph": phase, "cat": "tick", "name": "frame to label", "id": f"{number}.{track}"}
            yield (
                flow
                | {key: event[key] for key in ("pid", "tid", "ts")}
                | ({"bp": "e"} if phase == "f" else {})
            )


def _of_processes(recording: Recording, pids: _Pids) -> Iterator[Event]:
    begin_ns = recording.begin_ns
    for process in recording.processes.values():
        for sample in process.within(begin_ns, recording.end_ns):
            queues = {k: sample.gauges[k] for k in ("waiting", "under_way") if k in sample.gauges}
            if queues:
                yield {"ph": "C", "name": "queue", "pid": process.pid, "ts": sample.at_ns, "args": queues}
            memory = {"MB": round(sample.rss_bytes / 1e6, 1)}
            yield {"ph": "C", "name": "memory", "pid": process.pid, "ts": sample.at_ns, "args": memory}
    for mark in recording.marks:
        if begin_ns <= mark.at_ns < recording.end_ns:
            pid = pids.at("decode", mark.source, mark.at_ns)
            event = {"ph": "i", "s": "g", "name": f"{mark.kind}: {mark.text}", "pid": pid, "tid": 0}
            yield event | {"ts": mark.at_ns}


def _rebased(events: list[Event]) -> list[Event]:
    """Times in microseconds from the earliest: an answer of the measured part may have begun before it."""
    from_ns = min((event["ts"] for event in events if "ts" in event), default=0)
    for event in events:
        if "ts" in event:
            event["ts"] = (event["ts"] - from_ns) / 1000
        if "dur" in event:
            event["dur"] /= 1000
    return events


def _service(stamp: Stamp) -> str:
    return "decode" if stamp.stage in (VIDEO, AUDIO, SYNC, DECODE) else stamp.stage


def _thread(stage: str) -> int:
    return THREADS.get(stage, _OTHER_THREAD)


def _meta(what: str, pid: int, thread: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": thread, "args": {"name": name}}
