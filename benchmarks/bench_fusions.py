"""Every fusion, preset and sound branch, trained alike on the same clips: cost beside quality.

    OMP_NUM_THREADS=1 python benchmarks/bench_fusions.py [--steps 300] [--seed 0] [--data LAYOUT:PATH ...]
        [--fusions concat,sum,...] [--presets tiny,...] [--sounds lstm,gru] [--rounds 100]
        [--short]

One row per network: parameters, MMAC and ms of a tick (the exported file, one thread), and on held-out
groups how many ticks are right with all there, without sound, and without picture. One thing is changed at
a time from tiny, gated, lstm. Without --data: generated clips.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import report
import torch
from torch.utils.flop_counter import FlopCounterMode

from streamfuse.model.fusion import FUSIONS
from streamfuse.model.network import Network
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import ModelSpec
from streamfuse.training.assess import CLEAN, assess
from streamfuse.training.clip_run import ClipRun
from streamfuse.training.datasets.clips import ClipSet
from streamfuse.training.datasets.entry import DataEntry, entry_of
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.settings import ClipSettings, NetworkSettings, TrainConfig

Row = dict[str, Any]
CONDITIONS = (CLEAN, "no sound", "no picture")
PRESETS = ("tiny", "small", "base", "lite", "clip3d")
SOUNDS = ("lstm", "gru", "conv")


def inputs_of(spec: ModelSpec) -> tuple[torch.Tensor, ...]:
    present = torch.ones(1, len(spec.views) + 1, dtype=torch.bool)
    return torch.randn(spec.video_shape()), torch.randn(spec.audio_shape()), present


def mmac(network: Network, spec: ModelSpec) -> float:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval().step(*inputs_of(spec), network.init_state(1))
    return counter.get_total_flops() / 2e6


def timed(model: Model, rounds: int) -> report.Timing:
    arrays = [one.numpy() for one in inputs_of(model.spec)]
    state = [model.init_state(1)]

    def step() -> None:
        _, state[0] = model.step(*arrays, state[0])

    return report.compare({"step": step}, rounds)["step"]


def train(network: NetworkSettings, found: ClipSet, entries: tuple[DataEntry, ...], work: Path,
          options: argparse.Namespace) -> Row:  # fmt: skip
    """Train one network and measure it."""
    clips = ClipSettings(
        steps=options.steps,
        batch=8,
        ticks=16,
        chunk_ticks=8,
        rate=4e-3,
        check_every=max(1, options.steps // 4),
    )
    config = TrainConfig(data=entries, network=network, clips=clips, seed=options.seed)
    run = ClipRun(config, found, work, lambda *_: None, lambda *_: None)
    run.learn()
    spec = run.finish(work / "model.ts")
    model = load_model(work / "model.ts", device="cpu")
    measures = assess(model, [clip for clip in run.clips if clip.part == "test"], conditions=CONDITIONS)
    row: Row = {"preset": network.preset, "fusion": network.fusion, "sound": network.sound}
    row["parameters"] = sum(one.numel() for one in run.network.parameters())
    row["mmac_per_tick"] = mmac(run.network, spec)
    speed = timed(model, options.rounds)
    row["ms_per_tick_p50"], row["ms_per_tick_p95"] = speed.p50 / 1e6, speed.p95 / 1e6
    for condition in CONDITIONS:
        some = [one for one in measures if one.condition == condition and "accuracy" in one.tick]
        row[condition] = float(np.mean([one.tick["accuracy"] for one in some])) if some else float("nan")
    return row


def networks(options: argparse.Namespace) -> list[NetworkSettings]:
    """What is compared: the base with one thing changed."""
    side = options.picture_side
    base: Row = {"preset": "tiny", "fusion": "gated", "sound": "lstm", "picture_side": side}
    chosen = [base | {"fusion": one} for one in options.fusions.split(",") if one]
    chosen += [base | {"preset": one} for one in options.presets.split(",") if one and one != "tiny"]
    chosen += [base | {"sound": one} for one in options.sounds.split(",") if one and one != "lstm"]
    return [NetworkSettings(**one) for one in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture-side", type=int, default=64)
    parser.add_argument("--fusions", default=",".join(FUSIONS))
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--sounds", default=",".join(SOUNDS))
    parser.add_argument("--data", action="append", default=[], metavar="LAYOUT:PATH")
    parser.add_argument("--clips", type=int, default=100, help="generated clips, of three seconds")
    parser.add_argument("--short", action="store_true", help="two fusions, four steps: does it run at all")
    options = parser.parse_args()
    if options.short:
        options.fusions, options.presets, options.sounds = "concat,gated", "", ""
        options.steps, options.rounds, options.clips, options.picture_side = 4, 5, 12, 32
    made = DataEntry(layout="synthetic", count=options.clips, seconds=3)
    entries = tuple(entry_of(one) for one in options.data) or (made,)
    found = read_clips(entries)
    rows: list[Row] = []
    title = ("preset", "fusion", "sound", "params", "MMAC", "ms/tick", "all", "no sound", "no pic")
    print(("{:>10}" * len(title)).format(*title))
    with tempfile.TemporaryDirectory() as folder:
        for network in networks(options):
            row = train(network, found, entries, Path(folder), options)
            rows.append(
                row | {"case": "comparison", "name": f"{network.preset} {network.fusion} {network.sound}"}
            )
            shares = [100 * row[one] for one in CONDITIONS]
            numbers = (row["mmac_per_tick"], row["ms_per_tick_p50"], *shares)
            names = (row["preset"], row["fusion"], row["sound"], row["parameters"])
            print(("{:>10}" * 4).format(*names) + ("{:>10.1f}" * 5).format(*numbers), flush=True)
    facts = {"steps": options.steps, "seed": options.seed, "clips": len(found.clips)}
    print(f"\nwritten to {report.write('fusions', rows, facts)}")


if __name__ == "__main__":
    main()
