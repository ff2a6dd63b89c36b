"""How many 360p30 cameras this machine holds, and what age and processors do on the way there.

    python benchmarks/bench_streams.py [--model FILE] [--seconds 20] [--streams 1,2,4,8]

Each camera is an MPEG-TS stream over HTTP by its own schedule (camera.py, all from one process, whose
processor time is told apart). A number of cameras is held when fewer than 1 % of the ticks that were due are
missing: dropped, or never heard of.
The ideal counts decoding and the network alone, each measured on one core with nothing else running:
cores / (processor seconds per second of one stream). Without --streams the number grows until it is not held.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from bench_live import CAMERA, parts_alone
from camera import camera
from report import Timing, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streamfuse.model.inspect import inspect_model
from tests.integration.live import LiveRun

HELD = 0.01
PICTURES_PER_S, TICKS_PER_S = 30, 10
CORES = len(os.sched_getaffinity(0))
SETTLE_S = 5.0


def ideal(recording: Path, model: Path) -> tuple[float, dict[str, float]]:
    """Streams that decoding and the network alone would allow, and what each costs in s per s."""
    taken = parts_alone(recording, str(model)).taken
    mean = {name: sum(values[20:]) / len(values[20:]) / 1e9 for name, values in taken.items()}
    cost = {
        "decoding": PICTURES_PER_S * mean["decode one picture"],
        "the network": TICKS_PER_S * mean["the network"],
    }
    return CORES / sum(cost.values()), cost


def measure(url: str, streams: int, model: Path, seconds: float) -> dict[str, Any]:
    """One row: ages, drops and processor seconds of a run with so many cameras."""
    sources = {f"camera{i}": url for i in range(streams)}
    with LiveRun(sources, model=model) as run:
        run.until(lambda: all(run.labels(name) for name in sources), "labels of every camera", 180)
        settled = time.monotonic() + SETTLE_S
        run.until(lambda: time.monotonic() >= settled, "the cameras settle")
        children, mark, began = run.children(), len(run.lines), time.monotonic()
        before = _cpu(children)
        run.until(lambda: time.monotonic() >= began + seconds, "the time is over", seconds + 60)
        spent, wall = _cpu(children) - before, time.monotonic() - began
        lines = run.lines[mark:]
        run.stop()
    ages = Timing.of([line["latency"]["edge_age"] for line in lines])
    dropped = sum(line["dropped"] for line in lines)
    # By the cameras' schedule; one tick of each stands across the edge of the time looked at.
    due = streams * (TICKS_PER_S * wall - 1)
    return {
        "case": "streams",
        "name": f"{streams} cameras",
        "unit": "ns per tick",
        "streams": streams,
        "n": ages.n,
        "p50": ages.p50,
        "p95": ages.p95,
        "p99": ages.p99,
        "max": ages.max,
        "dropped": dropped,
        "dropped_share": dropped / (dropped + len(lines)),
        "missing_share": max(0.0, 1 - len(lines) / due),
        "ticks_per_s": len(lines) / wall / streams,
        "cores_used": spent / wall,
    }


def is_held(row: dict[str, Any]) -> bool:
    return max(row["dropped_share"], row["missing_share"]) < HELD


def _cpu(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--streams", help="such as 1,2,4; unset: 1, 2, 3 ... until ticks are dropped")
    args = parser.parse_args()
    model = Path(args.model or inspect_model(None).path)
    numbers = [int(n) for n in args.streams.split(",")] if args.streams else range(1, 65)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        recording = CAMERA.write(Path(folder))
        most, cost = ideal(recording, model)
        print(f"ideal {most:.1f} cameras on {CORES} cores: {cost}")
        for streams in numbers:
            with camera(recording, args.seconds + 240) as url:
                rows.append(measure(url, streams, model, args.seconds))
            row = rows[-1]
            print(
                f"{streams:3} cameras: age p50 {row['p50'] / 1e6:7.1f} p99 {row['p99'] / 1e6:7.1f} ms, "
                f"dropped {row['dropped_share']:.2%}, missing {row['missing_share']:.2%}, "
                f"{row['cores_used']:.2f} cores",
                flush=True,
            )
            if not args.streams and not is_held(row):
                break
    held = max((row["streams"] for row in rows if is_held(row)), default=0)
    print(f"held {held} of ideal {most:.1f}: {held / most:.0%}")
    summary = {"case": "summary", "name": "held / ideal", "held": held, "ideal": most, "ratio": held / most}
    write("streams", [*rows, summary | cost], {"cores": CORES})


if __name__ == "__main__":
    main()
