"""Ports at which nobody listens, for servers that are started later, or never."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator

FIRST, END = 20_000, 32_768
"""Below those that Linux gives to whoever asks for any port: none of these is taken before it is used."""
BLOCK = 500
"""Ports of one worker of pytest-xdist: two of them never choose the same."""


def free_port() -> int:
    """A port that is free on every address, for TCP and UDP; another one at each call."""
    for port in itertools.islice(_ports, BLOCK):
        if _is_free(port):
            return port
    raise RuntimeError(f"a test needs a free port, got none in {BLOCK}")


def _in_turn() -> Iterator[int]:
    """This process's block, from somewhere in it: another pytest may run on this machine."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    block = worker % ((END - FIRST) // BLOCK)
    first, start = FIRST + block * BLOCK, random.SystemRandom().randrange(BLOCK)
    return itertools.cycle([first + (start + number) % BLOCK for number in range(BLOCK)])


_ports = _in_turn()


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True
