"""The CUDA twins against the references. Not collected by its name: see test_cuda_simulator and test_cuda.

In the simulator a thread of the GPU is a thread of Python, so there every case is small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from numba import config, cuda

from streamfuse.errors import BackendError, StageError
from streamfuse.kernels.backend import Device
from streamfuse.kernels.frame_window import FrameSpec, checked_planes, frame_window, frame_window_reference
from streamfuse.kernels.frame_window_cuda import FrameWindowBatch
from streamfuse.kernels.mfcc import MfccSpec, MfccStream, mfcc, mfcc_reference, mfcc_with_context
from streamfuse.kernels.mfcc_cuda import MfccBatch
from streamfuse.kernels.tick_batch import HostTickBatch, TickBatch
from streamfuse.kernels.tick_batch_cuda import DeviceTickBatch
from streamfuse.types import Picture
from tests.kernels.signals import noise, random_picture, sounds, spoken, tone

SIMULATED = bool(config.ENABLE_CUDASIM)
SPEC = MfccSpec()
SMALL = MfccSpec(n_fft=64, win_length=50, hop_length=20, n_mels=6, n_mfcc=5)
"""Odd number of radix-4 stages and one of radix 2; cheap in the simulator."""
CLOSE = 1e-3
FORMATS = [
    ("420", "bt601", False, (1, 1)),
    ("nv12", "bt709", True, (4, 3)),
    ("422", "bt2020", False, (1, 1)),
    ("444", "bt601", True, (3, 4)),
    ("nv12", "bt601", False, (1, 5)),
    ("420", "bt709", True, (8, 9)),
]
SIZES = [(21, 13), (8, 40), (5, 5), (1, 1), (64, 30), (33, 34)]


def pictures(scale: int = 1) -> list[Picture]:
    return [
        random_picture(w * scale, h * scale, chroma, matrix, full, aspect, seed=i, padding=3)
        for i, ((w, h), (chroma, matrix, full, aspect)) in enumerate(zip(SIZES, FORMATS, strict=True))
    ]


@pytest.mark.parametrize("name", ["speech", "tone 1000", "square"])
def test_mfcc_matches_the_reference(name: str) -> None:
    samples = sounds()[name][: 480 if SIMULATED else 16_000]
    np.testing.assert_allclose(mfcc(samples, SPEC, "cuda"), mfcc_reference(samples, SPEC), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("hertz", [37, 888, 6653])
def test_mfcc_of_full_scale_tones_matches_the_reference(hertz: float) -> None:
    samples = tone(hertz, 800)
    frames = mfcc_with_context(samples[None, -512:], SPEC, "cuda")[0]
    np.testing.assert_allclose(frames, mfcc_reference(samples, SPEC)[-1:], atol=CLOSE, rtol=0)


def test_mfcc_of_silence_and_of_what_is_no_sound_is_finite() -> None:
    samples = np.zeros((2, 100), np.float32)
    samples[1, 50] = np.nan
    got = mfcc(samples, SMALL, "cuda")
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[0], mfcc_reference(samples[0], SMALL), atol=CLOSE)
    np.testing.assert_allclose(got[1], mfcc_reference(samples[1], SMALL), atol=CLOSE)


@pytest.mark.parametrize(
    "spec",
    [SMALL, MfccSpec(n_fft=32, win_length=31, hop_length=32, n_mels=3, n_mfcc=2),
     MfccSpec(n_fft=256, win_length=255, hop_length=256, n_mels=20, n_mfcc=13)],
    ids=str,
)  # fmt: skip
def test_mfcc_of_other_specs_matches_the_reference(spec: MfccSpec) -> None:
    samples = spoken(3 * spec.n_fft)
    got = mfcc(samples, spec, "cuda")
    np.testing.assert_allclose(got, mfcc_reference(samples, spec), atol=CLOSE, rtol=0)


def test_streams_with_ragged_arrivals_match_each_alone() -> None:
    """Three streams in pushes of any size, some of nothing, in any order; one joins late."""
    sound = [noise(150, seed=s) for s in range(3)]
    plan = [
        [(2, 1), (0, 19)],
        [],
        [(0, 0)],
        [(1, 40), (0, 45)],
        [(0, 1), (2, 60), (1, 7)],
        [(2, 20), (1, 33)],
    ]
    batch, at, got = MfccBatch(SMALL, 3), [0, 0, 0], {0: [], 1: [], 2: []}
    for arrivals in plan:
        parts = []
        for slot, n in arrivals:
            parts.append((slot, sound[slot][at[slot] : at[slot] + n]))
            at[slot] += n
        frames, places = batch.push(parts)
        assert [slot for slot, _, _ in places] == [slot for slot, _ in arrivals]
        host = frames.copy_to_host(stream=batch.stream)
        batch.stream.synchronize()
        for slot, first, count in places:
            got[slot].append(host[first : first + count])
    for slot, parts in got.items():
        expected = mfcc_reference(sound[slot][: at[slot]], SMALL)
        assert len(expected) > 2
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=CLOSE, rtol=0)


def test_reset_slot_begins_with_zeros_and_leaves_the_others() -> None:
    batch = MfccBatch(SMALL, 2)
    batch.push([(0, noise(55, seed=8)), (1, noise(55, seed=9))])
    batch.reset(0)
    frames, places = batch.push([(1, noise(50, seed=4)), (0, noise(50, seed=5))])
    host = frames.copy_to_host(stream=batch.stream)
    batch.stream.synchronize()
    (_, first1, count1), (_, first0, count0) = places
    assert (count1, count0) == (3, 2)
    whole = np.concatenate([noise(55, seed=9), noise(50, seed=4)])
    np.testing.assert_allclose(host[first1 : first1 + 3], mfcc_reference(whole, SMALL)[2:], atol=CLOSE)
    np.testing.assert_allclose(
        host[first0 : first0 + 2], mfcc_reference(noise(50, seed=5), SMALL), atol=CLOSE
    )


def test_mfcc_stream_on_cuda_matches_the_cpu() -> None:
    stream, samples = MfccStream(SMALL, "cuda"), noise(90)
    parts = [stream.push(samples[:7]), stream.push(samples[7:50]), stream.push(samples[50:])]
    np.testing.assert_allclose(np.concatenate(parts), mfcc(samples, SMALL), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("shape", [(0,), (19,), (0, 40), (3, 5)])
def test_mfcc_of_nothing(shape: tuple[int, ...]) -> None:
    assert mfcc(np.zeros(shape, np.float32), SMALL, "cuda").shape == (*shape[:-1], shape[-1] // 20, 5)


@pytest.mark.parametrize(
    ("arrivals", "message"),
    [
        ([(3, noise(4))], r"arrivals must be \(slot below 3.*got 3"),
        ([(0, noise(4).astype(float))], r"samples float32 \(n,\)\), got 0, float64 \(4,\)"),
        ([(1, noise(4)), (1, noise(4))], r"a slot must come once in a push, got \[1, 1\]"),
    ],
)
def test_arrivals_that_do_not_fit_are_refused(arrivals, message: str) -> None:
    with pytest.raises(StageError, match=message):
        MfccBatch(SMALL, 3).push(arrivals)


def test_transform_that_does_not_fit_a_block_is_refused() -> None:
    with pytest.raises(BackendError, match="n_fft on CUDA must be at most 4096, got 8192"):
        mfcc(noise(9000), MfccSpec(n_fft=8192), "cuda")


@pytest.mark.parametrize("colour", ["rgb", "luma"])
def test_frame_window_of_all_formats_in_one_launch_matches_the_reference(colour) -> None:
    many = pictures(1 if SIMULATED else 17)
    spec = FrameSpec(size=5 if SIMULATED else 128, colour=colour, mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.9))
    got = frame_window(many, spec, backend="cuda")
    for each, picture in zip(got, many, strict=True):
        # 1/255 is the bound; what float32 edges cost is far below it, so that a wrong tap cannot hide.
        np.testing.assert_allclose(each, frame_window_reference(picture, spec), atol=1e-3, rtol=0)


def test_frame_window_writes_only_its_slots_and_any_float() -> None:
    spec, two = FrameSpec(size=4), pictures()[:2]
    for dtype, bound in ((np.float32, 1e-4), (np.float16, 4e-3)):
        batch = FrameWindowBatch(spec)
        out = cuda.to_device(np.full((5, 3, 4, 4), 77, dtype))
        cuda.synchronize()
        for picture in two:
            checked_planes(picture, "")
        batch.run(two, [3, 1], out)
        batch.stream.synchronize()
        host = out.copy_to_host()
        assert host.dtype == dtype
        np.testing.assert_allclose(host[3], frame_window_reference(two[0], spec), atol=bound)
        np.testing.assert_allclose(host[1], frame_window_reference(two[1], spec), atol=bound)
        assert (host[[0, 2, 4]] == 77).all()


def test_frame_window_called_again_reuses_its_buffers_rightly() -> None:
    spec, batch = FrameSpec(size=3), FrameWindowBatch(FrameSpec(size=3))
    for turn in range(3):
        picture = random_picture(9 + 5 * turn, 12, "nv12", seed=turn)
        out = cuda.to_device(np.zeros((1, 3, 3, 3), np.float32))
        batch.run([picture], [0], out)
        batch.stream.synchronize()
        np.testing.assert_allclose(out.copy_to_host()[0], frame_window_reference(picture, spec), atol=1e-3)


def test_slot_out_of_range_is_refused() -> None:
    out = cuda.to_device(np.zeros((2, 3, 4, 4), np.float32))
    for slots in ([2], [-1], [0, 1]):
        with pytest.raises(StageError, match=r"each picture needs a slot below 2, got \["):
            FrameWindowBatch(FrameSpec(size=4)).run(pictures()[:1], slots, out)


def test_picture_too_wide_for_a_block_is_refused() -> None:
    wide = random_picture(6200, 6200, "444")
    with pytest.raises(
        StageError, match=r"may take 3072 words across its planes, got 4650 .*shrink it first"
    ):
        frame_window([wide], FrameSpec(size=4), backend="cuda")


def test_more_pictures_than_a_grid_has_blocks_are_refused() -> None:
    many, out = 65_536, SimpleNamespace(shape=(65_536, 3, 4, 4))
    with pytest.raises(StageError, match=r"a launch takes at most 65535 pictures, got 65536"):
        FrameWindowBatch(FrameSpec(size=4)).run(pictures()[:1] * many, range(many), out)


@pytest.mark.parametrize("make", [HostTickBatch, partial(DeviceTickBatch, device=Device("cuda"))])
@pytest.mark.parametrize(
    ("lengths", "told"),
    [((60, 40, 40), r"got float32 \(84,\) \[row 1\]"), ((20,) * 3, "row 0"), ((60,) * 5, "4 rows")],
)
def test_sound_of_another_length_is_refused_before_it_lands_in_a_neighbours_row(
    make: Callable[..., TickBatch], lengths: tuple[int, ...], told: str
) -> None:
    batch, rows = make(FrameSpec(size=6), SMALL), 4
    heard = [noise(SMALL.context_samples + n, seed=row) for row, n in enumerate(lengths)]
    into = [np.full(s, 7, np.float32) for s in ((rows, 3, 6, 6), (rows, 3, SMALL.n_mfcc))]
    numbers = np.zeros((rows, 2), np.int32)
    device = isinstance(batch, DeviceTickBatch)
    given = [cuda.to_device(one) if device else one for one in (*into, numbers)]
    with pytest.raises(StageError, match=told):
        batch.fill([], heard, numbers, tuple(given))
    after = given[1].copy_to_host() if device else given[1]
    np.testing.assert_array_equal(after, into[1])
    assert (after == 7).all()


@pytest.mark.parametrize("make", [HostTickBatch, partial(DeviceTickBatch, device=Device("cuda"))])
def test_picture_that_no_batch_can_take_is_refused_before_it_is_in_one(
    make: Callable[..., TickBatch],
) -> None:
    batch, whole = make(FrameSpec(size=6), SMALL), pictures()[0]
    batch.check(whole)
    with pytest.raises(StageError, match="planes of 420 must be"):
        batch.check(replace(whole, planes=whole.planes[:2]))


def test_picture_too_wide_for_a_block_is_refused_before_it_is_in_a_batch() -> None:
    with pytest.raises(StageError, match="may take 3072 words"):
        DeviceTickBatch(FrameSpec(size=4), SMALL, Device("cuda")).check(random_picture(6200, 6200, "444"))


@pytest.mark.parametrize("shown", [(0, 1, 2, 3), (2,), ()])
def test_batch_of_ticks_matches_the_cpu(shown: tuple[int, ...]) -> None:
    """One upload for planes, samples and numbers, whatever is missing from it; other rows stay."""
    spec, rows = FrameSpec(size=6), 4
    seen = [(row, picture) for row, picture in zip(shown, pictures(), strict=False)]
    heard = [noise(SMALL.context_samples + 60, seed=row) for row in range(3)]
    numbers = np.arange(8, dtype=np.int32).reshape(4, 2)
    frames = 60 // SMALL.hop_length
    shapes = [(rows, 3, 6, 6), (rows, frames, SMALL.n_mfcc)]
    expected = [np.full(shape, 7, np.float32) for shape in shapes] + [np.zeros_like(numbers)]
    HostTickBatch(spec, SMALL).fill(seen, heard, numbers, tuple(expected))
    batch = DeviceTickBatch(spec, SMALL, Device("cuda"))
    got = [cuda.to_device(np.full(shape, 7, np.float32)) for shape in shapes]
    got.append(cuda.to_device(np.zeros_like(numbers)))
    for _ in range(3):  # both of the pinned buffers, and one again
        batch.fill(seen, heard, numbers, tuple(got))
    cuda.synchronize()
    for one, other, bound in zip(got, expected, (CLOSE, CLOSE, 0), strict=True):
        np.testing.assert_allclose(one.copy_to_host(), other, atol=bound, rtol=0)
