"""The same job done by us and by what a competent user would write: age, processor time and memory.

    python benchmarks/bench_peers.py [--seconds 60] [--rounds 3] [--only a,b,ours]

The job: a 360p30 H.264 + AAC camera in real time (MPEG-TS over HTTP, by its own schedule), one answer
of the same network (peers/network.py, equal outputs, checked first) for every 100 ms of media.

    ours  streamfuse run: decode, analyze (and its warm spare), publish and the reserve, the network stepped
    lean  ours without what stands by (live.spare: false): less memory, slower to recover from a crash
    a     OpenCV + librosa + eager torch, sliding window          peers/opencv_librosa.py
    b     PyAV + torchaudio + frozen TorchScript, one process     peers/pyav_torchscript.py
    b1    as b, but our model file stepped with its state: only the way of the media differs from ours
    c     imagezmq between the reader and a torch process         peers/imagezmq_torch.py
    d     GStreamer + torchaudio + frozen TorchScript             peers/gstreamer_torchscript.py

The age is the same for all, and none of their own clocks decides it: from the moment at which the camera's
schedule reaches the end of the answered 100 ms, to the answer's arrival at a reader of standard output. So it
holds what FFmpeg's and GStreamer's readers of MPEG-TS wait for. Answers that are due and do not come count as
missing. In turns, `rounds` times; load and machine stand in the JSON.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import psutil
from camera import running_camera, schedule
from recordings import Recording
from report import Timing, write

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).resolve().parent / "peers"
sys.path.insert(0, str(ROOT))
sys.path.append(str(PEERS))

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import NS, SessionStart, VideoFrame

CAMERA = Recording(640, 360, 30, 60, 800_000, camera=True)
HOP_NS = NS // 10
WARM_UP_S = 5.0
START_S = 120.0
CANDIDATES = {
    "ours": (),
    "lean": ("--set", "live.spare=false"),
    "a": ("opencv_librosa.py",),
    "b": ("pyav_torchscript.py",),
    "b1": ("pyav_torchscript.py", "--step"),
    "c": ("imagezmq_torch.py",),
    "d": ("gstreamer_torchscript.py",),
}

OURS = ("ours", "lean")


@dataclass
class Answers:
    """What a candidate says: how far each answer's media reach since the first picture, and when it came."""

    reached_ns: list[int] = field(default_factory=list)
    came_ns: list[int] = field(default_factory=list)
    ours_first_ns: int = 0
    """Ours count their ticks from the session's zero: that much before the first picture."""

    def read(self, stream: Any) -> None:
        for line in stream:
            now_ns = time.monotonic_ns()
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if "end_s" not in told:
                continue
            ours = "tick" in told
            reached = (told["tick"] + 1) * HOP_NS - self.ours_first_ns if ours else round(told["end_s"] * NS)
            self.reached_ns.append(reached)
            self.came_ns.append(now_ns)


@dataclass(frozen=True)
class Used:
    cpu_s: float
    pss_bytes: int


def first_picture(recording: Path, folder: Path) -> tuple[int, int]:
    """When the camera sends its first picture, from its beginning and from our session's zero (ns)."""
    plan = schedule(recording, 1)
    stream = folder / "begin.ts"
    stream.write_bytes(b"".join(data for _, data in plan))
    with av.open(str(recording)) as file:
        packet = next(p for p in file.demux(video=0) if p.pts is not None)
        due_ns = round(float(packet.dts * packet.time_base) * NS)
    config = {"decode": DecodeConfig(), "ticks": TickConfig()}
    with open_decoder(parse_source(str(stream)), mode="live", picture_side=192, **config) as decoder:
        zero_ns = 0
        for item in decoder:
            if isinstance(item, SessionStart):
                zero_ns = item.zero_ns
            elif isinstance(item, VideoFrame):
                return due_ns, item.pts_ns - zero_ns
    raise RuntimeError("the recording has no picture")


def command(name: str, url: str, model: Path, run_dir: Path) -> list[str]:
    if name in OURS:
        options = ["--json", "--device", "cpu", "--model", str(model), "--run-dir", str(run_dir)]
        options += CANDIDATES[name]
        return [sys.executable, "-m", "streamfuse.cli.main", "run", *options, f"camera={url}"]
    script, *rest = CANDIDATES[name]
    return [sys.executable, str(PEERS / script), url, str(model), *rest]


@contextmanager
def running(argv: list[str], answers: Answers, log: Path) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with log.open("w") as errors:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, text=True, env=env)
        threading.Thread(target=answers.read, args=(process.stdout,), daemon=True).start()
        try:
            yield process
        finally:
            for one in [*_tree(process.pid), process]:
                one.kill()
            process.wait()


def measure(
    name: str, recording: Path, model: Path, seconds: float, first: tuple[int, int]
) -> dict[str, Any]:
    """One turn of one candidate."""
    due_ns, ours_ns = first
    answers = Answers(ours_first_ns=ours_ns)
    with tempfile.TemporaryDirectory(prefix="sf-") as text:
        folder = Path(text)
        long_enough = seconds + 240
        with running_camera(recording, long_enough, "shared") as (url, cam):
            argv = command(name, url, model, folder / "run")
            with running(argv, answers, folder / "log") as process:
                _until(lambda: len(answers.came_ns) > 0, process, folder / "log")
                time.sleep(WARM_UP_S)
                before, begin_ns = _used(process.pid), time.monotonic_ns()
                time.sleep(seconds)
                after, end_ns = _used(process.pid), time.monotonic_ns()
        assert cam.stdout is not None
        began_ns = int(cam.stdout.readline().split()[1])
    came = zip(answers.reached_ns, answers.came_ns, strict=True)
    rows = [(reached_ns, at_ns) for reached_ns, at_ns in came if begin_ns <= at_ns < end_ns]
    ages = [at_ns - (began_ns + due_ns + reached_ns) for reached_ns, at_ns in rows]
    due = round((end_ns - begin_ns) / HOP_NS)
    wall_s = (end_ns - begin_ns) / NS
    return {
        "name": name,
        "ages_ns": ages,
        "answers": len(ages),
        "missing": max(0, due - len(ages)),
        "cpu_s_per_s": (after.cpu_s - before.cpu_s) / wall_s,
        "pss_bytes": after.pss_bytes,
    }


def _until(done: Any, process: subprocess.Popen[str], log: Path) -> None:
    last = time.monotonic() + START_S
    while not done():
        if process.poll() is not None or time.monotonic() > last:
            raise RuntimeError(f"no answer: {log.read_text()[-1500:]}")
        time.sleep(0.1)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _used(pid: int) -> Used:
    """Of the process and all that it started; memory that they share is counted once (PSS)."""
    cpu, pss = 0.0, 0
    for process in [psutil.Process(pid), *_tree(pid)]:
        times = process.cpu_times()
        cpu += times.user + times.system
        pss += process.memory_full_info().pss
    return Used(cpu, pss)


def said(turn: dict[str, Any]) -> str:
    if not turn["ages_ns"]:
        return f"no answer of {turn['missing']} that were due"
    age = Timing.of(turn["ages_ns"])
    return f"p50 {age.p50 / 1e6:.1f} p99 {age.p99 / 1e6:.1f} ms, {turn['missing']} missing"


def summed(name: str, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """All turns of one candidate: ages together, the rest as means."""
    age = Timing.of([value for turn in turns for value in turn["ages_ns"]] or [math.nan])
    keys = ("cpu_s_per_s", "pss_bytes")
    means = {key: sum(turn[key] for turn in turns) / len(turns) for key in keys}
    counts = {key: sum(turn[key] for turn in turns) for key in ("answers", "missing")}
    spread = {"n": age.n, "p50": age.p50, "p95": age.p95, "p99": age.p99, "max": age.max}
    return {"case": "peers", "name": name, "unit": "ns per answer", **spread, **counts, **means}


def show(rows: list[dict[str, Any]]) -> None:
    base = next((row for row in rows if row["name"] == "ours"), rows[0])
    titles = ("age p50", "p95", "p99 ms", "missing", "cpu s/s", "PSS MB")
    print(f"{'':6}" + "".join(f"{title:>10}" for title in titles) + "   times ours: p99, cpu, PSS")
    for row in rows:
        ratios = "".join(f"{row[key] / base[key]:6.2f} x" for key in ("p99", "cpu_s_per_s", "pss_bytes"))
        ages = "".join(f"{row[key] / 1e6:10.1f}" for key in ("p50", "p95", "p99"))
        used = f"{row['missing']:10}{row['cpu_s_per_s']:10.3f}{row['pss_bytes'] / 1e6:10.0f}"
        print(f"{row['name']:6}{ages}{used}   {ratios}")


def check_same_network(model: Path) -> float:
    """The largest difference between window, frozen window and steps; raises where they differ."""
    import torch
    from network import FRAMES, SIZE, WINDOW, Stepped, eager, frozen

    pictures, mfcc = torch.rand(WINDOW, SIZE, SIZE), torch.randn(WINDOW * FRAMES, 40)
    stepped = Stepped(model)
    with torch.inference_mode():
        said = [eager()(pictures, mfcc), frozen()(pictures, mfcc)]
        said.append([stepped(pictures[i], mfcc[FRAMES * i : FRAMES * (i + 1)]) for i in range(WINDOW)][-1])
    worst = max(float((a - b).abs().max()) for other in said[1:] for a, b in zip(said[0], other, strict=True))
    if worst > 1e-4:
        raise RuntimeError(f"the candidates' networks differ by {worst}")
    return worst


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each turn, after the warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="such as ours,b")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(CANDIDATES)
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        # A process of its own: torch in this one would be in nobody's figures, and in everybody's way.
        made = f"from network import write_ours; write_ours({str(folder / 'ours.ts')!r})"
        subprocess.run(
            [sys.executable, "-c", made],
            check=True, cwd=PEERS, env={**os.environ, "PYTHONPATH": f"{ROOT}:{PEERS}"},
        )  # fmt: skip
        model, recording = folder / "ours.ts", CAMERA.write(folder)
        worst = check_same_network(model)
        first = first_picture(recording, folder)
        for round_ in range(args.rounds):
            for name in names:
                turns[name].append(measure(name, recording, model, args.seconds, first))
                print(f"round {round_ + 1} {name}: {said(turns[name][-1])}", flush=True)
    rows = [summed(name, turns[name]) for name in names]
    show(rows)
    write("peers", rows, {"network_difference": worst, "seconds": args.seconds, "rounds": args.rounds})


if __name__ == "__main__":
    main()
