"""Arrays <-> blocks of a payload, with every claim of the header checked against the bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from streamfuse.errors import WireError
from streamfuse.types import F32, U8, Chroma
from streamfuse.wire.headers import Block

Array = U8 | F32
Buffer = bytes | memoryview

_DTYPES: dict[str, npt.DTypeLike] = {"u1": np.dtype("u1"), "f4": np.dtype("<f4")}


def pack(arrays: Iterable[Array]) -> tuple[tuple[Block, ...], bytes]:
    """The blocks and the payload of these arrays; the one copy that is made of them."""
    whole = [np.ascontiguousarray(array) for array in arrays]
    blocks = tuple(Block("u1" if a.dtype == np.uint8 else "f4", a.shape) for a in whole)
    # A memoryview of bytes, as join() wants: casting a contiguous array copies nothing.
    return blocks, b"".join(a.data.cast("B") for a in whole)


def unpack(blocks: Sequence[Block], payload: Buffer) -> list[Array]:
    """Read-only views of the payload, one per block. Raises WireError unless they fill it exactly."""
    sizes = [math.prod(b.shape) * np.dtype(_DTYPES[b.dtype]).itemsize for b in blocks]
    if sum(sizes) != len(payload):
        raise WireError(
            "the shapes must account for the payload", got=f"{sum(sizes)} of {len(payload)} bytes"
        )
    arrays: list[Array] = []
    offset = 0
    for block, size in zip(blocks, sizes, strict=True):
        flat = np.frombuffer(payload, _DTYPES[block.dtype], math.prod(block.shape), offset)
        flat.flags.writeable = False
        arrays.append(flat.reshape(block.shape))
        offset += size
    return arrays


def floats(array: Array, what: str) -> F32:
    """A float block as compiled kernels want it (aligned). Raises WireError for NaN and infinity."""
    if array.dtype != np.float32 or array.ndim != 1:
        raise WireError(f"{what} must be (n,) f4", got=f"{array.shape} {array.dtype}")
    whole = np.require(array, np.float32, "A")
    if not np.isfinite(whole).all():
        raise WireError(f"{what} must be finite")
    return whole


def check_planes(chroma: Chroma, planes: Sequence[Array]) -> None:
    """Raise WireError unless these are the planes of one picture."""
    shapes = [plane.shape for plane in planes]
    if not shapes or len(shapes[0]) != 2 or any(plane.dtype != np.uint8 for plane in planes):
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
