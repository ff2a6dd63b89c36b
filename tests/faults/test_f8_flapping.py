"""F8: a camera that refuses, resets and breaks off a thousand times leaves nothing behind."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from pathlib import Path

import psutil

from streamfuse.clock import SYSTEM
from streamfuse.config import DecodeConfig
from streamfuse.media.decode import Decoder, open_decoder
from streamfuse.media.source import parse_source
from streamfuse.services.backoff import CAP_KNOWN_NS, FIRST_NS
from streamfuse.services.reader import Finished, Reader
from streamfuse.types import MS, MediaItem, VideoFrame
from streamfuse.wire.transport import wait
from tests.clips import Clip
from tests.media.servers import Tcp, tcp_server
from tests.ports import free_port

CYCLES, WARM = 1000, 100
GROWTH_BYTES = 20_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n"
RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER of no time: what is not sent is thrown away, and the other side gets an RST."""


class Hurried(Reader[MediaItem]):
    """Leaves a lost source alone for no time, and notes for how long it would have, and what it held then."""

    pauses: list[int]
    held: list[tuple[int, int, int]]

    def _wait(self, pause_ns: int) -> bool:
        process = psutil.Process()
        self.pauses.append(pause_ns)
        self.held.append((process.num_fds(), threading.active_count(), process.memory_info().rss))
        return len(self.pauses) < CYCLES


def test_f8_a_thousand_losses_leave_nothing_behind(tmp_path: Path) -> None:
    data = Clip(seconds=0.3, fps=10, width=64, height=48).write(tmp_path / "a.ts").read_bytes()
    whole = HEAD + data
    answers = [b"", HEAD + data[: len(data) // 2], whole, b"HTTP/1.1 503 Busy\r\n\r\n"]
    asked: list[int] = []

    def talk(connection: socket.socket, _: Tcp) -> None:
        connection.recv(4096)
        answer = answers[len(asked) % len(answers)]
        asked.append(len(answer))
        connection.sendall(answer)
        if answer is not whole:  # which ends as if the camera had been switched off in good order
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    with tcp_server(talk) as server:
        there, nobody = (f"http://127.0.0.1:{port}/cam.ts" for port in (server.port, free_port()))
        quick = DecodeConfig(open_timeout_s=5, read_timeout_s=5)

        def open_one() -> Decoder:
            source = parse_source(nobody if len(reader.pauses) % 5 == 4 else there)
            return open_decoder(source, decode=quick, mode="live", picture_side=64)

        reader = Hurried(open_one, live=True, loop=False, clock=SYSTEM, rng=random.Random(8))
        reader.pauses, reader.held = [], []
        reader.start()
        given: Counter[type] = Counter()
        while not isinstance(item := reader.take(), Finished):
            given[type(item)] += 1
            if item is None:
                wait([reader.wake.fileno()], 100 * MS)
    assert item.error is None
    assert len(reader.pauses) == CYCLES
    assert reader.counters["reconnects"] == CYCLES - 1
    assert len(asked) == CYCLES * 4 // 5
    assert given[VideoFrame] >= 3 * asked.count(len(whole)) - 3 > CYCLES // 4
    handles, threads, memory = zip(*reader.held[WARM:], strict=True)
    assert max(handles) <= handles[0] + 3  # a connection that its server has not closed yet
    assert handles[-1] <= handles[0] + 1
    assert max(threads) <= threads[0] + 3
    assert memory[-1] - memory[0] < GROWTH_BYTES
    assert all(FIRST_NS // 2 <= pause <= CAP_KNOWN_NS for pause in reader.pauses)
    assert len(set(reader.pauses)) > CYCLES * 9 // 10, "pauses have jitter"
