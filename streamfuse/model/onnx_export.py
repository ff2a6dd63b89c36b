"""A model file of ours -> ONNX: the same step with its state as inputs and outputs.

The batch is the one dimension that may vary. Needs the extra `streamfuse[onnx]`.
"""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from streamfuse.errors import BackendError, ModelError
from streamfuse.model import torchscript
from streamfuse.model.export import write_model
from streamfuse.model.inspect import ModelFile
from streamfuse.model.onnx_runtime import INPUTS, NEXT
from streamfuse.model.opened import Opened
from streamfuse.model.spec import SPEC_FILE

OPSET = 17


class _Flat(nn.Module):
    """The step with flat arguments and results: ONNX has no lists of tensors."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.step = Opened(program)

    def forward(self, video: Tensor, audio: Tensor, present: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        logits, fresh = self.step(video, audio, present, list(state))
        return (*logits, *fresh)


def export_onnx(file: ModelFile, path: str | os.PathLike[str]) -> None:
    """Write the model as ONNX, with its description in the metadata; the file appears whole or not at all.

    What is exported is the frozen program, whose weights are in it, whether they are there by name or not.

    raises  ModelError for a model that is not a network of ours, or that the exporter can not express;
            BackendError where onnx is not installed
    """
    try:
        import onnx
    except ImportError as error:
        hint = "pip install 'streamfuse[onnx]'"
        raise BackendError("exporting to ONNX needs onnx", got=error, hint=hint) from error
    spec = file.spec
    if spec.network is None or file.format != "torchscript":
        rule = "exporting to ONNX takes a network of ours"
        raise ModelError(rule, got=f"{file.format} of someone else", where=file.path)
    program = torchscript.load(file.data, "cpu")
    states = [one.name for one in spec.state]
    outputs = [*(f"logits.{head.name}" for head in spec.heads), *(NEXT + name for name in states)]
    # Two streams, so that no size of one is taken for a constant.
    inputs = (
        torch.zeros(spec.video_shape(2)), torch.zeros(spec.audio_shape(2)),
        torch.ones(2, len(spec.views) + 1, dtype=torch.bool), *program.init_state(2),
    )  # fmt: skip
    batches = {name: {0: "batch"} for name in (*INPUTS, *(f"logits.{head.name}" for head in spec.heads))}
    for one in spec.state:
        batches[one.name] = batches[NEXT + one.name] = {one.batch_dim: "batch"}
    buffer = io.BytesIO()
    torch.onnx.register_custom_op_symbolic("aten::cumprod", _cumprod, OPSET)  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Flat(program).eval(), inputs, buffer, dynamo=False,  # type: ignore[arg-type]
                opset_version=OPSET,
                input_names=[*INPUTS, *states], output_names=outputs, dynamic_axes=batches,
            )  # fmt: skip
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError("a model must be expressible in ONNX", got=error, where=file.path) from error
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::cumprod", OPSET)  # type: ignore[attr-defined]
    model = onnx.load_model_from_string(buffer.getvalue())
    entry = model.metadata_props.add()
    entry.key, entry.value = SPEC_FILE, spec.to_json()
    onnx.checker.check_model(model)
    write_model(model.SerializeToString(), path)


def _cumprod(graph: Any, x: Any, dim: Any, dtype: Any = None) -> Any:  # noqa: ARG001
    """Running products as sums of logarithms: ours are of ten numbers just below one."""
    return graph.op(
        "Exp", graph.op("CumSum", graph.op("Log", x), graph.op("Constant", value_t=torch.tensor(1)))
    )
