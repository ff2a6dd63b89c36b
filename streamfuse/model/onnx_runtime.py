"""ONNX Runtime behind the seam: a program like a TorchScript one, its state tensors as inputs and outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamfuse.errors import BackendError, ModelError
from streamfuse.kernels.backend import Device
from streamfuse.model.inspect import ModelFile

INPUTS = ("video", "audio", "present")
NEXT = "next."
"""A state goes in by its name, and comes out as next.<name>."""


class OnnxProgram:
    """The model of an ONNX file, called as Model calls a TorchScript program.

    raises  BackendError where onnxruntime is not installed or the device is not the CPU; ModelError for a
            graph that it refuses
    """

    def __init__(self, file: ModelFile, device: Device, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            hint = "pip install 'streamfuse[onnx]'"
            raise BackendError(
                "an ONNX model needs onnxruntime", got=error, where=file.path, hint=hint
            ) from error
        if device.kind != "cpu":
            hint = "--set model.device=cpu, or the TorchScript file"
            raise BackendError("an ONNX model runs on the CPU", got=f"device {device}", hint=hint)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(file.data, options, providers=["CPUExecutionProvider"])
        # onnxruntime's own exceptions have no common base but this.
        except Exception as error:
            raise ModelError("an ONNX model must load", got=error, where=file.path) from error
        self._session: Any = session
        self._states = file.spec.state
        self._heads = len(file.spec.heads)
        names = [*INPUTS, *(one.name for one in self._states)]
        wanted = {one.name for one in session.get_inputs()}
        # An input that nothing in the graph reads is dropped by the exporter.
        self._feeds = [(n, name) for n, name in enumerate(names) if name in wanted]
        unknown = wanted - set(names)
        if unknown or len(session.get_outputs()) != self._heads + len(self._states):
            raise ModelError("an ONNX model must have the contract's inputs", got=unknown, where=file.path)

    def eval(self) -> OnnxProgram:
        return self

    def init_state(self, batch: int) -> list[Tensor]:
        """Zeros: what every network of ours begins with."""
        return [torch.zeros(one.batched(batch)) for one in self._states]

    def __call__(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        given = [one.numpy() for one in (video, audio, present, *state)]
        found = self._session.run(None, {name: np.ascontiguousarray(given[n]) for n, name in self._feeds})
        tensors = [torch.from_numpy(one) for one in found]
        return tensors[: self._heads], tensors[self._heads :]
