"""The CUDA kernels against the GPU's own limits and against torch on the same GPU; the CPU twins always.

    python benchmarks/bench_cuda.py [--rounds 1000]
    NUMBA_ENABLE_CUDASIM=1 python benchmarks/bench_cuda.py --smoke     every line, tiny sizes, no meaning

Without a GPU it measures the CPU part and says what waits. Kernels alone are timed over data that lies on
the device, between two events with LAUNCHES calls in between, for ours and for the peers alike: one call
alone would be timed with its way from Python to the device. Inputs rotate, so that no cache holds them. A
tick is timed from host memory to probabilities, in batches of the product's own size and in one of all.

No row takes much longer than LONGEST_S, so --rounds 1000 ends in some three minutes. Each part is printed
when it is measured, and the result file written anew after it: a run that is cut off keeps what it has.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import report
from recordings import Recording

from streamfuse.batch import AT_ONCE, BatchAnalyzer
from streamfuse.config import DecodeConfig, ModelConfig
from streamfuse.errors import BackendError
from streamfuse.kernels.backend import cuda_missing
from streamfuse.kernels.frame_window import FrameSpec, frame_window
from streamfuse.kernels.frame_window_cuda import FrameWindowBatch
from streamfuse.kernels.mfcc import MfccSpec, mfcc_with_context
from streamfuse.kernels.mfcc_cuda import TABLE_WIDTH, MfccBatch, device_tables, mfcc_kernel, threads_of
from streamfuse.kernels.mfcc_tables import mfcc_tables
from streamfuse.media.decode import open_decoder
from streamfuse.media.device_frames import Gpu
from streamfuse.media.source import parse_source
from streamfuse.model.runtime import load_model
from streamfuse.pipeline.on_gpu import stays_on
from streamfuse.types import Picture, Tick, TickHead, VideoFrame

SPEC, FRAME = MfccSpec(), FrameSpec()
TICK = 1600
FRAMES = TICK // SPEC.hop_length
HOP_NS = 100_000_000
LAUNCHES = 1 if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else 16
NVDEC = DecodeConfig(hwaccel="cuda", audio=False)
Rows = list[dict[str, Any]]
LONGEST_S, LEAST = 5.0, 5
"""Rounds of a row end after so many seconds, but not before so many rounds."""
PEERS = "Rows of torchaudio, torch and CuPy are the peers: the same work, checked and timed as ours is."


def picture(width: int, height: int, seed: int) -> Picture:
    random = np.random.default_rng(seed)
    small = (height // 2, width // 2)
    return Picture(tuple(random.integers(16, 236, s, np.uint8) for s in ((height, width), small, small)))


def row(case: str, name: str, milliseconds: list[float], **more: Any) -> dict[str, Any]:
    timing = report.Timing.of([1e6 * value for value in milliseconds])
    return {"case": case, "name": name, "unit": "ns per call", "n": timing.n, "p50": timing.p50,
            "p95": timing.p95, "p99": timing.p99, "max": timing.max} | more  # fmt: skip


def turns(rounds: int, longest_s: float = LONGEST_S, least: int = LEAST) -> Iterator[int]:
    """The numbers of the rounds: fewer where together they take too long."""
    end = time.perf_counter() + longest_s
    for turn in range(rounds):
        if turn >= least and time.perf_counter() > end:
            return
        yield turn


def on_device(stream: Any, calls: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Milliseconds of a call on the device: LAUNCHES of them between two events, divided."""
    from numba import cuda

    for call in calls:
        call()
    start, stop = cuda.event(), cuda.event()
    taken = []
    for turn in turns(rounds):
        start.record(stream)
        for launch in range(LAUNCHES):
            calls[(turn + launch) % len(calls)]()
        stop.record(stream)
        stop.synchronize()
        taken.append(float(start.elapsed_time(stop)) / LAUNCHES)
    return taken


def on_host(call: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of each call that returns when its result is there."""
    call()
    taken = []
    for _ in turns(rounds):
        begin = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - begin))
    return taken


def bench_cpu(streams: int, rounds: int) -> Rows:
    """What one core does of the same work."""
    ticks = (
        np.random.default_rng(0).standard_normal((streams, TICK + SPEC.context_samples)).astype(np.float32)
    )
    shown = [picture(384, 216, seed) for seed in range(min(streams, 64))]
    out = np.empty((len(shown), 3, FRAME.size, FRAME.size), np.float32)
    sound = on_host(lambda: mfcc_with_context(ticks, SPEC), rounds)
    seen = on_host(lambda: frame_window(shown, FRAME, out), rounds)
    return [
        row("one CPU core", f"mfcc, {streams} streams x 100 ms", sound),
        row("one CPU core", f"frame window, {len(shown)} x 384x216", seen),
    ]


def copy_bandwidth(megabytes: int, rounds: int) -> tuple[float, Rows]:
    """Bytes read and written per second by a device-to-device copy: what the kernels are held against."""
    from numba import cuda

    source = cuda.to_device(np.random.default_rng(0).integers(0, 255, megabytes << 20, np.uint8))
    target, stream = cuda.device_array_like(source), cuda.stream()
    taken = on_device(stream, [lambda: target.copy_to_device(source, stream=stream)], rounds)
    rate = 2 * source.nbytes / (statistics.median(taken) / 1e3)
    return rate, [row("limits", f"device copy of {megabytes} MB", taken, bytes_per_s=rate)]


def bench_mfcc(streams: int, rounds: int, limit: float) -> Rows:
    from numba import cuda

    samples = TICK + SPEC.context_samples
    stream, kernel, tables = cuda.stream(), mfcc_kernel(SPEC), device_tables(SPEC, 0)
    table = np.zeros((streams, TABLE_WIDTH), np.int32)
    table[:, 0], table[:, 1], table[:, 3] = np.arange(streams) * samples, samples, -1
    table[:, 5] = np.arange(streams) * FRAMES
    hosts = [
        np.random.default_rng(s).standard_normal((streams, samples)).astype(np.float32) for s in range(8)
    ]
    inputs = [cuda.to_device(host.ravel()) for host in hosts]
    carry, rows = cuda.to_device(np.zeros((2, 1, SPEC.n_fft), np.float32)), cuda.to_device(table)
    out = cuda.to_device(np.full((streams * FRAMES, SPEC.n_mfcc), np.nan, np.float32))
    cuda.synchronize()
    grid = (FRAMES, streams)
    calls = [lambda x=x: kernel[grid, threads_of(SPEC), stream](rows, x, carry, *tables, out) for x in inputs]
    calls[0]()
    stream.synchronize()
    got = out.copy_to_host().reshape(streams, FRAMES, SPEC.n_mfcc)
    check("mfcc", got, mfcc_with_context(hosts[0], SPEC), 1e-3)
    case = f"mfcc, {streams} streams x 100 ms, on the device"
    taken = on_device(stream, calls, rounds)
    moved = inputs[0].nbytes + out.nbytes
    share = moved / (statistics.median(taken) / 1e3) / limit
    return [
        row(case, "streamfuse", taken, share_of_copy=share),
        *torchaudio_rows(case, hosts, rounds),
        *cupy_rows(case, hosts, rounds),
    ]


def torchaudio_rows(case: str, hosts: list[np.ndarray], rounds: int) -> Rows:
    import torch

    if not torch.cuda.is_available():
        print("torchaudio's MFCC on the GPU: torch here has no CUDA")
        return []
    from torchaudio import transforms

    options = {"n_fft": SPEC.n_fft, "win_length": SPEC.win_length, "hop_length": SPEC.hop_length,
               "f_min": SPEC.f_min, "f_max": SPEC.f_max, "n_mels": SPEC.n_mels, "center": False}  # fmt: skip
    module = transforms.MFCC(SPEC.sample_rate, SPEC.n_mfcc, melkwargs=options).cuda()
    module.amplitude_to_DB.top_db = None
    inputs = [torch.from_numpy(host).cuda() for host in hosts]
    with torch.inference_mode():
        got = module(inputs[0]).transpose(1, 2).cpu().numpy() * (np.log(10) / 10)
        check("torchaudio's MFCC", got, mfcc_with_context(hosts[0], SPEC), 0.1)
        return [row(case, "torchaudio", torch_times([lambda x=x: module(x) for x in inputs], rounds))]


def cupy_rows(case: str, hosts: list[np.ndarray], rounds: int) -> Rows:
    """The same steps as array operations of CuPy, with cuFFT: what one would write without a kernel."""
    try:
        import cupy as cp
    except ImportError:
        print("CuPy's MFCC: not installed")
        return []
    n_fft, hop = SPEC.n_fft, SPEC.hop_length
    tables = mfcc_tables(SPEC)
    window = np.zeros(n_fft, np.float32)
    window[tables.taper_at : tables.taper_at + len(tables.taper)] = 2 * tables.taper  # ours are halved
    mel = np.zeros((n_fft // 2 + 1, SPEC.n_mels), np.float32)
    for band in range(SPEC.n_mels):
        weights = tables.weights[tables.weight_at[band] : tables.weight_at[band + 1]]
        mel[tables.first_bin[band] : tables.first_bin[band] + len(weights), band] = weights
    window, mel, cosines = (cp.asarray(a) for a in (window, mel, tables.cosines[: SPEC.n_mfcc].T))
    frames = cp.arange(FRAMES)[:, None] * hop + cp.arange(n_fft)
    inputs = [cp.asarray(host) for host in hosts]

    def convert(samples: Any) -> Any:
        power = cp.abs(cp.fft.rfft(samples[:, frames] * window)) ** 2
        return cp.log(cp.maximum(power @ mel, SPEC.log_floor)) @ cosines

    check("CuPy's MFCC", cp.asnumpy(convert(inputs[0])), mfcc_with_context(hosts[0], SPEC), 0.1)
    stream = cp.cuda.get_current_stream()
    start, stop = cp.cuda.Event(), cp.cuda.Event()
    taken = []
    for turn in turns(rounds + 3, least=LEAST + 3):
        start.record(stream)
        for launch in range(LAUNCHES):
            convert(inputs[(turn + launch) % len(inputs)])
        stop.record(stream)
        stop.synchronize()
        taken.append(float(cp.cuda.get_elapsed_time(start, stop)) / LAUNCHES)
    return [row(case, "CuPy and cuFFT", taken[3:])]


def torch_times(calls: list[Callable[[], Any]], rounds: int) -> list[float]:
    import torch

    for call in calls * 3:
        call()
    taken = []
    for turn in turns(rounds):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for launch in range(LAUNCHES):
            calls[(turn + launch) % len(calls)]()
        stop.record()
        stop.synchronize()
        taken.append(float(start.elapsed_time(stop)) / LAUNCHES)
    return taken


def bench_frames(count: int, width: int, height: int, rounds: int, limit: float) -> Rows:
    from numba import cuda

    shown = [picture(width, height, seed % 16) for seed in range(count)]
    batch = FrameWindowBatch(FRAME)
    out = cuda.to_device(np.full((count, 3, FRAME.size, FRAME.size), np.nan, np.float32))
    cuda.synchronize()
    batch.run(shown, range(count), out)
    batch.stream.synchronize()
    check("frame window", out.copy_to_host()[:4], frame_window(shown[:4], FRAME), 2e-3 / FRAME.std[0])
    case = f"frame window, {count} x {width}x{height} to {FRAME.size}, on the device"
    taken = on_device(batch.stream, [batch.launch_again(out)], rounds)
    moved = batch.uploaded_bytes + out.nbytes
    share = moved / (statistics.median(taken) / 1e3) / limit
    return [row(case, "streamfuse", taken, share_of_copy=share), *torch_frame_rows(case, shown, rounds)]


def torch_frame_rows(case: str, shown: list[Picture], rounds: int) -> Rows:
    """torch: planes antialiased to the size, then the matrix; the crop is a view."""
    import torch
    from torch.nn.functional import interpolate

    if not torch.cuda.is_available():
        print("torch's interpolate on the GPU: torch here has no CUDA")
        return []
    left = (shown[0].width - shown[0].height) // 2
    luma, cb, cr = (
        torch.from_numpy(np.stack([p.planes[i] for p in shown]))[:, None].cuda() for i in range(3)
    )
    size, device = (FRAME.size, FRAME.size), "cuda"
    matrix = torch.tensor([[1.1644, 0, 1.596], [1.1644, -0.3918, -0.813], [1.1644, 2.0172, 0]], device=device)
    centre = torch.tensor([16.0, 128.0, 128.0], device=device)[:, None, None]
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (FRAME.mean, FRAME.std))

    def convert() -> torch.Tensor:
        half = slice(left // 2, left // 2 + shown[0].height // 2)
        seen = (luma[..., left : left + shown[0].height], cb[..., half], cr[..., half])
        small = [interpolate(p.float(), size, mode="bilinear", antialias=True) for p in seen]
        yuv = torch.cat(small, dim=1) - centre
        return ((torch.einsum("ck,bkhw->bchw", matrix, yuv) / 255).clamp(0, 1) - mean) / std

    with torch.inference_mode():
        return [row(case, "torch interpolate + matrix", torch_times([convert], rounds))]


def bench_tick(streams: int, rounds: int) -> Rows:
    """Host memory to finished features of every stream: pack, one upload each, two launches."""
    from numba import cuda

    shown = [picture(384, 216, seed % 16) for seed in range(streams)]
    sound = np.random.default_rng(0).standard_normal((streams, TICK)).astype(np.float32)
    stream = cuda.stream()
    frames, voices = FrameWindowBatch(FRAME, stream), MfccBatch(SPEC, streams, stream)
    out = cuda.device_array((streams, 3, FRAME.size, FRAME.size), np.float32)

    def tick() -> None:
        frames.run(shown, range(streams), out)
        voices.push(list(enumerate(sound)))
        stream.synchronize()

    return [row("tick without the model, 384x216 + 100 ms", f"{streams} streams", on_host(tick, rounds))]


def bench_full_tick(streams: int, max_batch: int, rounds: int, device: str) -> Rows:
    """Ticks in host memory to probabilities of every stream: upload, both kernels, the model, download.

    The tick is due for all streams at once, every 100 ms: what it takes is what a stream waits. The pictures
    show no face: following one is work of the CPU for each stream (bench_faces.py), and comes on top.
    """
    model = load_model(device=device)
    batch = BatchAnalyzer(model, streams=streams, max_batch=max_batch, max_wait_ms=0, mode="live")
    shown = [picture(384, 216, seed % 16) for seed in range(streams)]
    sound = np.random.default_rng(0).normal(0, 0.1, (streams, TICK + SPEC.context_samples)).astype(np.float32)
    names = [f"camera {n}" for n in range(streams)]
    for name in names:
        batch.open(name)
    index = iter(range(1_000_000))

    def tick() -> None:
        at = next(index)
        for n, name in enumerate(names):
            head = TickHead(name, 0, at, at * HOP_NS, HOP_NS, "ok", "ok")
            batch.add(Tick(head, shown[n], sound[n]), 0)
        answers = 0
        while (waiting := batch.due_ns() is not None) or batch.under_way:
            if waiting and batch.under_way < AT_ONCE:  # packed while the one before it is stepped
                batch.begin()
            else:
                answers += len(batch.collect())
        if answers != streams:
            raise SystemExit("a stream has no answer")

    for _ in turns(5, longest_s=1.0, least=2):
        tick()
    taken = on_host(tick, rounds)
    per_second = streams * 1e3 / statistics.median(taken)
    case = f"tick with the model on {device}, 384x216 + 100 ms, at most {max_batch} in a batch"
    return [row(case, f"{streams} streams", taken, streams_at_10_hz=round(per_second / 10))]


def bench_nvdec(recording: Recording, every: int, rounds: int) -> Rows:
    """A recording from its file to the windows of one picture in `every`, decoded by the GPU (pictures stay
    there, or come to the host) and by the CPU. In turns; per picture decoded.
    """
    ways = {
        "NVDEC, pictures stay": (NVDEC, stays_on(NVDEC, "cuda:0")),
        "NVDEC, pictures copied to the host": (NVDEC, None),
        "CPU": (DecodeConfig(audio=False), None),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with TemporaryDirectory() as folder:
        path = recording.write(Path(folder))
        # What stays on the GPU is not shrunk on the way: the judge is the CPU's window of the whole picture.
        whole = decoded(path, every, *ways["CPU"], side=recording.height)[1]
        shrunk = decoded(path, every, *ways["CPU"])[1]
        for name in [name for _ in range(rounds + 1) for name in ways]:
            decode, keep_on = ways[name]
            begin = time.perf_counter()
            try:
                pictures, window = decoded(path, every, decode, keep_on)
            except BackendError as error:
                print(f"{name}: {error}")
                return []
            taken[name].append(1e3 * (time.perf_counter() - begin) / pictures)
            if keep_on is not None:
                check(name, window, whole, 2e-3 / min(FRAME.std))
            else:
                check(name, window, shrunk, 2 / 255 / min(FRAME.std))  # a byte may be rounded otherwise
    case = f"decode {recording.height}p{recording.fps}, window of one in {every}"
    return [row(case, name, times[1:], pictures_per_s=1e3 / statistics.median(times[1:]))
            for name, times in taken.items()]  # fmt: skip


def decoded(
    path: Path, every: int, decode: DecodeConfig, keep_on: Gpu | None, side: int = 2 * FRAME.size
) -> tuple[int, np.ndarray]:
    """The number of pictures, and the last window. Pictures that come to the host have at most this side."""
    from numba import cuda

    batch, pictures = FrameWindowBatch(FRAME), 0
    out = cuda.to_device(np.full((1, 3, FRAME.size, FRAME.size), np.nan, np.float32))
    with open_decoder(
        parse_source(str(path)), decode=decode, mode="recorded", picture_side=side, keep_on=keep_on
    ) as decoder:
        for item in decoder:
            if isinstance(item, VideoFrame):
                pictures += 1
                if pictures % every == 0:
                    batch.run([item.render()], [0], out)
        batch.stream.synchronize()
    return pictures, out.copy_to_host()


def gpu_name() -> str:
    from numba import cuda

    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else str(name)


class WrongResult(Exception):
    """What was to be timed is wrong: nothing is told of how long it takes."""


def check(what: str, got: np.ndarray, expected: np.ndarray, bound: float) -> None:
    if not np.abs(got - expected).max() <= bound:  # NaN is no agreement
        raise WrongResult(f"{what}: wrong result, off by {np.abs(got - expected).max()}")


class Results:
    """What has been measured: printed at once, and in the result file after each part."""

    def __init__(self, gpu: str | None) -> None:
        """gpu: the name of what is measured, or why there is none; None writes no file."""
        self._rows: Rows = []
        self._gpu = gpu
        self.wrong: list[str] = []

    def measure(self, part: Callable[..., Rows], *arguments: Any) -> None:
        """Add the rows of a part; a wrong one costs the others nothing, and the exit code tells of it."""
        try:
            self.add(part(*arguments))
        except WrongResult as error:
            print(f"\n{error}")
            self.wrong.append(str(error))

    def add(self, rows: Rows) -> None:
        print(report.table(rows))
        for each in rows:
            if "share_of_copy" in each:
                print(f"  streamfuse: {100 * each['share_of_copy']:.0f} % of the copy's bytes per second")
        self._rows += rows
        self.write(complete=False)

    def write(self, *, complete: bool) -> None:
        if self._gpu is not None:
            checks = {"gpu": self._gpu, "complete": complete and not self.wrong, "wrong": self.wrong}
            report.write("cuda", self._rows, checks)


def bench_gpu(results: Results, rounds: int, smoke: bool) -> None:
    """In the order of what is missed most where the run is cut off."""
    limit, found = copy_bandwidth(1 if smoke else 1024, rounds)
    results.add(found)
    results.measure(bench_mfcc, 1 if smoke else 1024, rounds, limit)
    size = (16, 12) if smoke else (1920, 1080)
    results.measure(bench_frames, 1 if smoke else 256, *size, rounds, limit)
    small, large = Recording(64, 48, 30, 10, 100_000), Recording(1920, 1080, 30, 20, 8_000_000)
    results.measure(bench_nvdec, *((small, 300, 1) if smoke else (large, 3, min(rounds, 5))))
    for streams in (1,) if smoke else (1, 16, 64, 256, 1024):
        results.measure(bench_tick, streams, rounds)
        for max_batch in sorted({min(streams, ModelConfig().max_batch), streams}):
            results.measure(bench_full_tick, streams, max_batch, rounds, "cpu" if smoke else "cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000, help="at most, of each row")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does every line run?")
    options = parser.parse_args()
    rounds, smoke = (1, True) if options.smoke else (options.rounds, False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # into a file or a pipe too
    missing = cuda_missing()
    results = Results(None if smoke else missing or gpu_name())
    results.add(bench_cpu(2 if smoke else 1024, min(rounds, 50)))
    if missing is None:
        print(f"\n{PEERS}")
        bench_gpu(results, rounds, smoke)
    else:
        print(f"\nThe GPU part waits: {missing}")
    results.write(complete=missing is None)
    if results.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
