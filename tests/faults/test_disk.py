"""The disk shim itself: each fault happens where it was asked for, and nowhere else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.disk import Fault, broken_disk, child_environment, discard_unsynced

WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
for number in range(5):
    os.write(fd, b"%d" % number * 10)
    if number == 2:
        os.fsync(fd)
"""


def descriptor(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT)


def test_chosen_writes_of_chosen_files_fail(tmp_path: Path) -> None:
    ours, other = descriptor(tmp_path / "a.jsonl"), descriptor(tmp_path / "b.txt")
    with broken_disk("write:ENOSPC:2-3", path=".jsonl") as disk:
        assert os.write(ours, b"1") == 1
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                os.write(ours, b"2")
            assert caught.value.errno == errno.ENOSPC
        assert os.write(other, b"x") == 1
        assert os.write(ours, b"4") == 1
    assert disk.calls["write"] == 4
    assert (tmp_path / "a.jsonl").read_bytes() == b"14"
    assert os.write(ours, b"5") == 1  # as before


def test_short_writes_take_half(tmp_path: Path) -> None:
    with broken_disk("write:SHORT:1"):
        assert os.write(descriptor(tmp_path / "a"), b"123456") == 3
    assert (tmp_path / "a").read_bytes() == b"123"


@pytest.mark.parametrize("operation", ["fsync", "rename", "truncate", "open"])
def test_every_operation_can_fail(operation: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    fd = descriptor(path)
    does = {
        "fsync": lambda: os.fsync(fd),
        "rename": lambda: path.replace(tmp_path / "b"),
        "truncate": lambda: os.ftruncate(fd, 0),
        "open": lambda: descriptor(tmp_path / "c"),
    }[operation]
    with broken_disk(f"{operation}:EIO:1"):
        with pytest.raises(OSError, match="Input/output error"):
            does()
        does()


def test_child_dies_in_the_middle_of_a_write(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    env = os.environ | child_environment("write:TORN:4", path=".jsonl", journal=tmp_path / "journal")
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], env=env, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"0" * 10 + b"1" * 10 + b"2" * 10 + b"3" * 5
    assert discard_unsynced(tmp_path, tmp_path / "journal") == {path: 5}
    assert path.read_bytes() == b"0" * 10 + b"1" * 10 + b"2" * 10


def test_what_was_never_synced_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("lost")
    assert discard_unsynced(tmp_path, tmp_path / "journal") == {tmp_path / "a": 4}


@pytest.mark.parametrize("text", ["write:ENOSPC", "write:ENOTHING:1", "sing:EIO:1"])
def test_fault_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Fault.parse(text)
