"""Checkpoints are written beside the work, in order, after what they speak of."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from streamfuse.checkpoint.keeper import Keeper
from streamfuse.checkpoint.record import Checkpoint, CheckpointFile
from streamfuse.errors import OutputError
from streamfuse.types import NS
from tests.faults.disk import broken_disk
from tests.hand_clock import HandClock


@pytest.fixture
def file(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "clip")


def test_what_a_checkpoint_speaks_of_is_on_disk_before_it(file: CheckpointFile) -> None:
    seen: list[Checkpoint | None] = []
    keeper = Keeper(file, {"name": "clip"}, 1.0, HandClock(0))
    keeper.keep(lambda: seen.append(file.read()), b"analysed", b"told")
    keeper.close()
    assert seen == [None]
    assert file.read() == Checkpoint({"name": "clip"}, "running", b"analysed", b"told")


def test_the_work_goes_on_while_the_disk_is_slow(file: CheckpointFile) -> None:
    clock, held = HandClock(0), threading.Event()
    keeper = Keeper(file, {}, 1.0, clock)
    assert not keeper.due
    clock.now_ns = NS
    assert keeper.due
    keeper.keep(held.wait, b"1", b"")
    clock.now_ns = 5 * NS
    assert not keeper.due, "one at a time"
    keeper.keep(lambda: None, b"2", b"")
    held.set()
    keeper.close()
    assert file.read().analysed == b"2"
    assert keeper.written == 2


def test_a_full_disk_skips_and_the_older_checkpoint_stands(file: CheckpointFile) -> None:
    keeper = Keeper(file, {}, 1.0, HandClock(0))
    keeper.keep(lambda: None, b"1", b"")
    keeper.close()
    assert keeper.written == 1
    keeper = Keeper(file, {}, 1.0, HandClock(0))
    with broken_disk("write:ENOSPC:1-9", path=".checkpoint"):
        keeper.keep(lambda: None, b"2", b"")
        keeper.close()
    assert (file.read().analysed, keeper.written, keeper.skipped) == (b"1", 0, 1)


def test_a_failed_sync_is_final(file: CheckpointFile) -> None:
    def fail() -> None:
        raise OutputError("an output must be written whole", got="errno 5 (Input/output error)")

    keeper = Keeper(file, {}, 1.0, HandClock(0))
    keeper.keep(fail, b"1", b"")
    with pytest.raises(OutputError, match="errno 5"):
        keeper.close()
    with pytest.raises(OutputError, match="errno 5"):
        keeper.keep(lambda: None, b"2", b"")
    assert file.read() is None


def test_a_checkpoint_that_cannot_be_written_is_told(file: CheckpointFile) -> None:
    keeper = Keeper(file, {}, 1.0, HandClock(0))
    with broken_disk("rename:EIO:1", path=".checkpoint"):
        keeper.keep(lambda: None, b"1", b"")
        with pytest.raises(OutputError) as told:
            keeper.close()
    got = f"errno {errno.EIO} (Input/output error)"
    assert str(told.value) == f"a checkpoint must be written, got {got} [{file.path}]"
