"""Load a model file and step it: the seam behind which the runtimes stand, TorchScript and ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamfuse.errors import ModelError, StageError
from streamfuse.kernels.backend import Device
from streamfuse.model import torchscript
from streamfuse.model.device import model_device
from streamfuse.model.inspect import ModelFile, inspect_model
from streamfuse.model.onnx_runtime import OnnxProgram
from streamfuse.model.spec import ModelSpec
from streamfuse.types import F32

State = list[Tensor]
"""Opaque outside this room: hand it back to step(), or turn it into arrays with state_arrays()."""
Bools = npt.NDArray[np.bool_]

WARM_UP_CALLS = 4
"""The first call of a shape costs 100 ms; a few more fill the caches."""


def load_model(
    path: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    sha256: str | None = None,
    threads: int = 1,
) -> Model:
    """Load a model file, the package's own where `path` is None, and try it on zeros.

    device   "auto", "cpu", "cuda" or "cuda:N"
    sha256   what the file's must be; checked before anything in it runs
    threads  of torch in this whole process
    raises   ModelError for a file that is refused; BackendError for a device that is not there
    """
    file = inspect_model(path, sha256=sha256)
    chosen = model_device(device)
    torchscript.prepare_process(threads)
    try:
        if file.format == "onnx":
            program = OnnxProgram(file, chosen, threads)
        else:
            program = torchscript.load(file.data, str(chosen))
        # A frozen program is in evaluation mode already and says so; someone's own may not be.
        program.eval()
    except (RuntimeError, ValueError, EOFError, OSError) as error:
        raise ModelError("a model file must load", got=_reason(error), where=file.path) from error
    model = Model(file, program, chosen)
    model.check()
    return model


class Model:
    """A loaded model. It holds no stream: the state is an argument and a result."""

    def __init__(self, file: ModelFile, program: Any, device: Device) -> None:
        self.spec: ModelSpec = file.spec
        self.path: Path = file.path
        self.sha256: str = file.sha256
        self.device = device
        self._program = program
        self._torch_device = torch.device(str(device))

    def init_state(self, batch: int = 1) -> State:
        """The state of `batch` streams that begin."""
        state: State = self._program.init_state(batch)
        return [one.to(self._torch_device) for one in state]

    def step(self, video: F32, audio: F32, present: Bools, state: State) -> tuple[list[F32], State]:
        """One tick of each stream.

        video    (B, V, T, C, H, W) float32, as the frame-window kernel writes it
        audio    (B, Ta, n_mfcc) float32: the frames of the same ticks; Ta = 0 is allowed at T = 1
        present  (B, V + 1) bool: the views in the file's order, then the sound; `held` is present
        state    of init_state() or the last step; it is not changed
        returns  logits (B, classes) float32 per head in the file's order; the new state
        raises   StageError for other shapes or dtypes
        """
        self._check_inputs(video, audio, present)
        with torch.inference_mode():
            inputs = [torch.as_tensor(one, device=self._torch_device) for one in (video, audio, present)]
            logits, fresh = self.step_tensors(inputs[0], inputs[1], inputs[2], state)
            return [one.cpu().numpy() for one in logits], fresh

    def step_tensors(
        self, video: Tensor, audio: Tensor, present: Tensor, state: State
    ) -> tuple[list[Tensor], State]:
        """step() on tensors that are on the device already, under torch.inference_mode()."""
        logits, fresh = self._program(video, audio, present, state)
        return logits, fresh

    def probabilities(self, logits: Sequence[F32]) -> dict[str, F32]:
        """Calibrated probabilities (B, classes) by head name: softmax or sigmoid at the temperature."""
        result: dict[str, F32] = {}
        for head, one in zip(self.spec.heads, logits, strict=True):
            scaled = one.astype(np.float32) / np.float32(head.temperature)
            if head.kind == "softmax":
                odds = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
                result[head.name] = odds / odds.sum(axis=-1, keepdims=True)
            else:
                # Not 1 / (1 + exp(-x)), which overflows for a sure "no".
                result[head.name] = 0.5 * (1.0 + np.tanh(0.5 * scaled))
        return result

    def reset_rows(self, state: State, rows: Sequence[int]) -> State:
        """The state with these streams begun anew; the others untouched."""
        new = self.init_state(1)
        fresh = [one.clone() for one in state]
        for tensor, zero, dim in zip(fresh, new, self._batch_dims(), strict=True):
            for row in rows:
                tensor.select(dim, row).copy_(zero.select(dim, 0))
        return fresh

    def state_arrays(self, state: State) -> list[F32]:
        """The state as arrays, for a checkpoint."""
        return [one.cpu().numpy() for one in state]

    def state_from_arrays(self, arrays: Sequence[F32]) -> State:
        """The state that state_arrays() gave. ModelError where it is not this model's."""
        batch = int(arrays[0].shape[self._batch_dims()[0]]) if arrays else 1
        wanted = [tuple(one.shape) for one in self.init_state(batch)]
        got = [tuple(one.shape) for one in arrays]
        if got != wanted or any(one.dtype != np.float32 for one in arrays):
            raise ModelError("a stored state must be this model's", got=f"shapes {got}", where=self.path)
        return [torch.tensor(one, device=self._torch_device) for one in arrays]

    def warm_up(self, batch: int = 1) -> None:
        """Make the slow first calls now."""
        state = self.init_state(batch)
        for _ in range(WARM_UP_CALLS):
            _, state = self.step(*self._zeros(batch), state)

    def check(self) -> None:
        """Run the model once on zeros and compare everything with its description (ModelError)."""
        where = self.path
        try:
            for batch in (1, 2):
                _same("state", self.init_state(batch), self._state_shapes(batch), where)
            state = self.init_state(1)
            with torch.inference_mode():
                inputs = [torch.as_tensor(one, device=self._torch_device) for one in self._zeros(1)]
                logits, fresh = self.step_tensors(inputs[0], inputs[1], inputs[2], state)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ModelError("a model must run on zeros", got=_reason(error), where=where) from error
        _same("state", fresh, self._state_shapes(1), where)
        _same("logits", logits, [(1, len(head.labels)) for head in self.spec.heads], where)
        if not all(bool(torch.isfinite(one).all()) for one in [*logits, *fresh]):
            raise ModelError("a model must answer zeros with finite numbers", got="NaN or inf", where=where)

    def _zeros(self, batch: int) -> tuple[F32, F32, Bools]:
        spec = self.spec
        return (
            np.zeros(spec.video_shape(batch), np.float32),
            np.zeros(spec.audio_shape(batch), np.float32),
            np.ones((batch, len(spec.views) + 1), np.bool_),
        )

    def _batch_dims(self) -> list[int]:
        return [one.batch_dim for one in self.spec.state]

    def _state_shapes(self, batch: int) -> list[tuple[int, ...]]:
        return [one.batched(batch) for one in self.spec.state]

    def _check_inputs(self, video: F32, audio: F32, present: Bools) -> None:
        batch = present.shape[0] if present.ndim == 2 else 0
        wanted = self.spec.video_shape(batch)
        sound = (batch, audio.shape[1] if audio.ndim == 3 else 0, self.spec.audio.n_mfcc)
        for name, got, shape, dtype in (
            ("video", video, wanted, np.float32),
            ("audio", audio, sound, np.float32),
            ("present", present, (batch, len(self.spec.views) + 1), np.bool_),
        ):
            if got.shape != shape or got.dtype != dtype:
                rule = f"{name} must be {np.dtype(dtype)} {shape}"
                raise StageError(rule, got=f"{got.dtype} {got.shape}", where=f"model {self.spec.name}")


def _same(what: str, tensors: object, shapes: list[tuple[int, ...]], where: Path) -> None:
    """Raise ModelError unless these are float32 tensors of these shapes."""
    listed = tensors if isinstance(tensors, list) else []
    if len(listed) != len(shapes):
        raise ModelError(f"the model's {what} must be {len(shapes)} tensors", got=len(listed), where=where)
    for index, (one, shape) in enumerate(zip(listed, shapes, strict=True)):
        if tuple(one.shape) != shape or one.dtype != torch.float32:
            got = f"{one.dtype} {tuple(one.shape)}"
            raise ModelError(f"the model's {what} {index} must be float32 {shape}", got=got, where=where)


def _reason(error: BaseException) -> str:
    """The last line of torch's many, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("File ", "~", "...", "Traceback"))]
    return (telling or lines or [type(error).__name__])[-1][:200]
