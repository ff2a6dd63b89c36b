"""What a run must have in common with the one it goes on for; else the results would be neither's."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from streamfuse.config import AppConfig
from streamfuse.media.source import FileSource, Source

Identity = dict[str, str]
"""Name -> value, both as people read them."""

LIBRARIES = ("streamfuse", "torch", "numpy", "numba", "av")
SAMPLE_BYTES = 1 << 20
SAMPLES = 18
"""Of a file so many MiB are read, evenly spread, the first and the last among them: reading 10 GB would take
longer than analysing most recordings. Its length and its time of change are compared beside them."""
HASHES = frozenset({"input.sha256", "model.sha256"})
PLACE = "input.place"
"""sha256 of where the recording lies. It may be moved between two runs, so it is no difference; but where the
bytes are others too, it is another recording (is_of)."""

_DECODE = ("hwaccel", "hwaccel_fallback", "allow_codecs", "video", "audio", "max_pixels")
_CUDA = ("recorded_batch", "cuda_graphs")
_TICKS = ("max_gap_ms", "hold_max_ms")
# The others say how long to wait, or how to share out the work; the labels do not depend on them.


def identity(
    source: Source,
    name: str,
    config: AppConfig,
    *,
    model_sha256: str,
    device: str,
    span: tuple[int, int | None] | None = None,
    kept: bool = False,
) -> Identity:
    """Everything that the bytes of a recording's outputs depend on.

    kept  pictures stay on the GPU that decodes them: they are not shrunk on their way, and answers differ
          a little from others'
    """
    facts: dict[str, Any] = {"name": name, **_input(source), "from_ns": 0, "to_ns": None}
    if span is not None:
        facts["from_ns"], facts["to_ns"] = span
    facts |= {f"decode.{key}": getattr(config.decode, key) for key in _DECODE}
    facts |= {f"outputs.{key}": on for key, on in config.outputs.model_dump().items() if isinstance(on, bool)}
    if kept:
        facts["decode.pictures"] = "on the GPU"
    told = {key: str(value) for key, value in facts.items()}
    return {**told, **settings_identity(config, model_sha256=model_sha256, device=device)}


def settings_identity(config: AppConfig, *, model_sha256: str, device: str) -> Identity:
    """Everything that labels depend on beside the ticks: model, settings, versions, machine."""
    facts = {"model.sha256": model_sha256, "model.device": device, "model.threads": config.model.threads}
    if device.startswith("cuda"):  # on the CPU each stream is stepped alone
        facts |= {f"model.{key}": getattr(config.model, key) for key in _CUDA}
    facts |= {f"ticks.{key}": getattr(config.ticks, key) for key in _TICKS}
    facts |= _flat("labels", config.labels.model_dump())
    facts |= {f"version of {library}": _version(library) for library in LIBRARIES}
    facts["machine"] = f"{platform.machine()} {_processor()}"
    return {key: str(value) for key, value in facts.items()}


def differences(then: Identity, now: Identity) -> list[str]:
    """In words, one for each fact that is not the same."""
    keys = sorted((then.keys() | now.keys()) - {PLACE})
    changed = [key for key in keys if then.get(key) != now.get(key)]
    return [_difference(key, then.get(key, "unset"), now.get(key, "unset")) for key in changed]


def _difference(key: str, then: str, now: str) -> str:
    if key in HASHES:
        then, now = f"{then[:8]}...", f"{now[:8]}..."
    return f"{key} {now} instead of {then}"


def is_of(then: Identity, source: Source) -> bool:
    """A checkpoint speaks of this recording: of the same place, or of the same bytes. Raises OSError."""
    if then.get(PLACE) in (None, place_digest(source)):
        return True
    now = _input(source)
    return "input.sha256" in now and then.get("input.sha256") == now["input.sha256"]


def place_digest(source: Source) -> str:
    """sha256 of a file's absolute path, without `.` and `..`, links as they are; else of the address."""
    place = source.display
    if isinstance(source, FileSource):
        place = os.path.normpath(source.path.absolute())
    return hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()


def is_read_once(source: Source) -> bool:
    """A pipe: what came out of it is gone, so another run cannot go on. OSError where it is not there."""
    return isinstance(source, FileSource) and not stat.S_ISREG(source.path.stat().st_mode)


def _input(source: Source) -> dict[str, Any]:
    place = {PLACE: place_digest(source)}
    if not isinstance(source, FileSource) or is_read_once(source):
        return place | {"input": source.display}
    info = source.path.stat()
    return place | {
        "input.bytes": info.st_size,
        "input.changed_ns": info.st_mtime_ns,
        "input.sha256": _sampled(source.path, info.st_size),
    }


def _sampled(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    step = max(SAMPLE_BYTES, (size - SAMPLE_BYTES) // (SAMPLES - 1))
    with path.open("rb") as file:
        for start in range(0, size, step):
            digest.update(os.pread(file.fileno(), SAMPLE_BYTES, start))
    return digest.hexdigest()


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf for name, part in value.items() for key, leaf in _flat(f"{prefix}.{name}", part).items()
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    """The processor's name: the vector instructions that a library chooses belong to it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
