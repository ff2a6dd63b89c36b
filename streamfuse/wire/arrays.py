"""Arrays <-> blocks of a payload, with every claim of the header checked against the bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from streamfuse.errors import WireError
from streamfuse.types import F32, U8, Chroma
from streamfuse.wire.headers import Block

Array = U8 | F32
Buffer = bytes | memoryview

KINDS = 256
"""Sets of shapes whose places are remembered: a few for each camera, and bounded whoever sends."""

_DTYPES: dict[str, npt.DTypeLike] = {"u1": np.dtype("u1"), "f4": np.dtype("<f4")}


def pack(arrays: Iterable[Array]) -> tuple[tuple[Block, ...], bytes]:
    """The blocks and the payload of these arrays; the one copy that is made of them."""
    whole = [np.ascontiguousarray(array) for array in arrays]
    blocks = tuple(Block("u1" if a.dtype == np.uint8 else "f4", a.shape) for a in whole)
    # A contiguous array is what join() wants, whatever its shape; its stubs do not say so.
    return blocks, b"".join(cast("list[Buffer]", whole))


def unpack(blocks: tuple[Block, ...], payload: Buffer) -> list[Array]:
    """Read-only views of the payload, one per block. Raises WireError unless they fill it exactly."""
    places, size = _places(blocks)
    if size != len(payload):
        raise WireError("the shapes must account for the payload", got=f"{size} of {len(payload)} bytes")
    whole = memoryview(payload).toreadonly()
    return [np.ndarray(shape, dtype, whole, offset) for shape, dtype, offset in places]


@lru_cache(KINDS)
def _places(blocks: tuple[Block, ...]) -> tuple[list[tuple[tuple[int, ...], np.dtype[Any], int]], int]:
    """Shape, dtype and offset of each block, and the bytes of all."""
    places = []
    offset = 0
    for block in blocks:
        dtype = np.dtype(_DTYPES[block.dtype])
        places.append((block.shape, dtype, offset))
        offset += math.prod(block.shape) * dtype.itemsize
    return places, offset


def floats(array: Array, what: str) -> F32:
    """A float block as compiled kernels want it (aligned). Raises WireError for NaN and infinity."""
    if array.dtype != np.float32 or array.ndim != 1:
        raise WireError(f"{what} must be (n,) f4", got=f"{array.shape} {array.dtype}")
    if not np.logical_and.reduce(np.isfinite(array)):
        raise WireError(f"{what} must be finite")
    return cast(F32, array if array.flags.aligned else array.copy())


@lru_cache(KINDS)
def check_planes(chroma: Chroma, blocks: tuple[Block, ...]) -> None:
    """Raise WireError unless these are the planes of one picture."""
    shapes = [block.shape for block in blocks]
    if not shapes or len(shapes[0]) != 2 or any(block.dtype != "u1" for block in blocks):
        raise WireError("a picture begins with a plane (H, W) u1", got=shapes)
    height, width = shapes[0]
    half_height, half_width = -(-height // 2), -(-width // 2)
    shapes_of: dict[Chroma, list[tuple[int, ...]]] = {
        "420": [(half_height, half_width)] * 2,
        "422": [(height, half_width)] * 2,
        "444": [(height, width)] * 2,
        "nv12": [(half_height, half_width, 2)],
    }
    wanted = shapes_of[chroma]
    if shapes[1:] != wanted:
        raise WireError(f"the chroma planes of {chroma} are {wanted}", got=shapes[1:])
