"""One 360p30 camera in real time: how old an answer is, beside what its parts cost when they run alone.

    python benchmarks/bench_live.py [--model FILE] [--seconds 60]

The camera is an MPEG-TS stream over HTTP, sent by its own schedule (camera.py), so nothing waits for us.
edge_age is from the arrival of the last sample that a label used to its publishing, as the label itself says.
The parts are timed in one process, one after the other, with nothing else running: decoding one picture,
making the tick, its message, the network, the answer's message, the label. Their sum is what an answer
costs where no time is lost between processes. Dropped ticks stand beside the percentiles.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from camera import camera
from recordings import Recording
from report import Timing, table, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streamfuse.analysis import TickAnalyzer
from streamfuse.config import DecodeConfig, LabelConfig, TickConfig
from streamfuse.errors import SourceLost
from streamfuse.labels.events import EventTracker
from streamfuse.labels.lines import label_line
from streamfuse.labels.smooth import Labeller
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.model.inspect import inspect_model
from streamfuse.model.runtime import load_model
from streamfuse.ticks.assemble import Assembler
from streamfuse.types import VideoFrame
from streamfuse.wire.codec import Body, Message, decode, encode
from tests.integration.live import LiveRun

CAMERA = Recording(640, 360, 30, 60, 800_000, camera=True)
WARM_UP = 30
"""Labels left out at the beginning: the camera sends the past of its first key frame at once."""


class Parts:
    """Times one call after the other, by name."""

    def __init__(self) -> None:
        self.taken: dict[str, list[int]] = defaultdict(list)

    def timed(self, name: str, call: Any, *arguments: Any) -> Any:
        start = time.perf_counter_ns()
        result = call(*arguments)
        self.taken[name].append(time.perf_counter_ns() - start)
        return result


def parts_alone(recording: Path, model_path: str | None) -> Parts:
    """Every part of a tick's way, in one process and one thread."""
    model = load_model(model_path, device="cpu")
    spec, ticks, parts = model.spec, TickConfig(), Parts()
    analyzer, labeller = TickAnalyzer(model), Labeller(spec.heads, LabelConfig())
    events = EventTracker(spec.heads, LabelConfig())
    assembler = Assembler(
        "camera", ticks, mode="live", hop_ns=spec.video.hop_ns, context_samples=spec.audio.context_samples
    )
    side = 2 * spec.video.picture.size
    decoder = open_decoder(
        parse_source(str(recording)), decode=DecodeConfig(), ticks=ticks, mode="live", picture_side=side
    )
    items = iter(decoder)
    while True:
        start = time.perf_counter_ns()
        try:
            item = next(items)
        except (SourceLost, StopIteration):
            return parts
        took = time.perf_counter_ns() - start
        if isinstance(item, VideoFrame):
            parts.taken["decode one picture"].append(took)
        start = time.perf_counter_ns()
        made = assembler.push(item, time.monotonic_ns())
        took = time.perf_counter_ns() - start
        for tick in made:
            parts.taken["make the tick"].append(took)
            arrived = parts.timed("its message", _through, tick)
            for answer in parts.timed("the network", analyzer.push, arrived):
                said = parts.timed("the answer's message", _through, answer)
                for label in parts.timed("the label", labeller.push, said):
                    parts.timed("the line", _line, label, events)


def _through(body: Body) -> Body:
    return decode([memoryview(part) for part in encode(Message("camera", 0, body))]).body


def _line(label: Any, events: EventTracker) -> str:
    events.push(label)
    return label_line(label)


def live(url: str, model: Path, seconds: float) -> list[dict[str, Any]]:
    """The labels of a real run, in the order in which they came."""
    with LiveRun({"camera": url}, model=model) as run:
        run.until(lambda: len(run.lines) > WARM_UP, "labels of the camera", 120)
        end = time.monotonic() + seconds
        run.until(lambda: time.monotonic() >= end, "the time is over", seconds + 60)
        run.stop()
        return run.lines[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    model = args.model or inspect_model(None).path
    with tempfile.TemporaryDirectory() as folder:
        recording = CAMERA.write(Path(folder))
        alone = parts_alone(recording, str(model))
        with camera(recording, args.seconds + 120) as url:
            labels = live(url, Path(model), args.seconds)
    timings = {name: Timing.of(taken[20:]) for name, taken in alone.taken.items()}
    bound = sum(timing.p50 for timing in timings.values())
    ages: dict[str, list[int]] = defaultdict(list)
    for label in labels:
        for name, value in label["latency"].items():
            ages[name].append(value)
    lived = {name: Timing.of(values) for name, values in ages.items()}
    rows = [_row("alone", name, timing) for name, timing in timings.items()]
    rows += [_row("live", name, timing) for name, timing in lived.items()]
    dropped = sum(label["dropped"] for label in labels)
    age = lived["edge_age"]
    print(table(rows))
    print(
        f"\nedge_age p50 {age.p50 / 1e6:.2f} p95 {age.p95 / 1e6:.2f} p99 {age.p99 / 1e6:.2f} "
        f"max {age.max / 1e6:.2f} ms; the parts alone {bound / 1e6:.2f} ms: {age.p50 / bound:.2f} x; "
        f"{len(labels)} labels, {dropped} dropped"
    )
    checks = {"labels": len(labels), "dropped": dropped, "partial": sum(x["partial"] for x in labels)}
    summary = {"case": "summary", "name": "edge_age p50 / the parts alone", "ratio": age.p50 / bound}
    write("live", [*rows, summary | {"bound_ns": bound, "p99_ns": age.p99}], checks)


def _row(case: str, name: str, timing: Timing) -> dict[str, Any]:
    return {
        "case": case,
        "name": name,
        "unit": "ns per tick",
        "n": timing.n,
        "p50": timing.p50,
        "p95": timing.p95,
        "p99": timing.p99,
        "max": timing.max,
    }


if __name__ == "__main__":
    main()
