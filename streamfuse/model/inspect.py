"""Read a model file without running it: its description and its facts, from the zip alone."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from streamfuse.errors import ModelError
from streamfuse.model.onnx_file import read_metadata
from streamfuse.model.spec import SPEC_FILE, ModelSpec, read_spec

DEFAULT_MODEL = Path(__file__).with_name("default.ts")
"""The trained model inside the package."""
MAX_FILE_BYTES = 2 << 30
"""A model is read whole; the largest streaming network published is a tenth of this."""
MAX_SPEC_BYTES = 4 << 20
"""A description with thousands of labels is well below."""

WEIGHTS_FILE = "weights.npz"
"""The weights by name, beside the program: see export.load_network()."""

_EXPORT = "make one with `streamfuse train`"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that is whole and describes itself; its program has not been run.

    sha256  of the file; data: its bytes; weights_bytes: the constants inside; format: of its program
    """

    path: Path
    spec: ModelSpec
    sha256: str
    weights_bytes: int
    data: bytes = field(repr=False)
    format: Literal["torchscript", "onnx"] = "torchscript"

    def member(self, name: str) -> bytes | None:
        """An extra file inside, or None."""
        if self.format == "onnx":
            return None
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            found = [i for i in archive.infolist() if i.filename.split("/")[1:] == ["extra", name]]
            return archive.read(found[0]) if found else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the facts of the file, then its whole description."""
        facts: dict[str, Any] = {"path": str(self.path), "format": self.format, "bytes": len(self.data)}
        facts["weights_bytes"] = self.weights_bytes
        return {**facts, "sha256": self.sha256, "spec": msgspec.to_builtins(self.spec)}


def inspect_model(path: str | os.PathLike[str] | None = None, *, sha256: str | None = None) -> ModelFile:
    """Read a model file, the package's own where `path` is None.

    sha256  what the file's must be
    raises  ModelError in one line: missing, empty, not an archive, damaged, not for streamfuse,
            another contract, another sha256
    """
    where = DEFAULT_MODEL if path is None else Path(path)
    data = _read(where)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise ModelError(f"the model file's sha256 must be {sha256}", got=digest, where=where)
    if where.suffix.lower() == ".onnx":
        text, weights = read_metadata(data, where)
        return ModelFile(where, read_spec(text, where), digest, weights, data, "onnx")
    with _open(data, where) as archive:
        text = _spec_text(archive, where)
        weights = sum(info.file_size for info in archive.infolist() if "/constants/" in info.filename)
    return ModelFile(where, read_spec(text, where), digest, weights, data)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "nothing there"
            raise ModelError("a model must be a file", got=what, where=path, hint=_EXPORT)
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"a model file has at most {MAX_FILE_BYTES} bytes", got=size, where=path)
        data = path.read_bytes()
    except OSError as error:
        raise ModelError("a model file must be readable", got=error.strerror, where=path) from error
    if not data:
        raise ModelError("a model file must not be empty", got="0 bytes", where=path, hint=_EXPORT)
    return data


def _open(data: bytes, path: Path) -> zipfile.ZipFile:
    """The archive, every member of it checked against its CRC."""
    if not data.startswith(b"PK"):
        raise ModelError("a model file must be a TorchScript archive", got="no zip", where=path, hint=_EXPORT)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise ModelError("a model file must be whole", got=error, where=path, hint="copy it again") from error
    if damaged is not None:
        raise ModelError("a model file must be whole", got=f"{damaged} is damaged", where=path)
    return archive


def _spec_text(archive: zipfile.ZipFile, path: Path) -> bytes:
    """The description; torch.jit.save puts it at <name>/extra/streamfuse.json."""
    members = [i for i in archive.infolist() if i.filename.split("/")[1:] == ["extra", SPEC_FILE]]
    if len(members) != 1:
        program = any("/code/" in name for name in archive.namelist())
        got = "TorchScript without a description" if program else "another kind of archive"
        raise ModelError(f"a streamfuse model has {SPEC_FILE} inside", got=got, where=path, hint=_EXPORT)
    if members[0].file_size > MAX_SPEC_BYTES:
        raise ModelError(f"{SPEC_FILE} has at most {MAX_SPEC_BYTES} bytes", where=path)
    return archive.read(members[0])
