"""One tick of the network on one CPU thread: eager, frozen conv3d, frozen steps, and recomputed whole.

    OMP_NUM_THREADS=1 python benchmarks/bench_model.py [--presets base,tiny,lite] [--rounds 200]
                                                       [--drift 100000] [--batches 1,8,64] [--short]

The rival of a step is the same network run over its whole receptive field at every tick, in the
fastest form of it that we know. Weights are random: they cost what trained ones cost.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import report
import torch
from runtimes import bench_fusions, bench_runtimes
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.export import export_model
from streamfuse.model.network import PRESETS, Network, build_network, network_spec
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import HeadSpec, ModelSpec

SCENES = ("forest", "coast", "street", "indoor", "mountain")
EMOTIONS = ("none", "neutral", "happy", "sad", "angry")
SOUNDS = ("rain", "storm", "wind", "waves", "stream", "birds", "night", "train", "street", "cafe", "fire")
HEADS = (HeadSpec("scene", SCENES), HeadSpec("emotion", EMOTIONS), HeadSpec("sound", SOUNDS, "sigmoid"))
Row = dict[str, Any]


class Clipper(nn.Module):
    """A network behind the contract by clips; answers for the last tick."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        logits, _, fresh = self.network.clip(video, audio, present, state)
        return [one[:, -1] for one in logits], fresh


def make(preset: str, size: int | None = None) -> tuple[ModelSpec, Network]:
    picture = FrameSpec(size=size, colour="luma") if size else None
    spec = network_spec(HEADS, preset=preset, picture=picture)
    torch.manual_seed(0)
    network = build_network(spec).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("project.norm.weight"):  # as built they are zero, and cut the blocks off
            tensor.fill_(0.5)
    return spec, network


def exported(spec: ModelSpec, network: Network) -> tuple[Model, Row]:
    """The model as users run it, with what its file and its first calls cost."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ts"
        export_model(network, spec, path)
        start = time.perf_counter_ns()
        model = load_model(path, device="cpu")
        loaded = time.perf_counter_ns()
        model.warm_up()
        facts = {"file_bytes": path.stat().st_size, "load_ms": (loaded - start) / 1e6,
                 "warm_up_ms": (time.perf_counter_ns() - loaded) / 1e6}  # fmt: skip
    return model, facts


def traced(clipper: Clipper, spec: ModelSpec, ticks: int) -> Any:
    """A clip of that many ticks as a frozen program; traced, as training's clips need not script."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        inputs = (*inputs_of(spec, ticks), clipper.network.init_state(1))
        return torch.jit.freeze(torch.jit.trace(clipper.eval(), inputs, check_trace=False))


def inputs_of(spec: ModelSpec, ticks: int) -> tuple[Tensor, Tensor, Tensor]:
    picture = spec.video.picture
    generator = torch.Generator().manual_seed(1)
    shape = (1, 1, ticks, picture.channels, picture.size, picture.size)
    audio = torch.randn((1, ticks * spec.frames_per_tick, spec.audio.n_mfcc), generator=generator)
    return torch.randn(shape, generator=generator), audio, torch.ones(1, 2, dtype=torch.bool)


def streaming(step: Callable[..., Any], state: Any, *inputs: Any) -> Callable[[], Any]:
    """A call that steps and keeps the state, as a stream does."""
    kept = [state]

    def call() -> Any:
        logits, kept[0] = step(*inputs, kept[0])
        return logits

    return call


def difference(got: list[Any], want: list[Any]) -> float:
    """The largest difference over the largest value, any array types."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(got, want, strict=True)]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def bench_step(preset: str, rounds: int) -> tuple[list[Row], Row]:
    """The step against its other forms and against recomputing the receptive field."""
    spec, network = make(preset)
    _, volumetric = make(preset)
    for branch in volumetric.videos:
        branch.volumetric = True
    field = network.receptive_field
    video, audio, present = inputs_of(spec, field)
    model, facts = exported(spec, network)
    clips = {
        "frozen conv3d": traced(Clipper(volumetric), spec, field),
        "frozen folded": traced(Clipper(network), spec, field),
        "frozen conv3d, T=1": traced(Clipper(volumetric), spec, 1),
    }
    tick = (video[:, :, -1:], audio[:, -spec.frames_per_tick :], present)
    arrays = [one.numpy() for one in tick]
    empty = network.init_state(1)
    with torch.inference_mode():
        state = model.init_state(1)
        for t in range(field):
            sound = audio[:, t * spec.frames_per_tick : (t + 1) * spec.frames_per_tick]
            logits, state = model.step(video[:, :, t : t + 1].numpy(), sound.numpy(), arrays[2], state)
        errors = {
            name: difference(clips[name](video, audio, present, empty)[0], logits)
            for name in ("frozen conv3d", "frozen folded")
        }
        if not max(errors.values()) <= 1e-5:
            raise SystemExit(f"{preset}: a stream must equal its clip to 1e-5, got {errors}")
        steps = report.compare(
            {
                "the file, by steps": streaming(model.step, model.init_state(1), *arrays),
                "eager step": streaming(network.step, empty, *tick),
                "eager conv3d, T=1": streaming(Clipper(volumetric), empty, *tick),
                "frozen conv3d, T=1": streaming(clips["frozen conv3d, T=1"], empty, *tick),
            },
            rounds,
        )
        whole = report.compare(
            {
                "the file, by steps": streaming(model.step, model.init_state(1), *arrays),
                f"{field} frames anew, conv3d": lambda: clips["frozen conv3d"](video, audio, present, empty),
                f"{field} frames anew, folded": lambda: clips["frozen folded"](video, audio, present, empty),
            },
            max(20, rounds // 5),
            warm_up=4,
        )
    case = f"{preset}, {spec.video.picture.size} px, one tick"
    rows = report.rows_of(case, steps, unit="tick", base="the file, by steps")
    rows += report.rows_of(f"{case}, receptive field", whole, unit="tick", base="the file, by steps")
    return rows, facts | {"relative_error": max(errors.values())}


def bench_sizes(preset: str, rounds: int) -> tuple[list[Row], Row]:
    """The file by steps at several picture sizes; parameters, operations and state beside it."""
    calls: dict[str, Callable[[], Any]] = {}
    facts: Row = {}
    for size in (96, 112, 128):
        spec, network = make(preset, size)
        model, _ = exported(spec, network)
        tick = inputs_of(spec, 1)
        calls[f"{size} px"] = streaming(model.step, model.init_state(1), *(one.numpy() for one in tick))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network.step(*tick, network.init_state(1))
        state_bytes = sum(int(np.prod(one.shape)) for one in spec.state) * 4
        facts[f"{size}_px"] = {"mmac": counter.get_total_flops() / 2e6, "state_bytes": state_bytes}
        facts["parameters"] = sum(one.numel() for one in network.parameters())
    return report.rows_of(f"{preset}, by picture size", report.compare(calls, rounds), unit="tick"), facts


def bench_forever(preset: str) -> Row:
    """Does a tick cost the same after ten thousand as after a hundred; is no call slow after warm-up?"""
    spec, network = make(preset)
    model, _ = exported(spec, network)
    arrays = [one.numpy() for one in inputs_of(spec, 1)]
    old, young = (streaming(model.step, model.init_state(1), *arrays) for _ in range(2))
    first = report.compare({"first 200": old}, rounds=200, warm_up=0)["first 200"]
    for _ in range(10_000 - 200):
        old()
    ages = report.compare({"old": old, "young": young}, rounds=200, warm_up=100)
    return {"p50_at_1e4_over_1e2": ages["old"].p50 / ages["young"].p50,
            "max_over_p50_after_warm_up": first.max / first.p50}  # fmt: skip


def check_drift(preset: str, steps: int) -> Row:
    """The file after `steps` steps against float64."""
    spec, network = make(preset, 32)
    model, _ = exported(spec, network)
    double = make(preset, 32)[1].double()
    state, exact = model.init_state(1), [one.double() for one in double.init_state(1)]
    worst, block = 0.0, 100
    for at in range(0, steps, block):
        generator = torch.Generator().manual_seed(at)
        video = torch.randn((1, 1, block, 1, 32, 32), generator=generator)
        audio = torch.randn((1, block * spec.frames_per_tick, 40), generator=generator)
        present = torch.ones(1, 2, dtype=torch.bool)
        with torch.inference_mode():
            want, _, exact = double.clip(video.double(), audio.double(), present, exact)
        for t in range(block):
            sound = audio[:, t * spec.frames_per_tick : (t + 1) * spec.frames_per_tick]
            logits, state = model.step(video[:, :, t : t + 1].numpy(), sound.numpy(), present.numpy(), state)
        worst = max(worst, difference(logits, [one[:, -1] for one in want]))
    return {"steps": steps, "relative_error": worst, "gate": 1e-4}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="base,tiny,lite")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--drift", type=int, default=0, help="also compare this many steps with float64")
    parser.add_argument("--batches", default="1,8,64", help="streams side by side, by runtime")
    parser.add_argument("--short", action="store_true", help="tiny alone, ten rounds, no long runs")
    options = parser.parse_args()
    if options.short:
        options.presets, options.rounds, options.batches = "tiny", 10, "1,8"
    names = options.presets.split(",")
    if not set(names) <= set(PRESETS):
        parser.error(f"presets must be of {', '.join(PRESETS)}, got {options.presets}")
    rows: list[Row] = []
    checks: dict[str, Any] = {}
    for name in names:
        timed, step = bench_step(name, options.rounds)
        sized, sizes = bench_sizes(name, options.rounds)
        batches = [int(one) for one in options.batches.split(",")]
        ran, runtimes = bench_runtimes(HEADS, name, batches, options.rounds)
        print(report.table(timed + sized + ran), flush=True)
        rows += timed + sized + ran
        checks[name] = step | sizes | runtimes | ({} if options.short else bench_forever(name))
        if options.drift:
            checks[name]["drift"] = check_drift(name, options.drift)
        for key, value in checks[name].items():
            print(f"  {key}: {value}")
    fused, checks["fusions"] = bench_fusions(HEADS, options.rounds)
    print(report.table(fused), flush=True)
    rows += fused
    print(f"\nwritten to {report.write('model', rows, checks)}")


if __name__ == "__main__":
    main()
