"""The state of many streams in tensors on one device: gathered, stepped and scattered there.

What a batch of streams needs of a step is which row of the state each of them owns. On CUDA the step of
a batch size is captured once as a graph and replayed: a tick of a thousand streams is then one launch
for the host, whatever the number of layers (PyTorch, "CUDA semantics", CUDA Graphs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from streamfuse.errors import StageError
from streamfuse.model.runtime import Model, State

GRAPH_WARM_UPS = 3
"""Calls before a capture: cuDNN chooses its algorithms and the allocator its blocks in them."""


class SlotStates:
    """Rows of state, one for each slot and a last one that padding uses.

    A slot is a small integer that a stream owns from open() to close(); its row is as new after open().
    """

    def __init__(self, model: Model, slots: int) -> None:
        self.model, self.slots = model, slots
        self.rows: State = model.init_state(slots + 1)
        self._zero = model.init_state(1)
        self._dims = [one.batch_dim for one in model.spec.state]
        self._free = list(range(slots - 1, -1, -1))

    @property
    def spare(self) -> int:
        """The row that padding steps; no stream's."""
        return self.slots

    def open(self) -> int:
        """A slot of one's own. StageError where there is none left."""
        if not self._free:
            raise StageError(f"a device holds {self.slots} streams", got="one more", where="slots")
        slot = self._free.pop()
        self.reset(slot)
        return slot

    def close(self, slot: int) -> None:
        self._free.append(slot)

    def reset(self, slot: int) -> None:
        """Begin the stream in `slot` anew."""
        for rows, zero, dim in zip(self.rows, self._zero, self._dims, strict=True):
            rows.select(dim, slot).copy_(zero.select(dim, 0))

    def take(self, slot: int) -> State:
        """A copy of one stream's state, as Model.step() takes it at batch 1."""
        return [rows.narrow(dim, slot, 1).clone() for rows, dim in zip(self.rows, self._dims, strict=True)]

    def put(self, slot: int, state: State) -> None:
        """What take() gave becomes the state of `slot`."""
        for rows, one, dim in zip(self.rows, state, self._dims, strict=True):
            rows.narrow(dim, slot, 1).copy_(one)

    def gather(self, index: Tensor) -> State:
        """The rows of `index` (B,) int64, on the device, as a state of batch B."""
        return [rows.index_select(dim, index) for rows, dim in zip(self.rows, self._dims, strict=True)]

    def scatter(self, index: Tensor, state: State) -> None:
        for rows, fresh, dim in zip(self.rows, state, self._dims, strict=True):
            rows.index_copy_(dim, index, fresh)


@dataclass(frozen=True, eq=False)
class Bucket:
    """Where one batch size finds its inputs and leaves its logits; the same memory at every step.

    video    (B, V, T, C, H, W) float32;  audio (B, Ta, n_mfcc) float32
    present  (B, V + 1) bool;  index (B,) int64: the slot of each row
    logits   one (B, classes) per head
    """

    video: Tensor
    audio: Tensor
    present: Tensor
    index: Tensor
    logits: list[Tensor]
    graph: Any


class SlotStepper:
    """Step any of the slots together, padded to a batch size from `buckets`.

    A row's result does not depend on the rows beside it, but may on the batch size (DESIGN, "Identity of
    results"): with one bucket the results are those of that size, whoever is there.
    """

    def __init__(self, model: Model, slots: int, buckets: Sequence[int], *, graphs: bool = True) -> None:
        self.states = SlotStates(model, slots)
        self._model = model
        self._sizes = sorted(set(buckets))
        self._graphs = graphs and model.device.kind == "cuda"
        self._buckets: dict[int, Bucket] = {}

    @property
    def largest(self) -> int:
        return self._sizes[-1]

    def bucket(self, streams: int) -> Bucket:
        """The inputs to fill for this many streams: rows beyond them are padding already.

        raises  StageError: more than the largest bucket
        """
        size = next((size for size in self._sizes if size >= streams), None)
        if size is None:
            raise StageError(f"a batch holds {self.largest} streams", got=streams, where="slots")
        if size not in self._buckets:
            self._buckets[size] = self._new_bucket(size)
        return self._buckets[size]

    def step(self, bucket: Bucket) -> list[Tensor]:
        """One tick of the rows in the bucket: logits (B, classes) per head, on the device.

        They are overwritten by the next step of the same bucket.
        """
        with torch.inference_mode():
            if bucket.graph is not None:
                bucket.graph.replay()
            else:
                self._run(bucket)
        return bucket.logits

    def _run(self, bucket: Bucket) -> None:
        state = self.states.gather(bucket.index)
        logits, fresh = self._model.step_tensors(bucket.video, bucket.audio, bucket.present, state)
        self.states.scatter(bucket.index, fresh)
        for target, one in zip(bucket.logits, logits, strict=True):
            target.copy_(one)

    def _new_bucket(self, size: int) -> Bucket:
        spec = self._model.spec
        device = torch.device(str(self._model.device))
        bucket = Bucket(
            video=torch.zeros(spec.video_shape(size), device=device),
            audio=torch.zeros(spec.audio_shape(size), device=device),
            present=torch.zeros((size, len(spec.views) + 1), dtype=torch.bool, device=device),
            index=torch.full((size,), self.states.spare, dtype=torch.int64, device=device),
            logits=[torch.zeros((size, len(head.labels)), device=device) for head in spec.heads],
            graph=torch.cuda.CUDAGraph() if self._graphs else None,
        )
        if bucket.graph is not None:
            self._capture(bucket)
        return bucket

    def _capture(self, bucket: Bucket) -> None:
        """Record the step of this bucket on padding alone: the spare row is nobody's."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode():
            with torch.cuda.stream(side):
                for _ in range(GRAPH_WARM_UPS):
                    self._run(bucket)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(bucket.graph):
                self._run(bucket)
