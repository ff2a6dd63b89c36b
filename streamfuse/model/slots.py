"""The state of many streams in tensors on one device: gathered, stepped and scattered there.

What a batch of streams needs of a step is which row of the state each of them owns. On CUDA the step of
a batch size is captured once as a graph and replayed: a tick of a thousand streams is then one launch
for the host, whatever the number of layers (PyTorch, "CUDA semantics", CUDA Graphs). Its logits come down
into pinned memory while the host goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamfuse.errors import ModelError, StageError
from streamfuse.model.runtime import Model, State
from streamfuse.model.spec import ModelSpec
from streamfuse.types import F32

AT_ONCE = 2
"""Steps that may be begun and not collected: each has a buffer for its logits."""
GRAPH_WARM_UPS = 3
"""Calls before a capture: cuDNN chooses its algorithms and the allocator its blocks in them."""


class SlotStates:
    """Rows of state, one for each slot and a last one that padding uses.

    A slot is a small integer that a stream owns from open() to close(). Its row holds what came before:
    the stream's first step begins it anew (Bucket.numbers). For a model of sliding clips the last T
    pictures and sounds are two more tensors of the state.

    spoilt  (slots + 1,) bool: the last answer was no number, so the next step begins the row anew. It lies
            on the device, so that a step need not wait for the answers of the one before
    """

    def __init__(self, model: Model, slots: int) -> None:
        spec = model.spec
        self.model, self.slots = model, slots
        self._dims = [one.batch_dim for one in spec.state]
        self.rows: State = model.init_state(slots + 1)
        self.new: State = model.init_state(1)
        device = torch.device(str(model.device))
        self.spoilt = torch.zeros(slots + 1, dtype=torch.bool, device=device)
        if spec.video.frames > 1:
            for rows in (slots + 1, 1):
                video = torch.zeros(spec.video_shape(rows), device=device)
                audio = torch.zeros((rows, spec.video.frames, *_one_sound(spec)), device=device)
                (self.rows if rows > 1 else self.new).extend([video, audio])
            self._dims += [0, 0]
        self._free = list(range(slots - 1, -1, -1))

    @property
    def spare(self) -> int:
        """The row that padding steps; no stream's."""
        return self.slots

    @property
    def free(self) -> int:
        return len(self._free)

    def open(self) -> int:
        """A slot of one's own. StageError where there is none left."""
        if not self._free:
            rule = f"a device holds {self.slots} streams"
            raise StageError(rule, got="one more", where="slots", hint="raise model.max_streams")
        return self._free.pop()

    def close(self, slot: int) -> None:
        self._free.append(slot)

    def take(self, slot: int) -> State:
        """A copy of one stream's state: the model's tensors at batch 1, then those of its clip."""
        return [rows.narrow(dim, slot, 1).clone() for rows, dim in zip(self.rows, self._dims, strict=True)]

    def put(self, slot: int, state: State) -> None:
        """What take() gave becomes the state of `slot`."""
        self.spoilt[slot] = False
        for rows, one, dim in zip(self.rows, state, self._dims, strict=True):
            rows.narrow(dim, slot, 1).copy_(one)

    def gather(self, index: Tensor, begins: Tensor) -> State:
        """The rows of `index` (B,) int64 as a state of batch B; as new where `begins` (B,) bool."""
        gathered: State = []
        for rows, new, dim in zip(self.rows, self.new, self._dims, strict=True):
            mask = begins.view([-1 if d == dim else 1 for d in range(rows.dim())])
            gathered.append(torch.where(mask, new, rows.index_select(dim, index)))
        return gathered

    def scatter(self, index: Tensor, state: State) -> None:
        for rows, fresh, dim in zip(self.rows, state, self._dims, strict=True):
            rows.index_copy_(dim, index, fresh)


@dataclass(frozen=True, eq=False)
class Step:
    """A step that was begun.

    logits  (B, classes of all heads side by side) in host memory, where `done` says so
    done    CUDA event; None: they are there
    """

    logits: Tensor
    done: Any


class _Results:
    """Where logits come down: pinned buffers in turn, so that no copy holds up the host or waits for it."""

    def __init__(self, rows: int, classes: int) -> None:
        self._host = [torch.zeros((rows, classes), pin_memory=True) for _ in range(AT_ONCE)]
        self._turn = 0

    def bring(self, logits: Tensor) -> Step:
        """Start the copy on the current CUDA stream."""
        self._turn = (self._turn + 1) % AT_ONCE
        host = self._host[self._turn][: logits.size(0)]
        host.copy_(logits, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return Step(host, done)


@dataclass(frozen=True, eq=False)
class Bucket:
    """Where one batch size finds its inputs and leaves its logits; the same memory at every step.

    pictures  (B, V, C, H, W) float32, this tick's; what lies where a view is missing does not matter
    sounds    (B, frames of a tick, n_mfcc) float32
    numbers   (B, 2 + V + 1) int32: slot, begins anew, then present of each view and of the sound
    logits    (B, classes of all heads side by side) float32: one copy brings them down
    """

    pictures: Tensor
    sounds: Tensor
    numbers: Tensor
    logits: Tensor
    graph: Any

    @property
    def size(self) -> int:
        return self.numbers.size(0)

    @property
    def inputs(self) -> tuple[Any, Any, Any]:
        """Pictures as (B * V, C, H, W), sounds and numbers, for whoever fills them: arrays on the CPU."""
        tensors = (self.pictures.flatten(0, 1), self.sounds, self.numbers)
        return tensors if self.numbers.is_cuda else tuple(one.numpy() for one in tensors)  # type: ignore[return-value]


class SlotStepper:
    """Step any of the slots together, padded to a batch size from `buckets`.

    A row's result does not depend on the rows beside it, but may on the batch size (DESIGN, "Identity of
    results"): with one bucket the results are those of that size, whoever is there.

    stream  CUDA stream (cudaStream_t) on which the inputs are written; the steps follow on the same
    graphs  capture the steps as CUDA graphs; ModelError for a model that cannot be
    """

    def __init__(
        self,
        model: Model,
        slots: int,
        buckets: Sequence[int],
        *,
        stream: int | None = None,
        graphs: bool = True,
    ) -> None:
        self.states = SlotStates(model, slots)
        self._model = model
        self._device = torch.device(str(model.device))
        self._classes = [len(head.labels) for head in model.spec.heads]
        self.sizes = sorted(set(buckets))
        self._results: _Results | None = None
        if self._device.type == "cuda":
            self._results = _Results(self.largest, sum(self._classes))
        self._graphs = graphs and self._device.type == "cuda"
        # One pool for all: the graphs are replayed one after another, and nothing in it outlives a replay.
        self._pool = torch.cuda.graph_pool_handle() if self._graphs else None
        self._stream = None
        if stream is not None:
            torch.cuda.synchronize(self._device)  # what the states were filled with lies on another stream
            self._stream = torch.cuda.ExternalStream(  # type: ignore[no-untyped-call]
                stream, device=self._device
            )
        self._buckets: dict[int, Bucket] = {}

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    def bucket(self, streams: int) -> Bucket:
        """The inputs to fill for this many streams, the rows beyond them as `padding()` says.

        raises  StageError: more than the largest bucket
        """
        size = next((size for size in self.sizes if size >= streams), None)
        if size is None:
            raise StageError(f"a batch holds {self.largest} streams", got=streams, where="slots")
        if size not in self._buckets:
            with self._on_stream():
                self._buckets[size] = self._new_bucket(size)
        return self._buckets[size]

    def padding(self) -> list[int]:
        """The numbers of a row that is nobody's."""
        return [self.states.spare, 1, *[0] * (len(self._model.spec.views) + 1)]

    def step(self, bucket: Bucket) -> list[F32]:
        """One tick of the rows in the bucket: logits (B, classes) per head, waited for."""
        return self.collect(self.begin(bucket))

    def begin(self, bucket: Bucket) -> Step:
        """Start the same, on CUDA without a wait; at most AT_ONCE may not be collected yet."""
        with self._on_stream(), torch.inference_mode():
            if bucket.graph is not None:
                bucket.graph.replay()
            else:
                self._run(bucket)
            if self._results is not None:
                return self._results.bring(bucket.logits)
            return Step(bucket.logits.clone(), None)

    def collect(self, step: Step) -> list[F32]:
        """Logits (B, classes) per head of a step that was begun, waited for."""
        if step.done is not None:
            step.done.synchronize()
        return np.split(step.logits.numpy().copy(), np.cumsum(self._classes)[:-1], axis=1)

    def take(self, slot: int) -> State:
        """SlotStates.take() after all steps that were begun, in host memory."""
        with self._on_stream():
            return [one.cpu() for one in self.states.take(slot)]

    def put(self, slot: int, state: State) -> None:
        """SlotStates.put() before all steps that are begun later."""
        if self._stream is not None:
            torch.cuda.synchronize(self._device)  # the state may lie on another stream
        with self._on_stream():
            self.states.put(slot, state)

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            yield

    def _run(self, bucket: Bucket) -> None:
        index = bucket.numbers[:, 0].long()
        begins = (bucket.numbers[:, 1] > 0) | self.states.spoilt.index_select(0, index)
        present = bucket.numbers[:, 2:] > 0
        seen = torch.where(present[:, :-1, None, None, None], bucket.pictures, 0.0)
        state = self.states.gather(index, begins)
        video, audio = seen.unsqueeze(2), bucket.sounds
        clips: list[Tensor] = []
        if self._model.spec.video.frames > 1:
            clips = _slid(state[-2:], seen, bucket.sounds, begins)
            video, audio, state = clips[0], clips[1].flatten(1, 2), state[:-2]
        logits, fresh = self._model.step_tensors(video, audio, present, state)
        self.states.scatter(index, [*fresh, *clips])
        self.states.spoilt.index_copy_(0, index, ~are_numbers(logits, self._model.spec))
        torch.cat(logits, 1, out=bucket.logits)

    def _new_bucket(self, size: int) -> Bucket:
        spec = self._model.spec
        device, shape = self._device, spec.video_shape(size)
        bucket = Bucket(
            pictures=torch.zeros(shape[:2] + shape[3:], device=device),
            sounds=torch.zeros((size, *_one_sound(spec)), device=device),
            numbers=torch.tensor([self.padding()] * size, dtype=torch.int32, device=device),
            logits=torch.zeros((size, sum(self._classes)), device=device),
            graph=torch.cuda.CUDAGraph() if self._graphs else None,
        )
        if bucket.graph is not None:
            with refused_capture(self._model.path):
                self._capture(bucket)
        return bucket

    def _capture(self, bucket: Bucket) -> None:
        """Record the step of this bucket on padding alone: the spare row is nobody's."""
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.inference_mode():
            with torch.cuda.stream(side):
                for _ in range(GRAPH_WARM_UPS):
                    self._run(bucket)
            torch.cuda.current_stream(self._device).wait_stream(side)
            # Not "global": a decoder in another thread may take memory of the GPU meanwhile (NVDEC).
            with torch.cuda.graph(bucket.graph, pool=self._pool, capture_error_mode="thread_local"):
                self._run(bucket)


@contextmanager
def refused_capture(where: Path) -> Iterator[None]:
    """A model that waits for the device within a step (`.item()`, a copy to the host) cannot be recorded."""
    try:
        yield
    except RuntimeError as error:
        # Where the capture fails, its end fails too; the first says why.
        cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
        rule = "a model's step must be recordable as a CUDA graph"
        hint = "--set model.cuda_graphs=false steps it without"
        raise ModelError(rule, got=str(cause).partition("\n")[0], where=where, hint=hint) from error


def are_numbers(logits: Sequence[Tensor], spec: ModelSpec) -> Tensor:
    """(B,) bool: whether Model.probabilities() of a row are all finite. A single -inf is no harm to them."""
    fine = torch.ones(logits[0].size(0), dtype=torch.bool, device=logits[0].device)
    for head, one in zip(spec.heads, logits, strict=True):
        if head.kind == "softmax":
            fine &= torch.isfinite((one / head.temperature).amax(1))
        else:
            fine &= ~torch.isnan(one).any(1)
    return fine


def _one_sound(spec: ModelSpec) -> tuple[int, int]:
    """(frames, coefficients) of one tick."""
    return spec.frames_per_tick, spec.audio.n_mfcc


def _slid(clips: State, seen: Tensor, sounds: Tensor, begins: Tensor) -> list[Tensor]:
    """The last T pictures (B, V, T, C, H, W) and sounds (B, T, frames, n_mfcc), this tick's the newest.

    Before T ticks have come, the first one stands for those before it.
    """
    video, audio = clips
    picture, sound = seen.unsqueeze(2), sounds.unsqueeze(1)
    return [
        torch.where(begins.view(-1, 1, 1, 1, 1, 1), picture, torch.cat([video[:, :, 1:], picture], 2)),
        torch.where(begins.view(-1, 1, 1, 1), sound, torch.cat([audio[:, 1:], sound], 1)),
    ]


def clips_of(rows: State, spec: ModelSpec) -> tuple[State, deque[tuple[F32, F32]]]:
    """SlotStates.take() as the model's own state, and the pictures and sounds of its clip, oldest first."""
    frames = spec.video.frames
    clips: deque[tuple[F32, F32]] = deque(maxlen=frames)
    if frames > 1 and len(rows) > len(spec.state):
        video, audio = (one.cpu().numpy() for one in rows[len(spec.state) :])
        clips.extend((video[0, :, t], audio[0, t]) for t in range(frames))
    return rows[: len(spec.state)], clips


def with_clips(model: State, clips: Sequence[tuple[F32, F32]], spec: ModelSpec) -> State:
    """The other way round. Where fewer than T ticks have come, the first one stands for those before it."""
    if spec.video.frames == 1:
        return model
    padded = [clips[0]] * (spec.video.frames - len(clips)) + list(clips)
    video = np.stack([picture for picture, _ in padded], axis=1)
    audio = np.stack([sound for _, sound in padded])
    return [*model, torch.from_numpy(video[None]), torch.from_numpy(audio[None])]
