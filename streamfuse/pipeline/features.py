"""The kernels for one's own use, on a device named as everywhere else."""

from __future__ import annotations

from streamfuse.kernels.backend import choose_device
from streamfuse.kernels.mfcc import mfcc as mfcc_kernel
from streamfuse.kernels.spec import MfccSpec
from streamfuse.types import F32


def mfcc(samples: F32, spec: MfccSpec | None = None, *, device: str = "cpu") -> F32:
    """MFCC of a whole recording: samples (n,) or (B, n) float32 -> (frames, n_mfcc) or (B, frames, n_mfcc).

    device  "auto", "cpu", "cuda" or "cuda:1"
    raises  BackendError where the device is not there; StageError for other shapes or dtypes
    """
    return mfcc_kernel(samples, spec, choose_device(device))
