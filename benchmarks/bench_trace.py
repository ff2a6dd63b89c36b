"""What it costs to look: stamps on against stamps off.

    python benchmarks/bench_trace.py [--ticks 600] [--rounds 10] [--seconds 60]

Twice, in turns: (1) every tick of a recording through the parts of the three processes in this one, messages
encoded and decoded as they are between processes, so that nothing but the stamps differs and a difference
of 0.1 % can be seen (in processor time, which a busy neighbour does not take); (2) whole runs of `streamfuse
process` with `trace: true` and `trace: false`, what a user has. (2) swings by more than 2 % from
run to run on a shared machine: its rounds say so.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from recordings import Recording
from report import Timing, write

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from streamfuse.analysis import TickAnalyzer
from streamfuse.config import DecodeConfig, LabelConfig, TickConfig
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.model.runtime import Model, load_model
from streamfuse.pipeline.interpret import new_assembler
from streamfuse.ticks.stamps import first_stamps
from streamfuse.ticks.tracks import Came
from streamfuse.trace import latency, stamped
from streamfuse.types import Label, MediaItem, Tick
from streamfuse.wire.codec import Body, Message, decode, encode

WARM_UP = 50


class Way:
    """A tick's whole way after decoding, with or without looking."""

    def __init__(self, model: Model, *, trace: bool) -> None:
        self.trace = trace
        self._analyzer = TickAnalyzer(model)
        self._labeller = Labeller(model.spec.heads, LabelConfig())
        self._events = EventTracker(model.spec.heads, LabelConfig())

    def go(self, tick: Tick) -> Label:
        if self.trace:
            now = time.monotonic_ns()
            came = Came(now, now)
            head = replace(tick.head, trace=first_stamps(came, came, now, now))
            tick = replace(tick, head=stamped(head, "decode", now, now, time.monotonic_ns()))
        arrived = through(tick)
        received = time.monotonic_ns()
        (answer,) = self._analyzer.push(arrived)
        if self.trace:
            answer = replace(
                answer, head=stamped(answer.head, "analyze", received, received, time.monotonic_ns())
            )
        came = through(answer)
        received = time.monotonic_ns()
        (label,) = self._labeller.push(came)
        if self.trace:
            head = stamped(label.head, "publish", received, received, time.monotonic_ns())
            label = replace(label, head=head, latency=latency(head))
        self._events.push(label)
        encode(Message("camera", 0, label))
        return label


def through(body: Body) -> Any:
    return decode([memoryview(part) for part in encode(Message("camera", 0, body))]).body


def media_of(recording: Path, model: Model) -> list[MediaItem]:
    decoder = open_decoder(
        parse_source(str(recording)),
        decode=DecodeConfig(),
        ticks=TickConfig(),
        mode="recorded",
        picture_side=model.spec.picture_side,
    )
    with decoder:
        return list(decoder)


def ticks_of(items: list[MediaItem], model: Model) -> list[Tick]:
    """The recording's ticks, which have no stamps."""
    made = new_assembler("camera", TickConfig(), model.spec, "recorded")
    return [tick for item in items for tick in made.push(item)]


def in_one_process(recording: Path, count: int) -> tuple[dict[str, Timing], float]:
    """Processor time per tick with and without, in turns; and the median of their differences (ns)."""
    model = load_model(None, device="cpu")
    items = media_of(recording, model)
    ways = {name: Way(model, trace=name == "on") for name in ("off", "on")}
    ticks = ticks_of(items, model)[:count]
    taken: dict[str, list[int]] = {name: [] for name in ways}
    for place, tick in enumerate(ticks):
        labels: dict[str, Label] = {}
        for name in ("off", "on") if place % 2 else ("on", "off"):
            start = time.thread_time_ns()
            labels[name] = ways[name].go(tick)
            taken[name].append(time.thread_time_ns() - start)
        if labels["on"].heads != labels["off"].heads:
            raise RuntimeError("looking must not change what is said")
    differences = [b - a for a, b in zip(taken["off"], taken["on"], strict=True)][WARM_UP:]
    return {n: Timing.of(values[WARM_UP:]) for n, values in taken.items()}, statistics.median(differences)


def whole_runs(recording: Path, seconds: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of media a second of `streamfuse process`, in turns."""
    speeds: dict[str, list[float]] = {"off": [], "on": []}
    for turn in range(rounds):
        for name in ("off", "on") if turn % 2 else ("on", "off"):
            with tempfile.TemporaryDirectory() as folder:
                argv = [sys.executable, "-m", "streamfuse.cli.main", "process", str(recording), "-o", folder]
                argv += ["--device", "cpu", "--set", f"trace={'true' if name == 'on' else 'false'}"]
                start = time.perf_counter()
                subprocess.run(
                    argv, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
                )
                speeds[name].append(seconds / (time.perf_counter() - start))
    return speeds


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--ticks", type=int, default=600, help="of part 1")
    parser.add_argument("--rounds", type=int, default=10, help="of part 2; 0 leaves it out")
    parser.add_argument("--seconds", type=int, default=60, help="length of the recording")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(640, 360, 30, args.seconds, 800_000).write(Path(folder))
        timings, difference = in_one_process(recording, args.ticks)
        off = timings["off"].p50
        share = difference / off
        print(
            f"a tick without stamps {off / 1e6:.3f} ms; with them {difference / 1e3:+.1f} us: {share:+.2%} "
            f"({timings['on'].n} ticks, median of the differences)"
        )
        speeds = whole_runs(recording, args.seconds, args.rounds)
    rows: list[dict[str, Any]] = [
        {"case": "tick", "name": name, "unit": "ns per tick", "n": t.n, "p50": t.p50, "p95": t.p95}
        for name, t in timings.items()
    ]
    rows.append({"case": "summary", "name": "cost of looking, a tick", "ns": difference, "share": share})
    if args.rounds:
        on, without = (statistics.median(speeds[name]) for name in ("on", "off"))
        change = f"{on / without - 1:+.2%}"
        print(f"process: {on:.2f} x real time with stamps, {without:.2f} without: {change}; {speeds}")
        rows.append({"case": "process", "name": "speed", "on": speeds["on"], "off": speeds["off"]})
    write("trace", rows, {"same_labels": True})


if __name__ == "__main__":
    main()
