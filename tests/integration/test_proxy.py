"""The tool that breaks networks must itself break what it says, and nothing else."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.integration.proxy import Proxy


class Flood(socketserver.BaseRequestHandler):
    """Answers each byte received with a hundred."""

    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.request.sendall(data * 100)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Flood) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Proxy(server.server_address[1]) as running:
            yield running
        server.shutdown()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(client: socket.socket, count: int = 1) -> bytes:
    client.sendall(b"x" * count)
    answer = b""
    while len(answer) < count * 100:
        piece = client.recv(65536)
        if not piece:
            break
        answer += piece
    return answer


def test_proxy_healthy_passes_everything(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert len(ask(client, 1000)) == 100_000


def test_proxy_stalled_holds_and_heals_without_loss(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.stall()
        client.sendall(b"x")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.heal()
        client.settimeout(5)
        assert ask(client)


def test_proxy_cut_closes_and_refuses_until_healed(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client)
        proxy.cut()
        assert client.recv(1) == b""
        with pytest.raises(ConnectionError), connect(proxy) as second:
            if second.recv(1) == b"":
                raise ConnectionResetError
        proxy.heal()
        with connect(proxy) as third:
            assert len(ask(third)) == 100


def test_proxy_reset_resets(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_proxy_limit_closes_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.limit(250)
    with connect(proxy) as client:
        assert len(ask(client)) == 100
        assert len(ask(client)) == 100
        assert ask(client) == b""
