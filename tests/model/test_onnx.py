"""The same model through ONNX Runtime: equal answers, equal state, and refusals in one line."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from streamfuse.errors import BackendError, ModelError
from streamfuse.model import torchscript
from streamfuse.model.export import export_model, load_network, weights_sha256
from streamfuse.model.inspect import WEIGHTS_FILE, inspect_model
from streamfuse.model.onnx_export import export_onnx
from streamfuse.model.opened import Opened
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import SPEC_FILE
from tests.model.networks import PER_TICK, random_inputs, random_network, small_spec

EQUAL = 1e-4
"""What the issue asks for; 2e-7 was measured."""


def both(folder: Path, **options: Any) -> tuple[Model, Model]:
    spec = small_spec(**options)
    export_model(random_network(spec), spec, folder / "m.ts")
    export_onnx(inspect_model(folder / "m.ts"), folder / "m.onnx")
    return load_model(folder / "m.ts", device="cpu"), load_model(folder / "m.onnx", device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    both(folder)
    return folder


OPTIONS = (
    [{}, 1], [{}, 3],
    [{"preset": "lite", "fusion": "hybrid"}, 3],
    [{"fusion": "attention", "size": 33}, 3],
    [{"fusion": "concat", "sound": "gru"}, 3],
    [{"fusion": "sum", "sound": "conv"}, 3],
    [{"fusion": "tensor", "views": ("frame", "face")}, 3],
    [{"fusion": "lmf"}, 3],
    [{"fusion": "decision"}, 3],
    [{"preset": "lite", "fusion": "hybrid", "sound": "conv", "views": ("frame", "face")}, 3],
    [{"preset": "clip3d", "colour": "rgb"}, 2],
)  # fmt: skip
"""Every fusion, sound branch and view; one stream, and several."""


@pytest.mark.parametrize(("options", "batch"), OPTIONS)
def test_onnx_equals_torchscript_with_modalities_coming_and_going(
    tmp_path: Path, options: dict[str, Any], batch: int
) -> None:
    equal_over_a_stream(*both(tmp_path, **options), ticks=12, batch=batch)


def test_onnx_of_the_default_model_equals_it(tmp_path: Path) -> None:
    """Its file has no weights by name: they are in the frozen program, and so is the face view."""
    file = inspect_model()
    assert file.member(WEIGHTS_FILE) is None
    assert file.spec.views == ("frame", "face")
    export_onnx(file, tmp_path / "default.onnx")
    graph = load_model(tmp_path / "default.onnx", device="cpu")
    assert graph.spec == file.spec
    # Long enough for every state to age and to be forgotten, where a view stays away.
    equal_over_a_stream(load_model(device="cpu"), graph, ticks=file.spec.max_gap_ticks + 12, batch=2)


def equal_over_a_stream(script: Model, graph: Model, *, ticks: int, batch: int) -> None:
    spec = script.spec
    window = spec.video.frames
    video, audio, _ = (one.numpy() for one in random_inputs(spec, ticks + window - 1, batch))
    # Every case: all there, one gone, none there, and different ones in different rows.
    present = np.random.default_rng(0).random((ticks, batch, len(spec.views) + 1)) < 0.6
    present[0], present[1] = True, False
    present[2:-2, 0, 0] = False
    one, other = script.init_state(batch), graph.init_state(batch)
    for t in range(ticks):
        arrays = (
            np.ascontiguousarray(video[:, :, t : t + window]),
            np.ascontiguousarray(audio[:, t * PER_TICK : (t + window) * PER_TICK]),
            present[t],
        )
        want, one = script.step(*arrays, one)
        got, other = graph.step(*arrays, other)
        for a, b in zip([*want, *script.state_arrays(one)], [*got, *graph.state_arrays(other)], strict=True):
            np.testing.assert_allclose(b, a, atol=EQUAL, rtol=EQUAL)


def test_onnx_of_someone_elses_program_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"exporting to ONNX takes a network of ours, got onnx"):
        export_onnx(inspect_model(files / "m.onnx"), tmp_path / "again.onnx")


def test_operation_that_is_not_known_is_named() -> None:
    class Odd(torch.nn.Module):
        def forward(
            self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
        ) -> tuple[list[Tensor], list[Tensor]]:
            if torch.is_grad_enabled():
                return state, [video]
            return state, [audio, present]

    opened = Opened(torchscript.script(Odd()))
    with pytest.raises(ModelError, match=r"must be expressible in ONNX, got the operation aten::is_grad"):
        opened(*(torch.zeros(1),) * 3, [])


def test_opened_program_is_the_program(files: Path) -> None:
    """Before anything is exported: the same operations on the same numbers, in another order of memory."""
    program = torchscript.load(inspect_model(files / "m.ts").data, "cpu")
    spec = inspect_model(files / "m.ts").spec
    video, audio, present = random_inputs(spec, 1, 2)
    present[1, 0] = False
    with torch.inference_mode():
        want, got = (one(video, audio, present, program.init_state(2)) for one in (program, Opened(program)))
    for a, b in zip([*want[0], *want[1]], [*got[0], *got[1]], strict=True):
        torch.testing.assert_close(b, a, atol=EQUAL, rtol=EQUAL)


def test_onnx_file_passes_the_checker_and_describes_itself(files: Path) -> None:
    file = inspect_model(files / "m.onnx")
    assert file.format == "onnx"
    assert file.spec == inspect_model(files / "m.ts").spec
    model = onnx.load(files / "m.onnx")  # the outside judge of our little reader
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key for entry in model.metadata_props} == {SPEC_FILE}
    assert file.weights_bytes == model.graph.ByteSize()
    assert [one.name for one in model.graph.input][:3] == ["video", "audio", "present"]
    assert all(one.name.startswith(("logits.", "next.")) for one in model.graph.output)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_onnx_file_that_is_cut_is_refused(files: Path, tmp_path: Path, share: float) -> None:
    data = (files / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"must (be whole|not be empty|load)|has streamfuse.json inside"):
        load_model(tmp_path / "m.onnx", device="cpu")


@pytest.mark.parametrize("data", [b"hello, I am a text", b"\xff" * 100, b"\x0b" * 8, b"\x7a\x05abc"])
def test_onnx_file_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"whole|has streamfuse.json inside") as caught:
        load_model(tmp_path / "m.onnx", device="cpu")
    assert "\n" not in str(caught.value)


def test_onnx_of_someone_else_has_no_description(tmp_path: Path) -> None:
    one = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    two = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [one], [two])), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"streamfuse.json inside, got none .*streamfuse export"):
        load_model(tmp_path / "m.onnx", device="cpu")


def test_without_onnxruntime_the_remedy_is_told(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("onnx"):
            raise ImportError(f"No module named '{name}'")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendError, match=r"needs onnxruntime.*pip install 'streamfuse\[onnx\]'"):
        load_model(files / "m.onnx", device="cpu")
    with pytest.raises(BackendError, match=r"needs onnx, .*pip install 'streamfuse\[onnx\]'"):
        export_onnx(inspect_model(files / "m.ts"), files / "again.onnx")


def test_weights_by_name_come_back_bit_for_bit(files: Path) -> None:
    network = load_network(inspect_model(files / "m.ts"))
    assert weights_sha256(network) == inspect_model(files / "m.ts").spec.weights_sha256
    assert not network.training
    with pytest.raises(ModelError, match=r"must have weights.npz inside, got none"):
        load_network(inspect_model(files / "m.onnx"))


def test_export_command(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamfuse.cli.export import export

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(export, [str(files / "m.ts")], catch_exceptions=False)
    assert result.output.startswith("wrote m.onnx: streamfuse-tiny")
    assert load_model("m.onnx", device="cpu").spec.name == "streamfuse-tiny"
    CliRunner().invoke(
        export, [str(files / "m.ts"), "--format", "torchscript", "-o", "again.ts"], catch_exceptions=False
    )
    again = load_model("again.ts", device="cpu").spec
    assert again.weights_sha256 == inspect_model(files / "m.ts").spec.weights_sha256
    CliRunner().invoke(export, [], catch_exceptions=False)
    assert inspect_model("default.onnx").spec == inspect_model().spec
    CliRunner().invoke(export, ["--format", "torchscript", "-o", "default.ts"], catch_exceptions=False)
    assert inspect_model("default.ts").sha256 == inspect_model().sha256
