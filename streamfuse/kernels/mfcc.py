"""MFCCs of 16 kHz sound: the reference, the public functions, and streaming with a carry.

Frame i covers samples [(i + 1) * hop - n_fft, (i + 1) * hop), zeros before the start: no look-ahead, and
each hop of sound completes exactly one frame. Judges: torchaudio.transforms.MFCC and librosa.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streamfuse.errors import StageError
from streamfuse.kernels.backend import Device, kernel_device
from streamfuse.kernels.mfcc_cpu import mfcc_cpu
from streamfuse.kernels.mfcc_tables import cosine_matrix, hann_in_frame, mel_matrix, mfcc_tables
from streamfuse.kernels.spec import MfccSpec
from streamfuse.types import F32

__all__ = ["MfccSpec", "MfccStream", "mfcc", "mfcc_reference", "mfcc_with_context"]


def mfcc_reference(samples: npt.NDArray[Any], spec: MfccSpec) -> npt.NDArray[np.float64]:
    """The definition, in float64: samples (n,), any n -> (n // hop, n_mfcc)."""
    padded = np.concatenate([np.zeros(spec.context_samples), np.asarray(samples, np.float64)])
    count = len(samples) // spec.hop_length
    frames = (
        np.stack([padded[i * spec.hop_length : i * spec.hop_length + spec.n_fft] for i in range(count)])
        if count
        else np.zeros((0, spec.n_fft))
    )
    power = np.abs(np.fft.rfft(frames * hann_in_frame(spec))) ** 2
    mel = power @ mel_matrix(spec).T
    mel = np.where(np.isfinite(mel) & (mel > spec.log_floor), mel, spec.log_floor)
    return np.asarray(np.log(mel) @ cosine_matrix(spec).T)


def mfcc(samples: F32, spec: MfccSpec | None = None, backend: str | Device = "cpu") -> F32:
    """Return the MFCCs of whole recordings, with zeros before the start.

    samples  (n,) or (B, n) float32 in [-1, 1] at spec.sample_rate, any n >= 0
    returns  (n // hop, n_mfcc) or (B, n // hop, n_mfcc) float32; the samples of an unfinished hop are
             not used; a frame that holds a sample that is not finite is as silent
    raises   StageError: another shape or dtype; BackendError: the backend is not there
    """
    spec = spec or MfccSpec()
    batch = _checked(samples, "mfcc")
    out = _run(batch, spec, spec.context_samples, backend, None)
    return out if samples.ndim == 2 else out[0]


def mfcc_with_context(
    samples: F32, spec: MfccSpec | None = None, backend: str | Device = "cpu", out: F32 | None = None
) -> F32:
    """Return the MFCCs of samples that bring the n_fft - hop before them along, as ticks do.

    samples  (B, context + n) float32
    returns  (B, n // hop, n_mfcc) float32: `out` if given (C-contiguous), else a new array
    raises   StageError: another shape or dtype; BackendError: the backend is not there
    """
    spec = spec or MfccSpec()
    batch = _checked(samples, "mfcc_with_context")
    if samples.ndim != 2 or samples.shape[1] < spec.context_samples:
        rule = f"samples must be (B, {spec.context_samples} + n)"
        raise StageError(rule, got=samples.shape, where="mfcc_with_context")
    return _run(batch, spec, 0, backend, out)


class MfccStream:
    """Stage: samples in pushes of any size -> the frames each push completes.

    The pushes of one recording give together, bit for bit, what mfcc() gives for all of it.
    """

    def __init__(self, spec: MfccSpec | None = None, backend: str | Device = "cpu") -> None:
        self.spec = spec or MfccSpec()
        self._backend = backend
        self.reset()

    def reset(self) -> None:
        self._carry = np.zeros(self.spec.context_samples, np.float32)
        self._open = True

    def push(self, samples: F32) -> F32:
        """Take samples (n,) float32, any n >= 0; return the completed frames (m, n_mfcc) float32.

        raises  StageError: another shape or dtype, or pushed after flush()
        """
        if not self._open:
            raise StageError("nothing may be pushed after flush(); reset() first", where="MfccStream")
        _checked(samples, "MfccStream")
        if samples.ndim != 1:
            raise StageError("samples must be (n,)", got=samples.shape, where="MfccStream")
        buffer = np.concatenate([self._carry, samples])
        frames = (len(buffer) - self.spec.context_samples) // self.spec.hop_length
        self._carry = buffer[frames * self.spec.hop_length :].copy()
        return _run(_checked(buffer, "MfccStream"), self.spec, 0, self._backend, None)[0]

    def flush(self) -> F32:
        """End the input. The unfinished hop is dropped: (0, n_mfcc)."""
        self._open = False
        return np.empty((0, self.spec.n_mfcc), np.float32)


def _checked(samples: F32, where: str) -> F32:
    """Return samples as a C-contiguous read-only batch, or say what is wrong with them.

    Read-only always: numba compiles anew for an array that differs in this, and what comes off the
    wire is read-only.
    """
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim not in (1, 2):
        got = f"{getattr(samples, 'dtype', type(samples).__name__)} {getattr(samples, 'shape', '')}".strip()
        raise StageError("samples must be a float32 array (n,) or (B, n)", got=got, where=where)
    batch = np.ascontiguousarray(np.atleast_2d(samples)).view()
    batch.flags.writeable = False
    return batch


def _run(batch: F32, spec: MfccSpec, lead: int, backend: str | Device, out: F32 | None) -> F32:
    frames = max(0, batch.shape[1] + lead - spec.context_samples) // spec.hop_length
    shape = (batch.shape[0], frames, spec.n_mfcc)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        rule = f"out must be C-contiguous float32 {shape}"
        raise StageError(rule, got=f"{out.dtype} {out.shape}", where="mfcc_with_context")
    device = kernel_device(backend)
    if device.kind == "cuda":
        from streamfuse.kernels.mfcc_cuda import mfcc_on_cuda

        mfcc_on_cuda(batch, lead, spec, device, out)
        return out
    mfcc_cpu(batch, lead, spec.hop_length, *mfcc_tables(spec), out)
    return out
