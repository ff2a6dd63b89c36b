"""Is the memory of `streamfuse process` flat over hours?

    python benchmarks/memory.py [--model FILE] [--hours 2] [--outputs] [--processes]

Generates a recording (160x120 at 10 fps with sound, H.264 and AAC), runs the command on it, and reads
resident memory along the way: of the one process of --inline, or with --processes of all that the default way
has, summed (pages that they share count in each). Aim: RSS at 100 % minus RSS at 10 % is at most 20 MB.
--outputs also writes the table and the page.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from recordings import LOOP_S, Recording
from report import write

LIMIT_MB = 20
EVERY_S = 0.25


def resident(pid: int) -> tuple[int, float] | None:
    """A process and all that it started: how many, and their resident MiB; None when it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return len(family), sum(member.memory_info().rss for member in family) / 2**20
    except psutil.NoSuchProcess:
        return None


def watch(command: list[str], part: Path) -> tuple[list[tuple[int, float]], float]:
    """Run the command; return (labels written so far, MiB) as time goes by, and the seconds it took."""
    started = time.perf_counter()
    samples: list[tuple[int, float]] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        written = read = most = 0
        while process.poll() is None:
            if part.exists():
                with part.open("rb") as file:
                    file.seek(read)
                    new = file.read()
                read, written = read + len(new), written + new.count(b"\n")
            found = resident(process.pid)
            if found is not None and written and found[0] >= most:  # at the end they leave one by one
                most = found[0]
                samples.append((written, found[1]))
            time.sleep(EVERY_S)
        _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"the command failed: {errors}")
    return samples, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a model file; unset: the default model")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--outputs", action="store_true", help="also write the table and the page")
    parser.add_argument("--processes", action="store_true", help="the default way, over processes")
    options = parser.parse_args()
    seconds = round(options.hours * 3600 / LOOP_S) * LOOP_S
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = Recording(160, 120, 10, seconds, 60_000).write(folder)
        out = folder / "out"
        command = [sys.executable, "-m", "streamfuse.cli.main", "process", str(path), "-o", str(out)]
        command += ["--device", "cpu", *([] if options.processes else ["--inline"])]
        command += ["--model", options.model] if options.model else []
        command += ["--csv", "--html"] if options.outputs else []
        samples, took = watch(command, out / f"{path.stem}.labels.jsonl.part")
        (entry,) = json.loads((out / "summary.json").read_text())["files"]
    if entry["ticks"] < seconds * 10 or entry["status"] != "done":
        raise SystemExit(f"not every tick was labelled: {entry}")
    case = "processes" if options.processes else "inline"
    row = summarise(case, samples, entry["ticks"], took) | {"outputs": options.outputs, "media_s": seconds}
    print(f"RSS {row['rss_mb_at_10']:.1f} MiB at 10 %, {row['rss_mb_at_100']:.1f} at 100 %", end=": ")
    print(f"{row['growth_mb']:+.1f} MiB over {entry['ticks']} ticks (aim: at most {LIMIT_MB})")
    name = "memory-processes" if options.processes else "memory"
    print(write(name, [row], {"ticks": entry["ticks"], "status": entry["status"]}))


def summarise(case: str, samples: list[tuple[int, float]], ticks: int, took: float) -> dict[str, Any]:
    """RSS in MiB at every tenth of the way."""
    at = [next(mb for done, mb in samples if done >= share * ticks / 10) for share in range(1, 10)]
    at.append(samples[-1][1])
    return {
        "case": case,
        "rss_mb_at_tenths": [round(mb, 1) for mb in at],
        "rss_mb_at_10": at[0],
        "rss_mb_at_100": at[-1],
        "growth_mb": at[-1] - at[0],
        "peak_mb": max(mb for _, mb in samples),
        "limit_mb": LIMIT_MB,
        "realtime_factor": ticks / 10 / took,
    }


if __name__ == "__main__":
    main()
