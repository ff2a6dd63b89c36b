"""The CUDA twin of a batch of ticks: one upload, and one launch of each kernel, for all streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import cuda

from streamfuse.errors import StageError
from streamfuse.kernels.backend import Device
from streamfuse.kernels.frame_window import checked_planes
from streamfuse.kernels.frame_window_cuda import FrameWindowBatch
from streamfuse.kernels.mfcc_cuda import MfccBatch
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.kernels.staging import Staging, Work
from streamfuse.kernels.tick_batch import check_samples
from streamfuse.types import F32, AnyPicture, DevicePicture

I32 = npt.NDArray[np.int32]


class DeviceTickBatch:
    """TickBatch on one GPU, in its primary context, which torch and PyAV use too."""

    def __init__(self, frame: FrameSpec, sound: MfccSpec, device: Device) -> None:
        self._gpu, self._index, self._sound = cuda.gpus[device.index], device.index, sound
        with self._gpu:
            self._stream = cuda.stream()
            self._staging = Staging(self._stream)
            self._frames = FrameWindowBatch(frame, self._stream, self._staging)
            self._voices = MfccBatch(sound, 0, self._stream, self._staging)
        self.stream: int | None = _address(self._stream)

    def check(self, picture: AnyPicture) -> None:
        if not isinstance(picture, DevicePicture):
            checked_planes(picture, "tick batch")
        elif picture.gpu != self._index:
            rule = "a picture must be on the GPU that the kernels run on"
            raise StageError(rule, got=f"cuda:{picture.gpu}", where=f"cuda:{self._index}")
        self._frames.place(picture)

    def fill(
        self,
        pictures: Sequence[tuple[int, AnyPicture]],
        samples: Sequence[F32],
        numbers: I32,
        into: tuple[Any, Any, Any],
    ) -> None:
        with self._gpu:
            shown, heard, told = (_device_array(one) for one in into)
            check_samples(samples, self._sound, heard.shape)
            works = [_copy(numbers, told, self._stream)]
            if samples:
                frames = heard.reshape(heard.shape[0] * heard.shape[1], heard.shape[2])
                works.append(self._voices.whole_work(list(samples), frames))
            self._staging.run(*works, *self._works(pictures, shown))

    def _works(self, pictures: Sequence[tuple[int, AnyPicture]], shown: Any) -> Iterator[Work]:
        """One launch for the pictures of the host, then one for those that are on the GPU."""
        for on_gpu in (False, True):
            there = [pair for pair in pictures if isinstance(pair[1], DevicePicture) is on_gpu]
            if there:
                rows, seen = zip(*there, strict=True)
                yield self._frames.work(seen, rows, shown)


def _copy(numbers: I32, target: Any, stream: Any) -> Work:
    flat = numbers.reshape(-1)

    def pack(host: I32) -> None:
        host[:] = flat

    def launch(device: Any) -> None:
        target.reshape(flat.size).copy_to_device(device, stream=stream)

    return Work(flat.size, pack, launch)


def _device_array(array: Any) -> Any:
    """As numba sees it, without a wait: its owner works on our stream. In the simulator it is numba's own."""
    return array if hasattr(array, "copy_to_device") else cuda.as_cuda_array(array, sync=False)


def _address(stream: Any) -> int | None:
    """cudaStream_t by the CUDA stream protocol; the simulator's streams have none."""
    told = getattr(stream, "__cuda_stream__", None)
    return None if told is None else int(told()[1])
