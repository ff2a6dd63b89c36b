"""What is exported is what was trained: same answers, same state, folded and frozen."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from streamfuse.errors import ModelError, OutputError
from streamfuse.model.export import export_model, weights_sha256
from streamfuse.model.fusion import FUSIONS
from streamfuse.model.network import Network, Stepper
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.model.torchscript import freeze
from streamfuse.types import F32
from tests.model.networks import (
    HEADS,
    PER_TICK,
    random_inputs,
    random_network,
    relative,
    run_chunks,
    small_spec,
)


def exported(tmp_path: Path, spec: ModelSpec, network: Network) -> Model:
    export_model(network, spec, tmp_path / "model.ts")
    return load_model(tmp_path / "model.ts", device="cpu")


def stepped(
    model: Model, inputs: tuple[torch.Tensor, ...], ticks: int
) -> tuple[list[torch.Tensor], list[F32]]:
    """Logits (1, T, classes) per head and the last state, tick by tick through the file."""
    video, audio, present = (one.numpy() for one in inputs)
    state = model.init_state(1)
    said = []
    for t in range(ticks):
        sound = audio[:, t * PER_TICK : (t + 1) * PER_TICK]
        logits, state = model.step(video[:, :, t : t + 1], sound, present, state)
        said.append(logits)
    return [torch.tensor(np.stack(head, 1)) for head in zip(*said, strict=True)], model.state_arrays(state)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_file_equals_the_eager_clip(tmp_path: Path, fusion: str) -> None:
    spec = small_spec(fusion=fusion)
    network, inputs = random_network(spec), random_inputs(spec, 8)
    whole, last = run_chunks(network, inputs, [8])
    logits, state = stepped(exported(tmp_path, spec, network), inputs, 8)
    assert relative(logits, whole) <= 1e-5
    assert relative([torch.tensor(one) for one in state], last) <= 1e-5


@pytest.mark.parametrize("preset", ["base", "lite"])
def test_the_file_equals_the_eager_clip_at_full_size(tmp_path: Path, preset: str) -> None:
    spec = small_spec(preset=preset, size=128)
    network, inputs = random_network(spec), random_inputs(spec, 4)
    whole, _ = run_chunks(network, inputs, [4])
    assert relative(stepped(exported(tmp_path, spec, network), inputs, 4)[0], whole) <= 1e-5
    assert (tmp_path / "model.ts").stat().st_size < 14_000_000  # program and weights by name


def test_freezing_folds_every_normalisation() -> None:
    for preset in ("tiny", "lite"):
        spec = small_spec(preset=preset)
        program = freeze(Stepper(random_network(spec)), keep=("init_state",))
        graph = str(program.inlined_graph)
        assert "aten::conv2d" in graph
        assert "aten::batch_norm" not in graph


def test_the_network_may_go_on_training_after_export(tmp_path: Path) -> None:
    spec = small_spec()
    network = random_network(spec).train()
    before = weights_sha256(network)
    export_model(network, spec, tmp_path / "model.ts")
    assert network.training
    assert weights_sha256(network) == before


def test_the_description_is_completed(tmp_path: Path) -> None:
    spec = small_spec()
    heads = tuple(msgspec.structs.replace(head, temperature=2.0) for head in HEADS)
    written = export_model(
        random_network(spec), msgspec.structs.replace(spec, heads=heads, state=()), tmp_path / "m.ts"
    )
    loaded = load_model(tmp_path / "m.ts", device="cpu").spec
    assert loaded == written
    assert loaded.heads[0].temperature == 2.0
    assert loaded.state == spec.state
    assert loaded.warm_ticks == 29
    assert loaded.weights_sha256 == weights_sha256(random_network(spec))


def test_weights_have_one_identity_whatever_the_file_is_called(tmp_path: Path) -> None:
    spec = small_spec()
    one = export_model(random_network(spec), spec, tmp_path / "one.ts")
    two = export_model(random_network(spec), spec, tmp_path / "two.ts")
    assert one.weights_sha256 == two.weights_sha256 != weights_sha256(random_network(spec, seed=5))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    spec = small_spec()
    network = random_network(spec)
    network.fusion.answer.heads[0].weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="weights must be finite, got NaN or infinity"):
        export_model(network, spec, tmp_path / "model.ts")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    spec = small_spec()
    with pytest.raises(OutputError, match=r"a model file must be writable, got No such file .*nowhere"):
        export_model(random_network(spec), spec, tmp_path / "nowhere" / "model.ts")


def test_nothing_is_said_about_the_end_of_torchscript(tmp_path: Path) -> None:
    spec = small_spec()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported(tmp_path, spec, random_network(spec)).warm_up()


def test_a_step_costs_the_same_forever(tmp_path: Path) -> None:
    spec = small_spec(size=16)
    network = random_network(spec)
    model = exported(tmp_path, spec, network)
    inputs = random_inputs(spec, 1)
    arrays = [one.numpy() for one in inputs]

    def operations(state: list[torch.Tensor]) -> int:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network.step(*inputs, state)
        return counter.get_total_flops()

    state = model.init_state(1)
    first = operations(state)
    process = psutil.Process()
    resident = 0
    for index in range(1000):
        if index == 200:
            resident = process.memory_info().rss
        _, state = model.step(*arrays, state)
    assert first > 500_000
    assert operations(state) == first
    assert [tuple(one.shape) for one in state] == [one.batched(1) for one in spec.state]
    assert process.memory_info().rss - resident < 4 << 20


def test_two_thousand_steps_do_not_drift(tmp_path: Path) -> None:
    spec = small_spec(memory_ticks=64, size=16)
    network = random_network(spec)
    ticks = 2000
    inputs = random_inputs(spec, ticks)
    logits, state = stepped(exported(tmp_path, spec, network), inputs, ticks)
    double = (inputs[0].double(), inputs[1].double(), inputs[2])
    want, last = run_chunks(network.double(), double, [100] * 20)
    assert relative(logits, want) <= 1e-4
    assert relative([torch.tensor(one) for one in state], last) <= 1e-4
    counts = {one.name: value for one, value in zip(spec.state, state, strict=True)}
    assert counts["frame.count"].tolist() == [[64.0]], "clamped: float32 stops counting at 2^24"


def test_a_model_of_one_head_has_one_answer(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(small_spec(), heads=(HeadSpec("scene", ("a", "b")),))
    model = exported(tmp_path, spec, random_network(spec))
    logits, _ = stepped(model, random_inputs(spec, 1), 1)
    assert [tuple(one.shape) for one in logits] == [(1, 1, 2)]
