"""What stands on the command line: everybody on the machine can read it, and errors quote it.

Passwords belong in a configuration file. One that was typed as part of an address is taken out of what `ps`
shows, as soon as the program runs, and of every message.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterable
from pathlib import Path

_ADDRESS = re.compile(rb"(?:[A-Za-z0-9][A-Za-z0-9_. -]{0,63}=)?[A-Za-z][A-Za-z0-9+.-]*://\S*", re.DOTALL)
_ARG_START = 48 - 3
"""Field 48 of /proc/self/stat is where the arguments begin in memory; field 3 is the first after the name."""


def be_discreet(words: Iterable[str]) -> None:
    """Where a word holds an address: learn its secrets, keep them off stderr and out of `ps`."""
    addresses = [word for word in words if "://" in word]
    if not addresses:
        return
    from streamfuse.errors import StreamfuseError
    from streamfuse.media.redact import guard_stderr
    from streamfuse.media.source import parse_source

    for word in addresses:
        text = word[word.rfind("=", 0, word.index("://")) + 1 :]  # of NAME=SOURCE, --option=SOURCE
        with contextlib.suppress(StreamfuseError):
            parse_source(text, allow_hls=True)
    guard_stderr()
    hide_arguments()


def hide_arguments() -> None:
    """Write over the addresses in this process's own command line, as `ps` and /proc show it (Linux)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        shown = Path("/proc/self/cmdline").read_bytes()
        # The name of the program stands in brackets and may hold anything.
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start = int(fields[_ARG_START])
        if start == 0:  # not told to us
            return
        at = 0
        for word in shown.split(b"\0"):
            if b"://" in word:
                hidden = _hidden(word)
                ctypes.memmove(start + at, hidden, len(hidden))
            at += len(word) + 1


def _hidden(word: bytes) -> bytes:
    """An address of the same length without its secrets."""
    from streamfuse.media.redact import redact_known

    shown = redact_known(word.decode(errors="replace")).encode()
    if shown == word and _ADDRESS.fullmatch(word) and (b"@" in word or b"?" in word):  # one we cannot read
        shown = word.partition(b"://")[0] + b"://***"
    return shown[: len(word)].ljust(len(word), b"*" if len(shown) < 3 else b" ")
