"""Pictures and sound of a batch of ticks -> where the model reads them, on either device.

Both kinds take the same arguments; `tick_batch()` makes the one for a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streamfuse.errors import StageError
from streamfuse.kernels.backend import Device
from streamfuse.kernels.frame_window import checked_planes, frame_window
from streamfuse.kernels.mfcc import mfcc_with_context
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.types import F32, AnyPicture

I32 = npt.NDArray[np.int32]


class TickBatch(Protocol):
    """Runs both kernels over a batch.

    stream  the CUDA stream that it works on, as an address (cudaStream_t); None on the CPU
    """

    stream: int | None

    def check(self, picture: AnyPicture) -> None:
        """StageError where fill() would refuse this picture: before it shares a batch with others."""

    def fill(
        self,
        pictures: Sequence[tuple[int, AnyPicture]],
        samples: Sequence[F32],
        numbers: I32,
        into: tuple[Any, Any, Any],
    ) -> None:
        """Start writing a batch; what reads it on `stream` later needs no other wait.

        pictures  (row of the result, picture) of each picture that there is; check() took them
        samples   (context + n,) float32 of rows 0, 1, ..., with n as long as the result has frames; rows
                  beyond stay as they are
        numbers   any int32 array, copied as it is: what the model has to be told of each row
        into      the results: (rows, C, size, size) float32, (rows, frames, n_mfcc) float32 and one like
                  `numbers`; C-contiguous NumPy arrays on the CPU, anything with
                  __cuda_array_interface__ on CUDA
        raises    StageError: samples of another shape or dtype; then nothing was started
        """


class HostTickBatch:
    """TickBatch on the CPU."""

    stream: int | None = None

    def __init__(self, frame: FrameSpec, sound: MfccSpec) -> None:
        self._frame, self._sound = frame, sound

    def check(self, picture: AnyPicture) -> None:
        checked_planes(picture.on_host(), "tick batch")

    def fill(
        self,
        pictures: Sequence[tuple[int, AnyPicture]],
        samples: Sequence[F32],
        numbers: I32,
        into: tuple[Any, Any, Any],
    ) -> None:
        shown, heard, told = into
        check_samples(samples, self._sound, heard.shape)
        for row, picture in pictures:
            frame_window([picture.on_host()], self._frame, out=shown[row : row + 1])
        for row, part in enumerate(samples):
            mfcc_with_context(part[None], self._sound, out=heard[row : row + 1])
        told[...] = numbers


def check_samples(samples: Sequence[F32], sound: MfccSpec, shape: tuple[int, ...]) -> None:
    """StageError unless each part fills a row of a result (rows, frames, n_mfcc): never a neighbour's."""
    rows, frames, _ = shape
    if len(samples) > rows:
        raise StageError(f"a batch has {rows} rows", got=f"the sound of {len(samples)}", where="tick batch")
    wanted = (sound.context_samples + frames * sound.hop_length,)
    for row, part in enumerate(samples):
        if part.shape != wanted or part.dtype != np.float32:
            got = f"{part.dtype} {part.shape}"
            raise StageError(f"samples must be float32 {wanted}", got=got, where=f"row {row}")


def tick_batch(frame: FrameSpec, sound: MfccSpec, device: Device) -> TickBatch:
    """The TickBatch of a device. BackendError where the kernels cannot run on it."""
    if device.kind == "cpu":
        return HostTickBatch(frame, sound)
    from streamfuse.kernels.tick_batch_cuda import DeviceTickBatch

    return DeviceTickBatch(frame, sound, device)
