"""F13: a picture whose decoding time lies after its presentation, as broken encoders write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clips import Clip
from tests.media.played import Played

TICKS = 90_000


@pytest.mark.parametrize("late_s", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("every", [1, 7])
def test_f13_pictures_that_are_due_before_they_are_decoded_come_in_their_order(
    late_s: float, every: int, tmp_path: Path
) -> None:
    """One session, every picture at its time, whatever the stream says of when to decode it."""
    good = Clip(seconds=2, b_frames=2).write(tmp_path / "a.ts")
    bad = tmp_path / "b.ts"
    data, moved = with_late_dts(good.read_bytes(), round(late_s * TICKS), every)
    bad.write_bytes(data)
    assert moved >= 60 // every - 3
    before, after = Played(good), Played(bad)
    assert after.indices == before.indices == list(range(60))
    assert after.times == before.times
    assert len(after.starts) == 1
    assert len(after.sound) == len(before.sound)


def with_late_dts(data: bytes, ticks: int, every: int) -> tuple[bytes, int]:
    """A transport stream with every n-th decoding time of its pictures `ticks` after their presentation.

    returns  the stream, and how many were moved
    """
    out, seen, moved = bytearray(data), 0, 0
    for at in range(0, len(out), 188):
        begins = out[at + 1] & 0x40
        payload = at + 4 + (1 + out[at + 4] if out[at + 3] & 0x20 else 0)
        if not begins or out[payload : payload + 4] != b"\0\0\1\xe0" or out[payload + 7] >> 6 != 3:
            continue  # no beginning of a picture that has both times
        seen += 1
        if seen % every == 0:
            late = _read(out, payload + 9) + ticks
            _write(out, payload + 14, late & (1 << 33) - 1)
            moved += 1
    return bytes(out), moved


def _read(data: bytearray, at: int) -> int:
    """A time stamp of a PES header (ISO/IEC 13818-1, 2.4.3.6): 3, 15 and 15 bits, a marker after each."""
    high, middle, low = data[at], int.from_bytes(data[at + 1 : at + 3]), int.from_bytes(data[at + 3 : at + 5])
    return (high >> 1 & 7) << 30 | middle >> 1 << 15 | low >> 1


def _write(data: bytearray, at: int, ticks: int) -> None:
    data[at] = data[at] & 0xF1 | (ticks >> 30 & 7) << 1
    data[at + 1 : at + 3] = ((ticks >> 15 & 0x7FFF) << 1 | 1).to_bytes(2)
    data[at + 3 : at + 5] = ((ticks & 0x7FFF) << 1 | 1).to_bytes(2)
