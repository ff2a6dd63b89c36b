"""Where a measurement was made: what another one must share to be comparable."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec

from streamfuse.config import RunConfig
from streamfuse.media import library_facts
from streamfuse.model.inspect import ModelFile

_PACKAGES = ("numpy", "numba", "torch", "av", "pyzmq", "msgspec")
_OF_THE_RUN = ("sources", "run_dir", "mode")
"""Parts of the configuration that say what is measured, not how: no part of its hash."""


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """config_sha256 is of the whole configuration but for its sources and folders."""

    streamfuse: str
    python: str
    system: str
    cpu: str
    cores: int
    cores_allowed: int
    memory_bytes: int
    gpu: str | None
    gpu_driver: str | None
    device: str
    threads: int
    clock: str
    ffmpeg: str
    packages: dict[str, str]
    config_sha256: str
    model: str
    model_sha256: str
    load_1min: float


def environment_of(config: RunConfig, model: ModelFile) -> Environment:
    """What this machine and this configuration are, now."""
    gpu, driver = _gpu()
    settings = config.model_dump_json(exclude=set(_OF_THE_RUN))
    return Environment(
        streamfuse=metadata.version("streamfuse"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        cores_allowed=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpu=gpu,
        gpu_driver=driver,
        device="cpu" if config.model.device == "auto" and gpu is None else config.model.device,
        threads=config.model.threads,
        clock="CLOCK_MONOTONIC",
        ffmpeg=library_facts().ffmpeg,
        packages={name: metadata.version(name) for name in _PACKAGES},
        config_sha256=hashlib.sha256(settings.encode()).hexdigest(),
        model=model.spec.name,
        model_sha256=model.sha256,
        load_1min=round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> tuple[str | None, str | None]:
    """Name and driver of the first GPU; None where there is none, or nobody who would know."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return None, None
    name, _, driver = lines[0].partition(",")
    return name.strip(), driver.strip()
