"""Seeded damage to a media file: the same seed gives the same bytes.

    for number in range(5000):
        damaged = mutate(data, random.Random(f"{seed} {number}"))

What is done is what breaks demuxers and decoders: bits and bytes flipped, sizes and counts in the structure
set to their extremes, pieces taken out, doubled, moved, filled with zeros, another container's bytes put in
the middle, 188-byte packets lost or out of order, the end cut off.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.clips import Clip

CONTAINERS = {
    "mp4": ("libx264", "aac", "fltp"),
    "mkv": ("libx264", "aac", "fltp"),
    "ts": ("libx264", "mp2", "s16"),
    "mpg": ("mpeg2video", "mp2", "s16"),
    "avi": ("mpeg4", "libmp3lame", "s16p"),
    "webm": ("libvpx", "libopus", "s16"),
}
"""Suffix -> picture, sound, its number format: the kinds of container that are tried."""

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
PACKET = 188


def originals(folder: Path, seconds: float = 0.5) -> list[Path]:
    """One small sound recording in each container."""
    base = Clip(seconds=seconds, width=160, height=120, fps=25)
    return [
        replace(base, video=video, audio=audio, sample_format=form).write(folder / f"original.{suffix}")
        for suffix, (video, audio, form) in CONTAINERS.items()
    ]


def mutate(data: bytes, dice: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to thirty damages; `others` are spliced in."""
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 10, 30))):
        if not damaged:
            break
        if others and dice.random() < 0.05:
            _splice(damaged, dice, dice.choice(others))
        else:
            dice.choice(_DAMAGES)(damaged, dice)
    return bytes(damaged)


def _place(data: bytearray, dice: random.Random) -> int:
    """Anywhere, but as often in the first kilobyte, where the structure is."""
    return dice.randrange(len(data) if dice.random() < 0.5 else min(len(data), 1024))


def _flip_bit(data: bytearray, dice: random.Random) -> None:
    data[_place(data, dice)] ^= 1 << dice.randrange(8)


def _set_byte(data: bytearray, dice: random.Random) -> None:
    data[_place(data, dice)] = dice.randrange(256)


def _set_number(data: bytearray, dice: random.Random) -> None:
    """A size, a count or an offset becomes an extreme, in either byte order."""
    width = dice.choice((1, 2, 4, 8))
    value = dice.choice(EXTREMES) & ((1 << 8 * width) - 1)
    at = _place(data, dice)
    data[at : at + width] = value.to_bytes(width, dice.choice(("big", "little")))


def _take_out(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    del data[at : at + dice.choice((1, 4, 50, 1000))]


def _put_in(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    data[at:at] = dice.randbytes(dice.choice((1, 4, 50, 1000)))


def _double(data: bytearray, dice: random.Random) -> None:
    at, size = _place(data, dice), dice.choice((4, 188, 2000))
    data[at:at] = data[at : at + size]


def _move(data: bytearray, dice: random.Random) -> None:
    at, size = _place(data, dice), dice.choice((4, 188, 2000))
    piece = data[at : at + size]
    del data[at : at + size]
    to = dice.randrange(len(data) + 1)
    data[to:to] = piece


def _blank(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    size = min(dice.choice((4, 100, 5000)), len(data) - at)
    data[at : at + size] = bytes(size) if dice.random() < 0.5 else b"\xff" * size


def _lose_packets(data: bytearray, dice: random.Random) -> None:
    packets = [bytes(data[at : at + PACKET]) for at in range(0, len(data), PACKET)]
    kept = [packet for packet in packets if dice.random() > 0.1]
    if dice.random() < 0.3 and len(kept) > 4:
        first, second = dice.sample(range(len(kept)), 2)
        kept[first], kept[second] = kept[second], kept[first]
    data[:] = b"".join(kept)


def _cut_off(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def _splice(data: bytearray, dice: random.Random, other: bytes) -> None:
    at, start = _place(data, dice), dice.randrange(len(other))
    data[at : at + 2000] = other[start : start + 2000]


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bit, _flip_bit, _set_byte, _set_byte, _set_number, _set_number, _set_number,
    _take_out, _put_in, _double, _move, _blank, _lose_packets, _cut_off,
)  # fmt: skip
