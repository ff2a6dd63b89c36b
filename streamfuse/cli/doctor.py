"""`streamfuse doctor`: is this machine right, and what to type if not."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click
from rich.console import Console

from streamfuse.errors import ConfigError, StreamfuseError

State = Literal["right", "note", "wrong"]
PYTHONS = ((3, 11), (3, 13))
NEEDED = {"numpy": "numpy", "av": "av", "numba": "numba", "zmq": "pyzmq", "pydantic": "pydantic"}
STYLES = {"right": "green", "note": "yellow", "wrong": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """state "wrong" makes the exit code 1; `remedy` is what to type."""

    subject: str
    state: State
    text: str
    remedy: str | None = None


@click.command()
@click.option("--model", metavar="FILE", type=click.Path(path_type=Path), help="Check this model file too.")
def doctor(model: Path | None) -> int:
    """Check this machine: Python, libraries, GPU, model file, cache."""
    console = Console(highlight=False, soft_wrap=True)
    wrong = 0
    for finding in _findings(model):
        wrong += finding.state == "wrong"
        console.print(f"[{STYLES[finding.state]}]{finding.state:5}[/]", end="  ")
        console.print(f"{finding.subject}: {finding.text}", markup=False)
        if finding.remedy is not None:
            console.print(f"       type: {finding.remedy}", markup=False)
    console.print("this machine is right" if not wrong else f"{wrong} wrong")
    return 1 if wrong else 0


def _findings(model: Path | None) -> Iterator[Finding]:
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": _python, "libraries": _libraries, "FFmpeg": _ffmpeg, "torch": _torch,
        "torchaudio": _torchaudio, "CUDA": _cuda, "kernel cache": _cache, "model": lambda: _model(model),
    }  # fmt: skip
    for subject, check in checks.items():
        try:
            yield from check()
        except (ImportError, OSError) as error:
            # A library that is wrong above; what needs it cannot be looked at.
            yield Finding(subject, "wrong", f"could not be checked: {type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        yield Finding("Python", "right", here)
    else:
        remedy = "python3.12 -m venv .venv && .venv/bin/pip install streamfuse"
        yield Finding("Python", "wrong", f"{here}; 3.11 to 3.13 is needed", remedy)


def _libraries() -> Iterator[Finding]:
    for module, package in NEEDED.items():
        problem = _import_problem(module)
        if problem is None:
            yield Finding(package, "right", version(package))
        else:
            wanted = next((r for r in requires("streamfuse") or [] if r.startswith(package)), package)
            yield Finding(package, "wrong", problem, f"pip install '{wanted}'")


def _ffmpeg() -> Iterator[Finding]:
    if _import_problem("av") is not None:
        return
    from streamfuse.media import library_facts

    facts = library_facts()
    missing = [name for name in ("h264", "hevc", "aac", "opus", "vp9") if name not in facts.decoders]
    text = f"{facts.ffmpeg.removeprefix('FFmpeg ')} inside PyAV {version('av')}"
    if missing:
        remedy = "pip install --force-reinstall --only-binary=av av"
        yield Finding("FFmpeg", "wrong", f"{text} cannot decode {', '.join(missing)}", remedy)
    else:
        yield Finding("FFmpeg", "right", text)


def _torch() -> Iterator[Finding]:
    problem = _import_problem("torch")
    if problem is not None:
        yield Finding("torch", "wrong", problem, "pip install 'torch>=2.6,<2.14'")
        return
    torch = importlib.import_module("torch")
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    text = f"{version('torch')} {build}, {torch.get_num_threads()} threads"
    numbers = tuple(int(n) for n in version("torch").split("+")[0].split(".")[:2])
    if numbers >= (2, 14):
        yield Finding("torch", "wrong", f"{text}: no TorchScript from 2.14 on", "pip install 'torch<2.14'")
    else:
        yield Finding("torch", "right", text)


def _torchaudio() -> Iterator[Finding]:
    """Nothing at run time needs it; training does."""
    if find_spec("torchaudio") is None:
        remedy = "pip install 'streamfuse[train]'"
        yield Finding("torchaudio", "note", "not installed; only training needs it", remedy)
        return
    problem = _import_problem("torchaudio")
    if problem is None:
        yield Finding("torchaudio", "right", version("torchaudio"))
    else:
        yield Finding(
            "torchaudio",
            "note",
            f"its native library needs CUDA, which this torch has not ({problem}); only training needs it",
            f"{sys.executable} -m streamfuse.training.torchaudio_cpu",
        )


def _cuda() -> Iterator[Finding]:
    from streamfuse.kernels.backend import cuda_missing

    kernels = cuda_missing()
    if kernels is not None:
        yield Finding("CUDA", "note", f"{kernels}; everything runs on the CPU")
        return
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        remedy = "pip install --force-reinstall 'torch>=2.6,<2.14'"
        yield Finding("CUDA", "note", "the kernels find a GPU, but this torch is built for the CPU", remedy)
        return
    yield Finding("CUDA", "right", f"{torch.cuda.get_device_name(0)}, numba-cuda {version('numba-cuda')}")
    yield _nvdec()


def _nvdec() -> Finding:
    """The driver's decoder is a library of its own, which containers get only where they ask for it."""
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError as error:
        remedy = "in a container, NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        return Finding("NVDEC", "note", f"decode.hwaccel: cuda does not work: {error}", remedy)
    return Finding("NVDEC", "right", "the driver has its library: decode.hwaccel: cuda decodes on the GPU")


def _cache() -> Iterator[Finding]:
    """Numba keeps compiled kernels on disk; without that, every start compiles them again (seconds)."""
    from streamfuse.kernels.kept import kernel_cache

    try:
        yield Finding("kernel cache", "right", f"{kernel_cache()}, which is yours alone")
    except ConfigError as error:
        text = f"{error}; without it each start compiles the kernels again"
        yield Finding("kernel cache", "note", text, 'export NUMBA_CACHE_DIR="$(mktemp -d)"')


def _model(path: Path | None) -> Iterator[Finding]:
    from streamfuse.model.inspect import inspect_model
    from streamfuse.model.runtime import load_model

    try:
        facts = inspect_model(path)
        load_model(path, device="cpu")
    except StreamfuseError as error:
        yield Finding("model", "wrong", str(error))
        return
    heads = ", ".join(f"{head.name} ({len(head.labels)})" for head in facts.spec.heads)
    yield Finding("model", "right", f"{facts.spec.name}, sha256 {facts.sha256[:12]}, heads {heads}")


def _import_problem(module: str) -> str | None:
    """What keeps a library from being imported, in one line."""
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001, native libraries fail at import in many ways
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:160]}"
    return None
