"""The CUDA twin of the MFCC: every frame of every stream in one launch, one block per frame.

The steps and the precision are those of mfcc_cpu, whose scalar code it calls: window, transform and
power in float64 (a full-scale tone needs it), then float32. Sound that does not fill a frame yet stays on
the device: two copies of it per stream, read from one side and written to the other, so that no block
waits for another.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, float32, float64

from streamfuse.errors import BackendError, StageError
from streamfuse.kernels.backend import Device
from streamfuse.kernels.mfcc_cpu import butterfly, powers
from streamfuse.kernels.mfcc_tables import mfcc_tables
from streamfuse.kernels.spec import MfccSpec
from streamfuse.kernels.staging import I32, Staging, Work
from streamfuse.types import F32

TABLE_WIDTH = 6
"""Of a row: where its samples begin, how many, how many are kept from before, slot (-1: none, zeros
are kept), side that is read, first row of the result."""
_MAX_FFT = 4096
"""Transform and power of a longer frame do not fit into the 48 KB that every GPU gives a block."""
_MAX_ROWS = 65_535
"""Blocks in the second dimension of a CUDA grid."""


def threads_of(spec: MfccSpec) -> int:
    """One thread for each butterfly of a stage, at least a warp."""
    return max(32, spec.n_fft // 8)


@lru_cache(maxsize=4)
def mfcc_kernel(spec: MfccSpec) -> Any:
    """Compile-time sizes for one spec; see `mfcc_cuda` inside for the arguments."""
    half, hop, context = spec.n_fft // 2, spec.hop_length, spec.context_samples
    n_mels, n_mfcc, threads = spec.n_mels, spec.n_mfcc, threads_of(spec)
    quarters = half // 4
    padded, bins = half + half // 16, half + 1
    tables = mfcc_tables(spec)
    taper_at, pairs = tables.taper_at, len(tables.taper) // 2

    @cuda.jit(device=True)
    def place(i):
        """Every 16 values are followed by a gap, so that steps of 4 do not meet in one bank."""
        return i + (i >> 4)

    @cuda.jit(device=True)
    def sample(samples, carry, at, kept, slot, side, position):
        if position >= kept:
            return samples[at + position - kept]
        if slot < 0:
            return float32(0.0)
        return carry[side, slot, position]

    @cuda.jit
    def mfcc_cuda(
        table, samples, carry, taper, twiddle, order, turn, first_bin, weight_at, weights, log_floor,
        cosines, out,
    ):  # fmt: skip
        """Block (frame, row): table (rows, 6), samples (n,), carry (2, slots, n_fft) -> out (frames, n_mfcc).

        cosines  (n_mels, n_mfcc): a warp reads neighbours
        """
        re = cuda.shared.array(padded, float64)
        im = cuda.shared.array(padded, float64)
        power = cuda.shared.array(bins, float32)
        logs = cuda.shared.array(n_mels, float32)
        thread, frame, row = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.y
        at, fresh, kept = table[row, 0], table[row, 1], table[row, 2]
        slot, side, first_out = table[row, 3], table[row, 4], table[row, 5]
        frames = max(0, (kept + fresh - context) // hop)
        if frame == 0 and slot >= 0:
            for i in range(thread, kept + fresh - frames * hop, threads):
                carry[1 - side, slot, i] = sample(samples, carry, at, kept, slot, side, frames * hop + i)
        if frame >= frames:  # the whole block leaves, before any barrier
            return

        start = frame * hop + taper_at
        for k in range(thread, half, threads):
            if k < pairs:
                even = sample(samples, carry, at, kept, slot, side, start + 2 * k)
                odd = sample(samples, carry, at, kept, slot, side, start + 2 * k + 1)
                re[place(k)], im[place(k)] = even * taper[2 * k], odd * taper[2 * k + 1]
            else:
                re[place(k)], im[place(k)] = 0.0, 0.0
        cuda.syncthreads()

        quarter = quarters
        while quarter >= 1:
            if thread < quarters:
                j = thread & (quarter - 1)
                p = 4 * (thread - j) + j
                u = j * (quarters // quarter)
                q, r, s = place(p + quarter), place(p + 2 * quarter), place(p + 3 * quarter)
                p = place(p)
                ar, ai, br, bi, cr, ci, dr, di = butterfly(
                    re[p], im[p], re[q], im[q], re[r], im[r], re[s], im[s]
                )
                re[p], im[p] = ar, ai
                wr, wi = twiddle[u, 0], twiddle[u, 1]
                re[q], im[q] = br * wr - bi * wi, br * wi + bi * wr
                wr, wi = twiddle[2 * u, 0], twiddle[2 * u, 1]
                re[r], im[r] = cr * wr - ci * wi, cr * wi + ci * wr
                wr, wi = twiddle[3 * u, 0], twiddle[3 * u, 1]
                re[s], im[s] = dr * wr - di * wi, dr * wi + di * wr
            cuda.syncthreads()
            if quarter == 2:
                for k in range(thread, half // 2, threads):
                    p, q = place(2 * k), place(2 * k + 1)
                    ar, ai, br, bi = re[p], im[p], re[q], im[q]
                    re[p], im[p], re[q], im[q] = ar + br, ai + bi, ar - br, ai - bi
                cuda.syncthreads()
            quarter //= 4

        for k in range(thread, half // 2 + 1, threads):
            p, q = place(order[k]), place(order[(half - k) % half])
            low, high = powers(re[p], im[p], re[q], im[q], turn[k, 0], turn[k, 1])
            power[k], power[half - k] = low, high
        cuda.syncthreads()

        for m in range(thread, n_mels, threads):
            total = float32(0.0)
            skip = first_bin[m] - weight_at[m]
            for w in range(weight_at[m], weight_at[m + 1]):
                total += weights[w] * power[skip + w]
            heard = log_floor < total < float32(math.inf)
            logs[m] = math.log(total if heard else log_floor)
        cuda.syncthreads()

        for c in range(thread, n_mfcc, threads):
            total = float32(0.0)
            for m in range(n_mels):
                total += cosines[m, c] * logs[m]
            out[first_out + frame, c] = total

    return mfcc_cuda


class MfccBatch:
    """MFCCs of many streams on one GPU, with what each has left over kept there.

    Any cut into pushes gives the same frames, and a stream that brings nothing costs nothing. The
    caller holds the device (`with cuda.gpus[n]`) and reads results on `stream`, or after synchronising
    it. For one thread.
    """

    def __init__(
        self, spec: MfccSpec, slots: int, stream: Any = None, staging: Staging | None = None
    ) -> None:
        if spec.n_fft > _MAX_FFT:
            raise BackendError(f"n_fft on CUDA must be at most {_MAX_FFT}", got=spec.n_fft, where="MFCC spec")
        self.spec, self.slots = spec, slots
        self.stream = cuda.stream() if stream is None else stream
        self._kernel, self._tables = mfcc_kernel(spec), device_tables(spec, self.stream)
        self._staging = staging or Staging(self.stream)
        self._carry = cuda.to_device(np.zeros((2, max(1, slots), spec.n_fft), np.float32), self.stream)
        self._kept = np.full(slots, spec.context_samples, np.int64)
        self._side = np.zeros(slots, np.int64)
        self._fresh = np.ones(slots, bool)

    def reset(self, slot: int) -> None:
        """Begin the stream in `slot` anew: zeros before its start."""
        self._fresh[slot] = True
        self._kept[slot] = self.spec.context_samples

    def push(self, arrivals: Sequence[tuple[int, F32]]) -> tuple[Any, list[tuple[int, int, int]]]:
        """Take samples (n,) float32 of some slots, each slot at most once.

        returns  device array (frames, n_mfcc) float32, and (slot, first, count) of each arrival in it
        raises   StageError: a slot out of range or twice in one push, or other samples
        """
        for slot, samples in arrivals:
            if not 0 <= slot < self.slots or samples.ndim != 1 or samples.dtype != np.float32:
                rule = f"arrivals must be (slot below {self.slots}, samples float32 (n,))"
                raise StageError(rule, got=f"{slot}, {samples.dtype} {samples.shape}", where="MfccBatch")
        if len({slot for slot, _ in arrivals}) < len(arrivals):
            raise StageError(
                "a slot must come once in a push", got=[s for s, _ in arrivals], where="MfccBatch"
            )
        spec, rows, places, total = self.spec, [], [], 0
        for slot, samples in arrivals:
            kept, fresh = int(self._kept[slot]), len(samples)
            count = max(0, (kept + fresh - spec.context_samples) // spec.hop_length)
            rows.append((fresh, kept, slot, int(self._side[slot]), total, bool(self._fresh[slot])))
            places.append((slot, total, count))
            total += count
            self._kept[slot] = kept + fresh - count * spec.hop_length
            self._side[slot] = 1 - self._side[slot]
            self._fresh[slot] = False
        return self._launch([samples for _, samples in arrivals], rows, total, None), places

    def whole(self, batch: F32, lead: int, out: Any = None) -> Any:
        """MFCCs of (B, n) float32 after `lead` zeros, apart from any slot.

        returns  device array (B * frames, n_mfcc) float32, `out` if given
        """
        rows, total = self._whole_rows(batch.shape, lead)
        return self._launch(list(batch), rows, total, out)

    def whole_work(self, parts: list[F32], out: Any) -> Work:
        """The same of parts (n,) of one length, each with its context, as a part of an upload."""
        rows, _ = self._whole_rows((len(parts), len(parts[0])), 0)
        return self._work(parts, rows, out)

    def _whole_rows(self, shape: tuple[int, ...], lead: int) -> tuple[list[tuple[Any, ...]], int]:
        count = max(0, (shape[1] + lead - self.spec.context_samples) // self.spec.hop_length)
        rows = [(shape[1], lead, -1, 0, i * count, False) for i in range(shape[0])]
        return rows, shape[0] * count

    def _launch(self, parts: list[F32], rows: list[tuple[Any, ...]], total: int, out: Any) -> Any:
        if out is None:
            out = cuda.device_array((total, self.spec.n_mfcc), np.float32, stream=self.stream)
        if rows:
            self._staging.run(self._work(parts, rows, out))
        return out

    def _work(self, parts: list[F32], rows: list[tuple[Any, ...]], out: Any) -> Work:
        """The upload and the launch of these rows: (fresh, kept, slot, side, first frame, begins) each."""
        if len(rows) > _MAX_ROWS:
            raise StageError(f"a launch takes at most {_MAX_ROWS} rows", got=len(rows), where="MFCC on CUDA")
        # A stream that begins has zeros before it: they are uploaded with it, no second kernel clears them.
        leads = [kept if begins else 0 for _, kept, *_, begins in rows]
        head = len(rows) * TABLE_WIDTH
        hop, context = self.spec.hop_length, self.spec.context_samples
        most = max(1, *((kept + fresh - context) // hop for fresh, kept, *_ in rows))

        def pack(host: I32) -> None:
            table, sound, at = host[:head].reshape(-1, TABLE_WIDTH), host[head:].view(np.float32), 0
            for index, (fresh, kept, slot, side, first, _) in enumerate(rows):
                lead = leads[index]
                sound[at : at + lead] = 0
                sound[at + lead : at + lead + fresh] = parts[index]
                table[index] = at, fresh + lead, kept - lead, slot, side, first
                at += lead + fresh

        def launch(device: Any) -> None:
            samples = device[head:].view(np.float32) if device.shape[0] > head else self._empty
            table = device[:head].reshape(len(rows), TABLE_WIDTH)
            self._kernel[(most, len(rows)), threads_of(self.spec), self.stream](
                table, samples, self._carry, *self._tables, out
            )

        return Work(head + sum(map(len, parts)) + sum(leads), pack, launch)

    @property
    def _empty(self) -> Any:
        """Something to point at where no arrival brought a sample."""
        return self._carry.reshape(-1)


def device_tables(spec: MfccSpec, stream: Any) -> tuple[Any, ...]:
    t = mfcc_tables(spec)
    cosines = np.ascontiguousarray(t.cosines[: spec.n_mfcc].T)
    up = [cuda.to_device(a, stream) for a in (t.taper, t.twiddle, t.order, t.turn, t.first_bin, t.weight_at)]
    return *up, cuda.to_device(t.weights, stream), t.log_floor, cuda.to_device(cosines, stream)


_lock = threading.Lock()
"""Callers from different threads share one staging buffer."""


@lru_cache(maxsize=4)
def _batch_for(spec: MfccSpec, index: int) -> MfccBatch:
    with cuda.gpus[index]:
        return MfccBatch(spec, 0)


def mfcc_on_cuda(batch: F32, lead: int, spec: MfccSpec, device: Device, out: F32) -> None:
    """The whole way for arrays in host memory: up, one launch, down into out (B, frames, n_mfcc)."""
    if not out.size:
        return
    with _lock, cuda.gpus[device.index]:
        worker = _batch_for(spec, device.index)
        worker.whole(batch, lead).copy_to_host(out.reshape(-1, spec.n_mfcc), stream=worker.stream)
        worker.stream.synchronize()
