"""The state of an analysis between two ticks, as plain data and back."""

from __future__ import annotations

from collections import deque

import numpy as np

from streamfuse.analysis import Stepping, StepState
from streamfuse.checkpoint.record import Analysed, Array
from streamfuse.ticks.resume import ResumePoint
from streamfuse.types import F32


def analysed(stepper: Stepping, point: ResumePoint, faces: bytes) -> Analysed:
    """What goes on from `point`, the last tick that this stepper was given; faces: FaceView.stored()."""
    state = stepper.state
    return Analysed(
        session=point.session,
        index=point.index,
        start_ns=point.start_ns,
        digests=point.digests,
        stepped=state.stepped,
        model=tuple(_array(one) for one in stepper.model.state_arrays(state.model)),
        clips=tuple((_array(video), _array(audio)) for video, audio in state.clips),
        faces=faces,
    )


def take_up(stepper: Stepping, carried: Analysed) -> None:
    """Make the stepper what it was. ModelError where the state is another model's."""
    model = stepper.model
    stepper.state = StepState(
        model=model.state_from_arrays([_values(one) for one in carried.model]),
        clips=deque(
            ((_values(video), _values(audio)) for video, audio in carried.clips),
            maxlen=model.spec.video.frames,
        ),
        session=carried.session,
        index=carried.index,
        stepped=carried.stepped,
    )


def _array(values: F32) -> Array:
    return Array(tuple(map(int, values.shape)), np.ascontiguousarray(values, "<f4").tobytes())


def _values(array: Array) -> F32:
    return np.frombuffer(array.data, "<f4").astype(np.float32).reshape(array.shape)
