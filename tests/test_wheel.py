"""The wheel by itself: built, unpacked away from the checkout, and run with what is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import Clip

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "benchmarks", "demo")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, and nothing of the checkout in it."""
    folder = tmp_path_factory.mktemp("wheel")
    # Of a copy: setuptools builds within the sources, where other tests may be reading.
    sources = shutil.copytree(ROOT, folder / "sources", ignore=LEFT_OUT, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    quick = ["--no-deps", "--no-build-isolation"]
    run([*pip, "wheel", *quick, "--wheel-dir", str(folder), str(sources)], folder)
    shutil.rmtree(sources)
    (wheel,) = folder.glob("*.whl")
    run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], folder)
    return folder / "site"


def run(command: list[str], folder: Path, site: Path | None = None) -> str:
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if site is not None:
        env["PYTHONPATH"] = str(site)
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_wheel_has_its_services_and_its_model_and_no_other_top_level(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"streamfuse", "bin"}
    assert not (installed / "streamfuse" / "services").is_symlink()
    for file in ("services/publish.py", "model/default.ts", "faces/yunet.onnx", "view/site", "py.typed"):
        assert (installed / "streamfuse" / file).exists(), file


def test_wheel_probes_and_processes_a_clip(installed: Path, tmp_path: Path) -> None:
    clip = Clip(seconds=1.0, audio_seconds=0.9).write(tmp_path / "clip.mp4")
    where = run([sys.executable, "-c", "import streamfuse; print(streamfuse.__file__)"], tmp_path, installed)
    assert Path(where.strip()).is_relative_to(installed)
    command = [sys.executable, "-m", "streamfuse.cli.main"]
    assert "h264" in run([*command, "probe", str(clip)], tmp_path, installed)
    run([*command, "process", str(clip), "-o", "out", "--device", "cpu"], tmp_path, installed)
    assert len((tmp_path / "out" / "clip.labels.jsonl").read_text().splitlines()) == 10
