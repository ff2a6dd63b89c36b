"""Timing and result files of every benchmark: candidates timed in turns, percentiles, one JSON per run.

    timings = compare({"ours": f, "theirs": g}, rounds=300)
    print(table("one hop of MFCC", timings, per=10, unit="hop", base="ours"))
    write("kernels", rows, checks)

Turns (ours, theirs, ours, theirs, ...) let a noisy neighbour hit all of them alike, so that ratios
hold on a shared machine. A benchmark checks its result first and asserts no speed.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
_PACKAGES = ("numpy", "numba", "numba-cuda", "torch", "torchaudio", "av", "librosa", "scipy",
             "opencv-python-headless", "kaldi-native-fbank", "python_speech_features", "pyzmq")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds per call over n calls after warm-up. `min` is what a busy machine disturbs least."""

    p50: float
    p95: float
    p99: float
    max: float
    n: int
    min: float

    @classmethod
    def of(cls, samples_ns: Sequence[float]) -> Timing:
        if not samples_ns:
            raise ValueError("a timing needs at least one sample")
        ordered = sorted(samples_ns)
        p50, p95, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.95, 0.99))
        return cls(p50, p95, p99, ordered[-1], len(ordered), ordered[0])


def compare(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 300, warm_up: int = 20
) -> dict[str, Timing]:
    """Time the candidates in turns, `rounds` times each after `warm_up` calls each."""
    samples: dict[str, list[int]] = {name: [] for name in candidates}
    for turn in range(-warm_up, rounds):
        for name, call in candidates.items():
            start = time.perf_counter_ns()
            call()
            elapsed = time.perf_counter_ns() - start
            if turn >= 0:
                samples[name].append(elapsed)
    return {name: Timing.of(taken) for name, taken in samples.items()}


def rows_of(
    case: str, timings: Mapping[str, Timing], per: int = 1, unit: str = "call", base: str | None = None
) -> list[dict[str, Any]]:
    """Rows for write(): nanoseconds per unit, and p50 and min as multiples of `base`'s."""
    reference = timings[base] if base else None
    rows = []
    for name, timing in timings.items():
        row: dict[str, Any] = {"case": case, "name": name, "unit": f"ns per {unit}", "n": timing.n}
        row |= {key: value / per for key, value in asdict(timing).items() if key != "n"}
        if reference:
            row["ratio"] = timing.p50 / reference.p50
            row["ratio_of_min"] = timing.min / reference.min
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text: microseconds at p50 and p95, and the ratios at p50 and of the least times."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        lines.append(f"\n{case}")
        for row in (row for row in rows if row["case"] == case):
            ratio = f"{row['ratio']:9.2f} x" if "ratio" in row else ""
            ratio += f"{row['ratio_of_min']:9.2f} x of min" if "ratio_of_min" in row else ""
            micro = f"{row['p50'] / 1e3:12.3f} {row['p95'] / 1e3:12.3f}"
            lines.append(f"  {row['name']:34}{micro}  us p50, p95 {row['unit'][3:]:10}{ratio}")
    return "\n".join(lines)


def write(name: str, rows: Sequence[Mapping[str, Any]], checks: Mapping[str, Any]) -> Path:
    """Write results/<name>.json: the rows, what was checked first, and where it ran."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    command = " ".join([Path(sys.executable).name, *map(_short, sys.argv)])
    report = {"bench": name, "command": command, "machine": machine(), "versions": versions(),
              "checks": dict(checks), "rows": list(rows)}  # fmt: skip
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


def machine() -> dict[str, Any]:
    """Processor, cores, load at the end of the run, threads asked for, and the commit."""
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if cpuinfo.exists()
        else []
    )
    head = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "processor": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
        "commit": commit or None,
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _short(argument: str) -> str:
    """Only the end of absolute paths: result files are committed and name nobody's machine."""
    return "/".join(Path(argument).parts[-2:]) if Path(argument).is_absolute() else argument
