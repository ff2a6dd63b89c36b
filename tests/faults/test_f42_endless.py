"""F42: recordings without an end, and files that grow while they are read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.clips import Clip
from tests.media.played import Played


def test_f42_file_that_grows_is_read_to_where_it_ends_and_said_to_be_cut(tmp_path: Path) -> None:
    """Whoever writes is slower than we: what is there is labelled, and the rest is not waited for."""
    data = Clip(seconds=2).write(tmp_path / "a.ts").read_bytes()
    path = tmp_path / "growing.ts"
    path.write_bytes(data[: len(data) // 2 + 7])
    first = Played(path)
    assert 20 < len(first.frames) < 40
    assert first.decoder.truncated
    path.write_bytes(data)
    assert len(Played(path).frames) == 60


def test_f42_pipe_is_read_until_its_writer_closes_it(tmp_path: Path) -> None:
    data = Clip(seconds=2).write(tmp_path / "a.ts").read_bytes()
    pipe = tmp_path / "pipe.ts"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as out:
            for at in range(0, len(data), 9999):
                out.write(data[at : at + 9999])

    writer = threading.Thread(target=write)
    writer.start()
    played = Played(pipe)
    writer.join()
    assert played.indices == list(range(60))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f42_pipe_whose_writer_falls_silent_can_be_stopped(
    number: int, code: int, tiny_model: Path, tmp_path: Path
) -> None:
    """Nothing comes and nothing ends: a signal does."""
    data = Clip(seconds=2, width=64, height=48).write(tmp_path / "a.ts").read_bytes()
    pipe, out = tmp_path / "pipe.ts", tmp_path / "out"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "streamfuse.cli.main", "process", str(pipe), "-o", str(out)]
    command += ["--model", str(tiny_model), "--device", "cpu"]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process,
        pipe.open("wb", buffering=0) as writer,
    ):
        writer.write(data)
        part = out / "pipe.labels.jsonl.part"
        while not (part.exists() and part.stat().st_size > 0):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert not (out / "pipe.labels.jsonl").exists()
