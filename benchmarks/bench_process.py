"""The whole command against decoding alone, and against the sum of what a tick must cost.

    python benchmarks/bench_process.py [--model FILE] [--seconds 180] [--rounds 2]

For 1080p30 and 360p30 (H.264 and AAC): `streamfuse process FILE -o DIR` as a user types it (over its
processes, over two sets of them on two recordings, and inline); PyAV decoding the same file with every
core; and each part of a tick alone, on one core: decoding (both tracks), shrink (one picture), views
(finding a face), frame window, MFCC, one step of the network. A machine can do no better than bound =
cores / (sum of the parts); one recording no better than 1 / model either, as its steps follow each other on
one core (stream bound). The rest is start-up (measured by a run of one tick), waiting and our own
arithmetic. Rounds take turns, so that a noisy neighbour hits all alike; the cpu column does not see
neighbours.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import itertools
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from recordings import Recording
from report import write

from streamfuse.analysis import Looker
from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.kernels.frame_window import frame_window
from streamfuse.kernels.mfcc import mfcc_with_context
from streamfuse.media.decode import open_decoder
from streamfuse.media.frames import Renderer
from streamfuse.media.source import parse_source
from streamfuse.model.runtime import Model, load_model
from streamfuse.types import Tick, TickHead, VideoFrame

CORES = len(os.sched_getaffinity(0))
AIM = 0.9
"""Of the bound, for the whole command."""
SIZES = {"1080p30": (1920, 1080, 6_000_000), "360p30": (640, 360, 800_000)}


@dataclass
class Cost:
    """Wall and processor seconds of one measurement."""

    wall: float
    cpu: float


def timed(call: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def decode_only(path: Path, threads: int) -> None:
    """Every packet of both tracks, and nothing else."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.codec_context.thread_count = threads
        video.codec_context.thread_type = "FRAME"
        for packet in container.demux(video, audio):
            packet.decode()


WAYS = {"processes": (1, ()), "two workers": (2, ("--workers", "2")), "inline": (1, ("--inline",))}
"""How many copies of the recording are given, and the options: decode, analyze and publish processes as by
default, two of each but the last on two recordings, and everything in one process."""


def command(paths: list[Path], out: Path, model: str | None, *extra: str) -> Cost:
    """`streamfuse process` as its own process."""
    line = [sys.executable, "-m", "streamfuse.cli.main", "process", *map(str, paths), "-o", str(out)]
    line += ["--no-resume", "--device", "cpu", *(["--model", model] if model else []), *extra]
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def parts(path: Path, model: Model, ticks: int) -> dict[str, Callable[[], None]]:
    """Each part of a tick, `ticks` times, on the real pictures and sound of the recording."""
    spec = model.spec
    side = spec.picture_side
    with av.open(str(path)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(10), strict=False)]
    renderer = Renderer(side)
    pictures = [renderer.render(frame) for frame in frames]
    samples = np.random.default_rng(0).normal(0, 0.1, (1, spec.audio.context_samples + spec.hop_samples))
    samples = samples.astype(np.float32)
    window = np.zeros(spec.video_shape(), np.float32)
    sound = mfcc_with_context(samples, spec.audio)
    looker = Looker(spec)

    def look(turn: int) -> list[bool]:
        head = TickHead("bench", 0, turn, 0, spec.video.hop_ns, "ok", "ok")
        (sight,) = looker.push(Tick(head, pictures[turn % len(pictures)], samples[0]))
        return sight.seen.present

    # The network is stepped with the views that the recording has: a face costs it a branch.
    present = np.array([look(0)])
    turns = itertools.count(1)

    def step() -> None:
        state = model.init_state(1)
        for _ in range(ticks):
            logits, state = model.step(window, sound, present, state)
            model.probabilities(logits)

    def repeat(call: Callable[[int], object]) -> Callable[[], None]:
        return lambda: [call(i % len(frames)) for i in range(ticks)] and None

    frame_window(pictures[:1], spec.video.picture)
    model.warm_up()
    return {
        "decode": lambda: decode_only(path, 1),
        "shrink": repeat(lambda i: renderer.render(frames[i])),
        "views": repeat(lambda _: look(next(turns))),
        "frame window": repeat(lambda i: frame_window(pictures[i : i + 1], spec.video.picture)),
        "MFCC": repeat(lambda _: mfcc_with_context(samples, spec.audio)),
        "model": step,
    }


def check(path: Path, out: Path, ticks: int) -> dict[str, Any]:
    """The run has labelled every tick, and the decoder that was measured gives what the pipeline takes."""
    (entry,) = json.loads((out / "summary.json").read_text())["files"]
    lines = (out / f"{path.stem}.labels.jsonl").read_text().count("\n")
    if not (entry["status"] == "done" and entry["ticks"] == lines >= ticks and not entry["truncated"]):
        raise SystemExit(f"the run is wrong: {entry}, {lines} lines, {ticks} expected")
    decoder = open_decoder(
        parse_source(str(path)), decode=DecodeConfig(), ticks=TickConfig(), mode="recorded", picture_side=256
    )
    with decoder:
        frames = sum(isinstance(item, VideoFrame) for item in decoder)
    return {"ticks": entry["ticks"], "lines": lines, "frames": frames}


def bench(
    name: str, recording: Recording, model: str | None, rounds: int, folder: Path
) -> Iterator[dict[str, Any]]:
    """One row for each way of running the command, beside parts that were measured in the same rounds."""
    path, out = recording.write(folder), folder / "out"
    twin = path.with_stem(f"{path.stem}-twin")
    shutil.copy(path, twin)
    ticks = recording.seconds * 10
    command([path], out, model)  # also fills the page cache and the kernels' cache
    checked = check(path, out, ticks)
    loaded = load_model(model, device="cpu")
    measured: dict[str, Callable[[], Cost]] = {"decode only": lambda: timed(lambda: decode_only(path, CORES))}
    for way, (copies, extra) in WAYS.items():
        paths = [path, twin][:copies]
        measured[f"command, {way}"] = partial(command, paths, out, model, *extra)
        measured[f"one tick, {way}"] = partial(command, paths, folder / "one", model, *extra, "--to", "0.1")
    measured |= {part: (lambda c=call: timed(c)) for part, call in parts(path, loaded, ticks).items()}
    taken: dict[str, list[Cost]] = {part: [] for part in measured}
    for _ in range(rounds):
        for part, measure in measured.items():
            taken[part].append(measure())
    for way, (copies, _) in WAYS.items():
        yield summarise(f"{name}, {way}", way, taken, ticks, copies, recording) | {"checked": checked}


def summarise(
    name: str, way: str, taken: dict[str, list[Cost]], ticks: int, copies: int, recording: Recording
) -> dict[str, Any]:
    """Medians, the bound, and where the rest goes; milliseconds per tick unless it says otherwise.

    ticks  of one copy, which is what the parts and decoding alone were measured on
    """
    wall = {part: statistics.median(c.wall for c in costs) for part, costs in taken.items()}
    cpu = {part: statistics.median(c.cpu for c in costs) for part, costs in taken.items()}
    needed = ("decode", "shrink", "views", "frame window", "MFCC", "model")
    # Of processor time, as the parts are measured alone on one core: what a neighbour takes is not theirs.
    bound = CORES * ticks / sum(cpu[part] for part in needed)
    stream_bound = min(bound, copies * ticks / cpu["model"])
    whole, start = wall[f"command, {way}"] / copies, wall[f"one tick, {way}"] / copies
    steady = whole - start
    total = (cpu[f"command, {way}"] - cpu[f"one tick, {way}"]) / copies
    return {
        "case": name,
        "bit_rate": recording.bit_rate,
        "media_s": recording.seconds,
        "rounds": len(taken["decode only"]),
        "copies": copies,
        "cores": CORES,
        "wall_s": wall,
        "wall_s_all": {part: [round(c.wall, 3) for c in costs] for part, costs in taken.items()},
        "cpu_ms_per_tick": {part: 1e3 * cpu[part] / ticks for part in needed},
        "cpu_ms_per_tick_command": 1e3 * total / ticks,
        "cpu_ms_per_tick_rest": 1e3 * (total - sum(cpu[part] for part in needed)) / ticks,
        "command_s": whole * copies,
        "start_s": start * copies,
        "realtime_factor": recording.seconds / whole,
        "ticks_per_s": ticks / whole,
        "ticks_per_s_after_start": ticks / steady,
        "bound_ticks_per_s": bound,
        "stream_bound_ticks_per_s": stream_bound,
        "of_bound": ticks / whole / bound,
        "of_stream_bound_after_start": ticks / steady / stream_bound,
        "of_bound_after_start": ticks / steady / bound,
        "of_bound_cpu": CORES * ticks / total / bound,
        "of_decode_only": wall["decode only"] / whole,
        "of_decode_only_after_start": wall["decode only"] / steady,
    }


def show(row: dict[str, Any]) -> None:
    split = "  ".join(f"{part} {ms:.2f}" for part, ms in row["cpu_ms_per_tick"].items())
    print(f"\n{row['case']}: {row['media_s']} s of media, {row['cores']} cores, {row['rounds']} rounds")
    print(f"  cpu ms per tick: {split}  rest {row['cpu_ms_per_tick_rest']:.2f}")
    print(f"  command {row['command_s']:.1f} s ({row['realtime_factor']:.1f} x real time)", end="")
    print(f", of it start {row['start_s']:.1f} s; decode only {row['wall_s']['decode only']:.1f} s")
    print(f"  of the bound {row['bound_ticks_per_s']:.0f} ticks/s: {row['of_bound']:.2f}", end="")
    print(
        f", after the start {row['of_bound_after_start']:.2f}, by processor time {row['of_bound_cpu']:.2f}",
        end="",
    )
    print(f"; of the stream bound, after the start {row['of_stream_bound_after_start']:.2f}")
    print(f"  of decode only: {row['of_decode_only']:.2f}, after the start", end="")
    print(f" {row['of_decode_only_after_start']:.2f}")


def show_shares(rows: list[dict[str, Any]]) -> None:
    """What the README quotes, in one place."""
    print(f"\n{'share of':28} {'bound':>7} {'bound, after the start':>23} {'decode only':>12}")
    for row in rows:
        shares = (row["of_bound"], row["of_bound_after_start"], row["of_decode_only"])
        print(f"{row['case']:28} {shares[0]:7.2f} {shares[1]:23.2f} {shares[2]:12.2f}")
    print(f"{'aim':28} {AIM:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a model file; unset: the default model")
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the recordings here")
    parser.add_argument("--only", choices=SIZES)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name, (width, height, bit_rate) in SIZES.items():
            if options.only in (None, name):
                recording = Recording(width, height, 30, options.seconds, bit_rate)
                for row in bench(name, recording, options.model, options.rounds, folder):
                    show(row)
                    rows.append(row)
    checks = {row["case"]: row.pop("checked") for row in rows}
    show_shares(rows)
    if options.only is None:
        print(f"\n{write('process', rows, checks)}")


if __name__ == "__main__":
    main()
