"""A TCP proxy that makes a network bad on purpose; its words are toxiproxy's.

    with Proxy(port_of_the_server) as proxy:
        connect to 127.0.0.1:proxy.port ...
        proxy.stall()        what the server sends is held back silently, the connection stays open
        proxy.trickle(5)     at most so many bytes a second
        proxy.latency(0.2)   every piece is this late (seconds)
        proxy.cut()          connections are closed (FIN), new ones are refused until heal()
        proxy.reset()        connections are reset (RST), new ones are refused until heal()
        proxy.limit(10_000)  a connection is closed after so many bytes from the server
        proxy.heal()         as new

Only what flows from the server to the client is touched. It runs in its own thread; calls take effect
before they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

PIECE = 16 * 1024


@dataclass
class Toxics:
    stalled: bool = False
    bytes_per_s: int | None = None
    latency_s: float = 0.0
    limit_bytes: int | None = None
    refusing: bool = False


class Proxy:
    def __init__(self, upstream_port: int, host: str = "127.0.0.1") -> None:
        self.upstream = (host, upstream_port)
        self.toxics = Toxics()
        self.connections = 0
        self.port = 0
        self._clients: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def stall(self) -> None:
        self._set(stalled=True)

    def trickle(self, bytes_per_s: int) -> None:
        self._set(bytes_per_s=bytes_per_s)

    def latency(self, seconds: float) -> None:
        self._set(latency_s=seconds)

    def limit(self, total: int) -> None:
        self._set(limit_bytes=total)

    def cut(self) -> None:
        self._set(refusing=True)
        self._call(lambda: [writer.close() for writer in list(self._clients)])

    def reset(self) -> None:
        self._set(refusing=True)
        self._call(lambda: [_abort(writer) for writer in list(self._clients)])

    def heal(self) -> None:
        self._call(lambda: setattr(self, "toxics", Toxics()))

    def _set(self, **changes: object) -> None:
        self._call(lambda: [setattr(self.toxics, name, value) for name, value in changes.items()])

    def _call(self, change: Callable[[], object]) -> None:
        """Run `change` in the proxy's own thread, wake every pump, and wait until it is done."""
        done = threading.Event()

        def run() -> None:
            change()
            self._changed.set()
            self._changed = asyncio.Event()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(5):
            raise TimeoutError("the proxy's thread does not answer")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        server.close()
        for writer in self._clients:
            writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.toxics.refusing:
            _abort(writer)
            return
        self.connections += 1
        self._clients.add(writer)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self.upstream)
        except OSError:
            _abort(writer)
            self._clients.discard(writer)
            return
        tasks = [
            asyncio.ensure_future(self._pump(upstream_reader, writer, toxic=True)),
            asyncio.ensure_future(self._pump(reader, upstream_writer, toxic=False)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for end in (writer, upstream_writer):
            end.close()
        self._clients.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, toxic: bool) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                if toxic:
                    sent += len(piece)
                    await self._suffer(len(piece))
                    if self.toxics.limit_bytes is not None and sent > self.toxics.limit_bytes:
                        return
                writer.write(piece)
                await writer.drain()

    async def _suffer(self, size: int) -> None:
        """Hold one piece for as long as the toxics say; a change wakes it."""
        if self.toxics.latency_s:
            await asyncio.sleep(self.toxics.latency_s)
        while self.toxics.stalled:
            await self._changed.wait()
        rate = self.toxics.bytes_per_s
        if rate is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), size / rate)


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a RST: what is still unsent is thrown away."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
