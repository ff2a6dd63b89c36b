"""What a file of lines was when a checkpoint spoke of it: enough to see any change, and to name the line.

Beside the sha256 of all bytes there are two sums over the lines' CRCs, one of them weighted by the line's
number. Where one line has changed, the differences are d and number * d, so their quotient is its number.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import msgspec

_PRIME = (1 << 61) - 1
"""Mersenne: sums of CRCs stay within 64 bits, as msgpack wants them, and every difference has an inverse."""


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first `length` bytes of a file, which are whole lines."""

    length: int
    lines: int
    sha256: bytes
    sums: tuple[int, int]


class Sealer:
    """Push what is written; seal() at any time."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.length = self._lines = 0
        self._sum = self._weighted = 0

    def push(self, data: bytes) -> None:
        """Take in `data`, which ends with a newline."""
        self._sha256.update(data)
        self.length += len(data)
        for line in data.split(b"\n")[:-1]:
            self._lines += 1
            crc = zlib.crc32(line)
            self._sum = (self._sum + crc) % _PRIME
            self._weighted = (self._weighted + self._lines * crc) % _PRIME

    def seal(self) -> Seal:
        return Seal(self.length, self._lines, self._sha256.digest(), (self._sum, self._weighted))


def read_seal(path: Path, length: int) -> Sealer:
    """A sealer that has seen the first `length` bytes of a file; a last line that is cut off counts."""
    sealer = Sealer()
    with path.open("rb") as file:
        left = length
        for line in file:
            sealer.push(line[:left] if len(line) >= left else line)
            left -= len(line)
            if left <= 0:
                break
    return sealer


def changed_line(then: Seal, now: Seal) -> int | None:
    """The one line (from 1) that is another now; None where it is not one alone, or cannot be told."""
    by, weighted = ((b - a) % _PRIME for a, b in zip(then.sums, now.sums, strict=True))
    if then.lines != now.lines or by == 0:
        return None
    number = weighted * pow(by, -1, _PRIME) % _PRIME
    return number if 1 <= number <= then.lines else None
