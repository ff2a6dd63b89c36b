"""The house's doors: a room imports only from rooms above it, and some libraries have one importer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# In the order in which data flows; a room may import itself and what stands before it.
ROOMS = """
    types errors private clock stage prefetch trace section config_live config_notify config settings media
    ticks kernels faces model analysis batch
    labels pipeline sinks checkpoint notify view wire supervise training profiling services cli
""".split()  # noqa: SIM905, one word a room

SOLE_IMPORTERS: dict[str, tuple[str, ...]] = {
    "av": ("streamfuse/media/", "streamfuse/sinks/overlay.py"),
    "numba": ("streamfuse/kernels/",),
    "cv2": ("streamfuse/faces/",),
    "torch": ("streamfuse/model/", "streamfuse/training/"),
    "torchaudio": ("streamfuse/training/",),
    "onnx": ("streamfuse/model/onnx_export.py",),
    "onnxruntime": ("streamfuse/model/onnx_runtime.py",),
    "safetensors": ("streamfuse/training/resume.py",),
    "zmq": ("streamfuse/wire/",),
    "prometheus_client": ("streamfuse/sinks/metrics.py",),
    "paho": ("streamfuse/notify/",),
    "urllib3": ("streamfuse/notify/",),
    "starlette": ("streamfuse/view/",),
    "uvicorn": ("streamfuse/view/",),
    "time": ("streamfuse/clock.py",),
    "pickle": (),
    "marshal": (),
    "shelve": (),
}


def sources() -> list[Path]:
    files = [*(ROOT / "streamfuse").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    return sorted(f for f in files if "streamfuse/services" not in f.as_posix())


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Every imported module with its line; `from a import b` gives a.b, as b may be a module."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "services" else parts[1]


@pytest.mark.parametrize("file", sources(), ids=lambda f: f.relative_to(ROOT).as_posix())
def test_room_imports_only_rooms_above_it(file: Path) -> None:
    room = room_of(file)
    if room == "__init__":  # the front door shows what is in every room
        return
    assert room in ROOMS, f"{room} has no place in the order of rooms"
    for line, module in imports(file):
        parts = module.split(".")
        if parts[0] == "services":
            pytest.fail(f"{file}:{line}: import it as streamfuse.services")
        if parts[0] != "streamfuse" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{file}:{line}: {room} may not import {parts[1]}"


@pytest.mark.parametrize("file", sources(), ids=lambda f: f.relative_to(ROOT).as_posix())
def test_library_is_imported_only_at_its_door(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    for line, module in imports(file):
        top = module.split(".")[0]
        doors = SOLE_IMPORTERS.get(top)
        if doors is not None:
            assert any(name.startswith(door) for door in doors), f"{name}:{line}: {top} belongs to {doors}"


def test_wall_clock_is_read_in_one_module() -> None:
    for file in sources():
        if file.name == "clock.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
                pytest.fail(f"{file}:{node.lineno}: clocks are read in streamfuse/clock.py")


def test_services_are_reached_through_the_package() -> None:
    link = ROOT / "streamfuse" / "services"
    assert link.is_symlink()
    assert link.resolve() == (ROOT / "services").resolve()
