"""Training: clips a second, and the share of the time that is lost to loading and bending the data.

    OMP_NUM_THREADS=1 python benchmarks/bench_train.py [--presets tiny,lite] [--steps 20] [--batch 8]
                                                       [--data LAYOUT:PATH]

Without --data: generated clips. Every step is timed in its two parts, drawing a batch (read, decode nothing,
bend, MFCC) and learning from it (forward, backward, optimiser). The aim is a tenth of the time for the first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import report
import torch

from streamfuse.training.clip_batches import ClipBatches
from streamfuse.training.clip_run import ClipRun
from streamfuse.training.datasets.entry import DataEntry, entry_of
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.fit import ClipFit
from streamfuse.training.settings import ClipSettings, NetworkSettings, TrainConfig

Row = dict[str, Any]


def bench(preset: str, entry: DataEntry, options: argparse.Namespace, work: Path) -> tuple[list[Row], Row]:
    """Time `steps` steps of one preset after two that warm up."""
    clips = ClipSettings(batch=options.batch, ticks=options.ticks, chunk_ticks=options.ticks)
    config = TrainConfig(data=(entry,), network=NetworkSettings(preset=preset), clips=clips)
    began = time.perf_counter_ns()
    run = ClipRun(config, read_clips([entry]), work, lambda *_: None, lambda *_: None)
    decoded_s = (time.perf_counter_ns() - began) / 1e9
    batches = ClipBatches(run.store, run.train, clips, 0)
    fit = ClipFit(run.network.train(), run.spec, batches, clips)
    optimiser = torch.optim.AdamW(run.network.parameters())
    loading, learning = [], []
    for step in range(-2, options.steps):
        start = time.perf_counter_ns()
        batch = batches.batch(clips.batch)
        drawn = time.perf_counter_ns()
        loss = fit.loss(batch)
        if not torch.isfinite(loss):
            raise SystemExit(f"{preset}: a loss must be finite, got {float(loss)}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step >= 0:
            loading.append(float(drawn - start))
            learning.append(float(time.perf_counter_ns() - drawn))
    timings = {"loading": report.Timing.of(loading), "learning": report.Timing.of(learning)}
    seconds = sum(loading + learning) / 1e9
    facts = {
        "clips_per_s": clips.batch * options.steps / seconds,
        "stream_s_per_s": clips.batch * options.steps * options.ticks * run.spec.video.hop_ms / 1e3 / seconds,
        "share_lost_to_loading": sum(loading) / sum(loading + learning),
        "aim_share": 0.1,
        "decoding_clips_per_s": len(run.clips) / decoded_s,
    }
    case = f"{preset}, batch {clips.batch} x {clips.ticks} ticks"
    return report.rows_of(case, timings, per=clips.batch, unit="clip"), facts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="tiny,lite")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ticks", type=int, default=20)
    parser.add_argument("--data", default=None, metavar="LAYOUT:PATH")
    parser.add_argument("--short", action="store_true", help="tiny alone, three steps: does it run at all")
    options = parser.parse_args()
    if options.short:
        options.presets, options.steps, options.batch = "tiny", 3, 2
    made = DataEntry(layout="synthetic", count=20, seconds=4)
    entry = entry_of(options.data) if options.data else made
    rows: list[Row] = []
    checks: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for preset in options.presets.split(","):
            timed, checks[preset] = bench(preset, entry, options, Path(folder))
            rows += timed
            print(report.table(timed), flush=True)
            for key, value in checks[preset].items():
                print(f"  {key}: {value:.3f}")
    print(f"\nwritten to {report.write('train', rows, checks)}")


if __name__ == "__main__":
    main()
