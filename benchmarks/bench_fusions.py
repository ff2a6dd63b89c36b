"""Every fusion, preset and sound branch, trained alike on the same clips: cost beside quality.

    OMP_NUM_THREADS=1 python benchmarks/bench_fusions.py [--steps 60] [--seed 0] [--data LAYOUT:PATH ...]
        [--pretrained FILE] [--fusions concat,sum,...] [--presets tiny,...] [--sounds lstm,gru] [--short]

One row per network: parameters, MMAC and ms of a tick (the exported file, one thread), and on held-out
groups how many ticks are right with all there, without sound, and without picture. One thing is changed at
a time from tiny, gated, lstm. Pictures have a third of each preset's own side, so that all can be trained in
minutes; MMAC at its own side stands beside it. The last row is `lite` with its pretrained layers frozen
(FILE: see streamfuse/training/pretrained.py); without FILE those layers are random, and the name says so.
Without --data: generated clips.
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

import numpy as np
import report
import torch
from torch.utils.flop_counter import FlopCounterMode

from streamfuse.model.export import export_model
from streamfuse.model.fusion import FUSIONS
from streamfuse.model.network import PRESETS, Network, build_network
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import ModelSpec
from streamfuse.training.assess import CLEAN, assess
from streamfuse.training.clip_run import ClipRun, clip_model_spec
from streamfuse.training.datasets.clips import ClipSet
from streamfuse.training.datasets.entry import DataEntry, entry_of
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.settings import ClipSettings, NetworkSettings, TrainConfig

Row = dict[str, Any]
CONDITIONS = (CLEAN, "no sound", "no picture")
SOUNDS = ("lstm", "gru", "conv")
LEAST_SIDE, SHRUNK = 32, 3
"""Pictures are a third as wide as a preset's own, but no smaller than this, in pixels."""
FROZEN = "frozen"
"""Stands in the list of presets for `lite` with frozen pretrained layers."""


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


def trained(network: NetworkSettings, found: ClipSet, entries: tuple[DataEntry, ...], work: Path,
            options: argparse.Namespace) -> tuple[ClipRun, float]:  # fmt: skip
    """A network after so many steps, and the seconds that they took."""
    # Generated sound needs no bending, which would take more of the time than learning does.
    clips = ClipSettings(
        steps=options.steps, batch=8, ticks=options.ticks, chunk_ticks=options.ticks, rate=8e-3, patience=0,
        noise=0.0, reverberation=0.0, speed=0.0, masks=0,
    )  # fmt: skip
    config = TrainConfig(data=entries, network=network, clips=clips, seed=options.seed)
    run = ClipRun(config, found, work, lambda *_: None, lambda *_: None)
    began = time.perf_counter()
    run.learn()
    return run, time.perf_counter() - began


def own_size(network: NetworkSettings, found: ClipSet, entries: tuple[DataEntry, ...]) -> float:
    """MMAC of a tick with pictures of the preset's own size."""
    own = network.model_copy(update={"picture_side": None})
    spec = clip_model_spec(TrainConfig(data=entries, network=own), found)
    return mmac(build_network(spec), spec)


def measured(run: ClipRun, work: Path, options: argparse.Namespace) -> Row:
    """Cost and quality of the file that this run makes."""
    spec = export_model(run.network, run.spec, work / "model.ts")
    model = load_model(work / "model.ts", device="cpu")
    measures = assess(model, [clip for clip in run.clips if clip.part == "test"], conditions=CONDITIONS)
    row: Row = {"parameters": sum(one.numel() for one in run.network.parameters())}
    row["picture_side"] = spec.video.picture.size
    row["mmac_per_tick"] = mmac(run.network, spec)
    speed = timed(model, options.rounds)
    row["ms_per_tick_p50"], row["ms_per_tick_min"] = speed.p50 / 1e6, speed.min / 1e6
    for condition in CONDITIONS:
        some = [one for one in measures if one.condition == condition and "accuracy" in one.tick]
        row[condition] = float(np.mean([one.tick["accuracy"] for one in some])) if some else float("nan")
    return row


def side_of(preset: str) -> int:
    return max(LEAST_SIDE, round(PRESETS[preset].size / SHRUNK))


def networks(options: argparse.Namespace) -> list[NetworkSettings]:
    """What is compared: the base with one thing changed."""
    base: Row = {"preset": "tiny", "fusion": "gated", "sound": "lstm", "picture_side": side_of("tiny")}
    chosen = [base | {"fusion": one} for one in options.fusions.split(",") if one]
    chosen += [base | {"sound": one} for one in options.sounds.split(",") if one and one != "lstm"]
    for preset in options.presets.split(","):
        if preset == FROZEN:
            lite = {"preset": "lite", "picture_side": side_of("lite")}
            chosen.append(base | lite | {"frozen": True, "pretrained": options.pretrained})
        elif preset and preset != "tiny":
            chosen.append(base | {"preset": preset, "picture_side": side_of(preset)})
    return [NetworkSettings(**one) for one in chosen]


def name_of(network: NetworkSettings) -> str:
    name = f"{network.preset} {network.fusion} {network.sound}"
    if not network.frozen:
        return name
    return f"{name}, frozen {'EfficientNet-Lite0' if network.pretrained else 'RANDOM layers (no file given)'}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--ticks", type=int, default=8, help="of a training stream")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fusions", default=",".join(FUSIONS))
    parser.add_argument("--presets", default=",".join([*PRESETS, FROZEN]))
    parser.add_argument("--sounds", default=",".join(SOUNDS))
    parser.add_argument("--pretrained", default=None, metavar="FILE", help="EfficientNet-Lite0 weights")
    parser.add_argument("--data", action="append", default=[], metavar="LAYOUT:PATH")
    parser.add_argument("--clips", type=int, default=60, help="generated clips, of two seconds")
    parser.add_argument("--short", action="store_true", help="two fusions, four steps: does it run at all")
    options = parser.parse_args()
    if options.short:
        options.fusions, options.presets, options.sounds = "concat,gated", "", ""
        options.steps, options.rounds, options.clips = 4, 5, 12
    made = DataEntry(layout="synthetic", count=options.clips, seconds=2)
    entries = tuple(entry_of(one) for one in options.data) or (made,)
    found = read_clips(entries)
    rows: list[Row] = []
    held = sum(clip.part == "test" for clip in found.clips)
    facts = {"steps": options.steps, "seed": options.seed, "clips": len(found.clips), "held_out": held}
    print(f"{'network':44}" + ("{:>9}" * len(TITLES)).format(*TITLES))
    with tempfile.TemporaryDirectory() as folder:
        for network in networks(options):
            run, seconds = trained(network, found, entries, Path(folder), options)
            row: Row = {"case": "comparison", "name": name_of(network)} | measured(run, Path(folder), options)
            row |= {"mmac_at_own_size": own_size(network, found, entries), "training_s": seconds}
            rows.append(row)
            # A run of minutes that is cut off leaves what it has.
            written = report.write("fusions", rows, facts)
            print(line_of(row), flush=True)
    print(f"\nwritten to {written}")


TITLES = ("params", "px", "MMAC", "own px", "ms p50", "ms min", "all", "no sound", "no pic")


def line_of(row: Row) -> str:
    numbers = (row["mmac_per_tick"], row["mmac_at_own_size"], row["ms_per_tick_p50"], row["ms_per_tick_min"])
    shares = [100 * row[one] for one in CONDITIONS]
    return (
        f"{row['name']:44}{row['parameters']:>9}{row['picture_side']:>9}"
        + ("{:>9.2f}" * 4).format(*numbers)
        + ("{:>9.1f}" * 3).format(*shares)
    )


if __name__ == "__main__":
    main()
