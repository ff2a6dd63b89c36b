"""What an ONNX file says about itself: its metadata, read from the file's outer fields alone.

An ONNX file is one protocol buffer. Its description, under the same name as in a TorchScript file, is one
of the metadata entries; nothing else is parsed, and no library is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from streamfuse.errors import ModelError
from streamfuse.model.spec import SPEC_FILE

_GRAPH, _METADATA = 7, 14
"""Fields of ModelProto (onnx.proto): the graph, and key (1) and value (2) of each metadata entry."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_metadata(data: bytes, where: Path) -> tuple[bytes, int]:
    """The description in an ONNX file, and the bytes of its graph, mostly weights.

    raises  ModelError for a file that is damaged or has no description
    """
    text, graph = None, 0
    try:
        for field, value in _fields(memoryview(data)):
            if field == _GRAPH:
                graph = len(value)
            elif field == _METADATA:
                entry = {key: bytes(one) for key, one in _fields(value)}
                if entry.get(1) == SPEC_FILE.encode():
                    text = entry.get(2)
    except (IndexError, ValueError) as error:
        raise ModelError(
            "a model file must be whole", got=error, where=where, hint="copy it again"
        ) from error
    if text is None or not graph:
        hint = "make one with `streamfuse export`"
        raise ModelError(f"a streamfuse model has {SPEC_FILE} inside", got="none", where=where, hint=hint)
    return text, graph


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of each field of a message; content is empty for numbers."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"no protocol buffer: wire type {kind}")
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield tag >> 3, data[at : at + size] if kind == _BYTES else data[:0]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
