"""Parts of bench_model: one step by every fusion, and by every runtime at batch 1, 8 and 64."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import report
import torch

from streamfuse.model.export import export_model
from streamfuse.model.fusion import FUSIONS
from streamfuse.model.inspect import inspect_model
from streamfuse.model.network import build_network, network_spec
from streamfuse.model.onnx_export import export_onnx
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import HeadSpec

Row = dict[str, Any]
EQUAL = 1e-4


def made(folder: Path, heads: tuple[HeadSpec, ...], preset: str, fusion: str) -> Path:
    torch.manual_seed(0)
    spec = network_spec(heads, preset=preset, fusion=fusion)
    path = folder / f"{preset}-{fusion}.ts"
    export_model(build_network(spec), spec, path)
    return path


def stepping(model: Model, batch: int) -> Callable[[], Any]:
    """A call that steps `batch` streams side by side and keeps their state."""
    rng = np.random.default_rng(1)
    spec = model.spec
    video = rng.normal(size=spec.video_shape(batch)).astype(np.float32)
    audio = rng.normal(size=spec.audio_shape(batch)).astype(np.float32)
    present = np.ones((batch, len(spec.views) + 1), np.bool_)
    state = [model.init_state(batch)]

    def call() -> Any:
        logits, state[0] = model.step(video, audio, present, state[0])
        return logits

    return call


def bench_fusions(heads: tuple[HeadSpec, ...], rounds: int) -> tuple[list[Row], Row]:
    """What a tick costs with each fusion over the tiny network's branches."""
    calls, facts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for fusion in FUSIONS:
            model = load_model(made(Path(folder), heads, "tiny", fusion), device="cpu")
            calls[fusion] = stepping(model, 1)
            spec = network_spec(heads, preset="tiny", fusion=fusion)
            facts[fusion] = sum(one.numel() for one in build_network(spec).fusion.parameters())
    timings = report.compare(calls, rounds)
    return report.rows_of("tiny, by fusion", timings, unit="tick", base="concat"), {
        "fusion_parameters": facts
    }


def bench_runtimes(
    heads: tuple[HeadSpec, ...], preset: str, batches: list[int], rounds: int
) -> tuple[list[Row], Row]:
    """TorchScript against ONNX Runtime, one thread each, their answers compared first."""
    rows: list[Row] = []
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = made(Path(folder), heads, preset, "hybrid")
        export_onnx(inspect_model(path), path.with_suffix(".onnx"))
        models = {
            "torchscript": load_model(path, device="cpu"),
            "onnxruntime": load_model(path.with_suffix(".onnx"), device="cpu"),
        }
        for batch in batches:
            calls = {name: stepping(model, batch) for name, model in models.items()}
            for _ in range(3):
                one, other = (call() for call in calls.values())
                worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)))
            if not worst <= EQUAL:
                raise SystemExit(f"{preset}: the runtimes must agree to {EQUAL}, got {worst}")
            timings = report.compare(calls, max(5, rounds // batch), warm_up=3)
            case = f"{preset}, by runtime, batch {batch}"
            rows += report.rows_of(case, timings, per=batch, unit="stream's tick", base="torchscript")
    return rows, {"runtimes_differ_by": worst}
