"""F1, F2, F20, F30 for recordings over processes: kills.py in its short form, a full disk, a signal."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.checkpoint.made import recording
from tests.faults.disk import child_environment
from tests.faults.kills import Killer

SLOW_DISK = "write:SLOW:1-1000000"
"""Seconds lie between any part of a recording and its end, so that no kill and no signal comes too late."""


@pytest.fixture(scope="module")
def killer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Killer:
    return Killer(tiny_model, tmp_path_factory.mktemp("kills"), power=1.0, seconds=15.0, faults=[SLOW_DISK])


@pytest.mark.parametrize(
    ("kind", "kills", "victims"),
    [
        ("mp2.ts", 3, ("decode", "analyze", "publish")),
        ("opus.webm", 1, ("supervisor",)),
        ("mp3.avi", 1, ("group",)),
    ],
)
def test_f1_killed_at_random_it_ends_with_the_same_bytes(
    killer: Killer, kind: str, kills: int, victims: tuple[str, ...]
) -> None:
    before = killer.tally.killed
    killer.job(kind, kills, victims)
    assert killer.tally.troubles == []
    assert killer.tally.bytes_differing == 0
    assert killer.tally.bytes_compared > 10_000
    assert killer.tally.killed - before >= 1
    if "group" in victims:
        assert killer.tally.power_cuts == 1


def test_f1_the_comparison_sees_one_byte(killer: Killer, tmp_path: Path) -> None:
    """Or the tests above could not fail."""
    clip = recording(killer.folder, "mp3.avi", killer.seconds)
    golden = killer._golden_of("mp3.avi", clip)
    for name, data in golden.items():
        (tmp_path / f"{clip.stem}.{name}").write_bytes(data[:50] + b"\0" + data[51:])
    other = Killer(killer.model, killer.folder, seconds=killer.seconds)
    other._compare("mp3.avi", golden, tmp_path)
    assert other.tally.bytes_differing == len(golden)


def run(killer: Killer, out: Path, *faults: str, path: str = "") -> tuple[subprocess.Popen[str], Path]:
    clip = recording(killer.folder, "ac3.mkv", killer.seconds)
    process = subprocess.Popen(
        killer._command(clip, out, inline=False),
        env=os.environ | child_environment(*faults, path=path),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process, clip


def results(killer: Killer, out: Path, clip: Path) -> bool:
    golden = killer._golden_of("ac3.mkv", clip)
    return all((out / f"{clip.stem}.{name}").read_bytes() == data for name, data in golden.items())


def test_f20_a_full_disk_is_waited_out(killer: Killer) -> None:
    out = killer.folder / "full"
    process, clip = run(killer, out, "write:ENOSPC:30-45", path=".labels.jsonl.part")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    waiting = rf"^streamfuse: No space left on device \[{re.escape(str(out))}\]; it waits for room$"
    assert len(re.findall(waiting, err, re.M)) == 1, err
    assert err.count("there is room again; it goes on") == 1
    assert "it goes on\n" in err and "begins anew" not in err
    assert results(killer, out, clip)


def test_f30_a_signal_drains_and_the_same_command_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    """The recording has more ticks than have room between the processes: not all of it was read by then."""
    killer, out = Killer(tiny_model, tmp_path, seconds=50.0), tmp_path / "signal"
    # Slow before the signal, and not for the whole of what has to be drained in time.
    process, clip = run(killer, out, "write:SLOW:1-100", path=".labels.jsonl.part")
    part = out / f"{clip.stem}.labels.jsonl.part"
    until_ns = SYSTEM.monotonic_ns() + 60 * NS
    while not (part.exists() and part.stat().st_size > 5_000):
        assert process.poll() is None and SYSTEM.monotonic_ns() < until_ns
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)  # a run that ends is noticed at once
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "streamfuse: stopped by SIGTERM" in err
    assert (out / f".{clip.stem}.checkpoint").exists()
    process, clip = run(killer, out)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{clip}: goes on at 0:" in err
    assert results(killer, out, clip)
