"""Pictures that lie on the GPU, through the same kernel as those of the host. Collected as cuda_twins is.

In the simulator the memory of the GPU is the host's: an address is one of numpy's.
"""

from __future__ import annotations

import ctypes
import gc
import weakref
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numba import config, cuda

from streamfuse.errors import StageError
from streamfuse.kernels import device_planes
from streamfuse.kernels.backend import Device
from streamfuse.kernels.frame_window import FrameSpec, frame_window_reference
from streamfuse.kernels.frame_window_cuda import FrameWindowBatch
from streamfuse.kernels.mfcc import MfccSpec
from streamfuse.kernels.tick_batch_cuda import DeviceTickBatch
from streamfuse.types import Chroma, DevicePicture, DevicePlane, Picture
from tests.kernels.signals import noise, random_picture

SIMULATED = bool(config.ENABLE_CUDASIM)
CLOSE = 1e-3
SPEC = FrameSpec(size=4)
SMALL = MfccSpec(n_fft=64, win_length=50, hop_length=20, n_mels=6, n_mfcc=5)
PITCH = 32
"""Rows begin at multiples of so many bytes, as FFmpeg's do at 256 or 512."""


@pytest.fixture(autouse=True)
def gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if SIMULATED:
        monkeypatch.setattr(device_planes, "device_words", host_words)


def host_words(address: int, words: int):
    return cuda.to_device(np.frombuffer((ctypes.c_int32 * words).from_address(address), np.int32))


@dataclass(eq=False)
class Owner:
    """What keeps the memory, as an av.VideoFrame does."""

    arrays: list


def padded(plane: np.ndarray) -> np.ndarray:
    """Its rows as a decoder lays them out; what is between them is nobody's."""
    rows = np.ascontiguousarray(plane).reshape(plane.shape[0], -1).view(np.uint8)
    pitch = -(-rows.shape[1] // PITCH) * PITCH
    filled = np.random.default_rng(0).integers(0, 256, (len(rows), pitch), np.uint8)
    filled[:, : rows.shape[1]] = rows
    return filled


def put_on_gpu(planes: tuple[np.ndarray, ...], picture: Picture, **more) -> DevicePicture:
    """`planes` (uint8 or uint16) in the GPU's memory, with the look of `picture`."""
    placed, memory = [], []
    for plane in planes:
        array = cuda.to_device(padded(plane))
        address = array.ctypes.data if SIMULATED else array.__cuda_array_interface__["data"][0]
        placed.append(DevicePlane(address, array.shape[1], plane.shape))
        memory.append(array)
    cuda.synchronize()
    facts = {"turns": 0, "mirrored": False, "gpu": 0} | more
    look = (picture.chroma, picture.matrix, picture.full_range, picture.pixel_aspect)
    size = planes[0].itemsize
    return DevicePicture(
        tuple(placed), *look, **facts, sample_bytes=size, owner=Owner(memory), on_host=lambda: picture
    )


def kept(picture: Picture, **more) -> DevicePicture:
    return put_on_gpu(picture.planes, picture, **more)


def squares(pictures: list[DevicePicture], spec: FrameSpec = SPEC) -> np.ndarray:
    batch = FrameWindowBatch(spec)
    out = cuda.to_device(np.full((len(pictures), spec.channels, spec.size, spec.size), np.nan, np.float32))
    batch.run(pictures, range(len(pictures)), out)
    batch.stream.synchronize()
    return out.copy_to_host()


SHAPES = [
    (22, 14, (1, 1)),
    (14, 22, (1, 1)),
    (38, 10, (4, 3)),
    (8, 40, (1, 1)),
    (6, 4, (3, 4)),
    (2, 2, (1, 1)),
]
"""Squares that begin at every column of a word, also where chroma's does not; shrunk and enlarged."""


@pytest.mark.parametrize(("chroma", "colour"), [("nv12", "rgb"), ("444", "rgb"), ("nv12", "luma")])
def test_pictures_on_the_gpu_match_the_reference(chroma: Chroma, colour: str) -> None:
    spec = FrameSpec(size=4, colour=colour)  # type: ignore[arg-type]
    pictures = [
        random_picture(wide, high, chroma, "bt709", seed % 2 == 0, aspect, seed=seed)
        for seed, (wide, high, aspect) in enumerate(SHAPES)
    ]
    got = squares([kept(picture) for picture in pictures], spec)
    for one, picture in zip(got, pictures, strict=True):
        np.testing.assert_allclose(one, frame_window_reference(picture, spec), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("chroma", ["nv12", "444"])
def test_samples_of_sixteen_bits_count_by_their_upper_eight_rounded(chroma: Chroma) -> None:
    picture = random_picture(38, 18, chroma, "bt2020", seed=5)
    random = np.random.default_rng(6)
    deep = tuple(random.integers(0, 65536, plane.shape, np.uint16) for plane in picture.planes)
    deep[0][0, :4] = 65535, 65407, 65408, 127  # up to the edges of rounding
    rounded = tuple(np.minimum(np.floor(p / 256 + 0.5), 255).astype(np.uint8) for p in deep)
    (got,) = squares([put_on_gpu(deep, picture)])
    expected = frame_window_reference(replace(picture, planes=rounded), SPEC)
    np.testing.assert_allclose(got, expected, atol=CLOSE, rtol=0)


def test_narrowed_samples_are_the_nearest_bytes() -> None:
    deep = np.arange(0, 65536, 7 if not SIMULATED else 331, dtype=np.uint16)
    deep = deep[: len(deep) // 4 * 4]
    deep[-2:] = 65535, 65408
    target = cuda.to_device(np.zeros(len(deep) // 4, np.uint32))
    kernel = device_planes.narrow_kernel()
    kernel[-(-len(target) // 128), 128](cuda.to_device(deep.view(np.uint32)), target)
    expected = np.minimum(np.floor(deep / 256 + 0.5), 255).astype(np.uint8)
    np.testing.assert_array_equal(target.copy_to_host().view(np.uint8), expected)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_pictures_match_the_reference_of_the_upright_one(turns: int, mirrored: bool) -> None:
    lying = random_picture(22, 14, "nv12", pixel_aspect=(4, 3), seed=turns)
    planes = [plane[:, ::-1] if mirrored else plane for plane in lying.planes]
    aspect = (3, 4) if turns % 2 else (4, 3)
    upright = replace(lying, planes=tuple(np.rot90(p, turns) for p in planes), pixel_aspect=aspect)
    (got,) = squares([kept(lying, turns=turns, mirrored=mirrored)])
    np.testing.assert_allclose(got, frame_window_reference(upright, SPEC), atol=CLOSE, rtol=0)


def test_batch_mixes_pictures_of_the_host_and_of_the_gpu() -> None:
    """Also another one in each turn, larger and smaller, over the buffers of the one before."""
    batch, rows = DeviceTickBatch(SPEC, SMALL, Device("cuda")), 5
    numbers = np.arange(10, dtype=np.int32).reshape(rows, 2)
    heard = [noise(SMALL.context_samples + 60, seed=row) for row in range(3)]
    for turn in range(3):
        seen = [random_picture(16 + 6 * (turn % 3), 12, "nv12", seed=10 * turn + row) for row in range(4)]
        given = [(row, kept(picture) if row in (1, 3) else picture) for row, picture in enumerate(seen)]
        into = [cuda.to_device(np.full(s, 7, np.float32)) for s in ((rows, 3, 4, 4), (rows, 3, 5))]
        into.append(cuda.to_device(np.zeros_like(numbers)))
        for _, picture in given:
            batch.check(picture)
        batch.fill(given, heard, numbers, tuple(into))
        cuda.synchronize()
        shown = into[0].copy_to_host()
        for row, picture in enumerate(seen):
            np.testing.assert_allclose(shown[row], frame_window_reference(picture, SPEC), atol=CLOSE, rtol=0)
        assert (shown[4] == 7).all()
        np.testing.assert_array_equal(into[2].copy_to_host(), numbers)


def test_memory_of_a_picture_is_kept_until_its_copy_is_done_and_no_longer_than_two_uploads() -> None:
    batch = FrameWindowBatch(SPEC)
    out = cuda.to_device(np.zeros((1, 3, 4, 4), np.float32))
    picture = kept(random_picture(22, 14, "nv12"))
    alive = weakref.ref(picture.owner)
    batch.run([picture], [0], out)
    del picture
    gc.collect()
    assert alive() is not None
    for seed in (1, 2):
        batch.run([random_picture(22, 14, "nv12", seed=seed)], [0], out)
    gc.collect()
    assert alive() is None, [type(holder) for holder in gc.get_referrers(alive())]


def test_rows_that_do_not_begin_with_words_are_refused() -> None:
    good = kept(random_picture(22, 14, "nv12"))
    luma, chroma = good.planes
    batch = DeviceTickBatch(SPEC, SMALL, Device("cuda"))
    for bad in (luma._replace(pitch_bytes=30), luma._replace(address=luma.address + 2)):
        with pytest.raises(StageError, match="rows on the GPU must begin at multiples of 4 bytes, got"):
            batch.check(replace(good, planes=(bad, chroma)))


def test_picture_of_another_gpu_is_refused() -> None:
    other = kept(random_picture(22, 14, "nv12"), gpu=1)
    batch = DeviceTickBatch(SPEC, SMALL, Device("cuda"))
    with pytest.raises(StageError, match=r"on the GPU that the kernels run on, got cuda:1 \[cuda:0\]"):
        batch.check(other)
