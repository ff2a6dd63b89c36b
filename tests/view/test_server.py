"""The real server on a real socket: connections that say nothing, readers that read nothing, strangers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from streamfuse.clock import SYSTEM
from streamfuse.config import ViewConfig
from streamfuse.errors import ConfigError
from streamfuse.types import NS
from streamfuse.view import server as module
from streamfuse.view.app import live_app
from streamfuse.view.hub import Hub
from streamfuse.view.page import LABELS
from streamfuse.view.server import CONNECTIONS, ViewServer
from tests.view.made import HEADS, a_label, a_still, an_event

HTTP_400 = b"HTTP/1.1 400"


@contextmanager
def serving(**options: object) -> Iterator[tuple[ViewServer, Hub]]:
    config = ViewConfig.model_validate({"address": "127.0.0.1:0", **options})
    hub = Hub(config, HEADS, ["door"], "tiny", SYSTEM)
    server = ViewServer(live_app(hub, config), config, background=hub.run())
    try:
        yield server, hub
    finally:
        server.close(within_s=10)


def dial(server: ViewServer) -> socket.socket:
    return socket.create_connection((server.address.host, server.address.port), timeout=20)


def line(server: ViewServer) -> ClientConnection:
    return connect(server.url.replace("http", "ws") + "news", max_size=1 << 26, open_timeout=20)


def test_page_and_its_parts_are_served() -> None:
    with serving() as (server, _):
        page = httpx.get(server.url)
        assert page.status_code == 200
        assert "<title>streamfuse</title>" in page.text
        script = httpx.get(server.url + "static/main.js")
        assert script.headers["content-type"].startswith("text/javascript")
        again = httpx.get(server.url + "static/main.js", headers={"if-none-match": script.headers["etag"]})
        assert again.status_code == 304


def test_what_is_offered_arrives() -> None:
    with serving() as (server, hub), line(server) as news:
        assert '"hello"' in str(news.recv(20))
        hub.offer(a_label(3))
        hub.offer(an_event())
        hub.offer(a_still(1.0))
        seen = ""
        while "labels" not in seen or "events" not in seen:
            got = news.recv(20)
            seen += got if isinstance(got, str) else ""
        while not isinstance(got, bytes):
            got = news.recv(20)
        assert got.startswith(b"\x00\x00\x40\x01\xf0\x00")  # place 0, 320 x 240


def stuck_page(server: ViewServer) -> socket.socket:
    """A browser that opens the line and then reads nothing."""
    page = dial(server)
    page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    page.sendall(
        b"GET /news HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert page.recv(12) == b"HTTP/1.1 101"
    return page


def test_browser_that_reads_nothing_costs_nobody_anything() -> None:
    """What waits for it stays bounded, and another page gets every label."""
    large = b"\xff\xd8\xff" + bytes(200_000) + b"\xff\xd9"
    with serving() as (server, hub), stuck_page(server), line(server) as well:
        well.recv(20)
        for index in range(45):
            hub.offer(a_label(index))
            hub.offer(a_still(index / 10, jpeg=large))
            while True:
                got = well.recv(20)
                if isinstance(got, str) and index in [row[2] for row in json.loads(got).get("labels", ())]:
                    break
        assert hub.skipped == 0
        waiting = {page: page.take(0) for page in hub.pages}
        most = max(len((message or {}).get("labels", ())) for message in waiting.values())
        assert 1 < most <= LABELS, "the stuck one has what fits, and no more"


def test_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 1)
    with serving() as (server, _), dial(server) as silent, dial(server) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        assert silent.recv(100) == b""
        assert slow.recv(100) == b""


def test_line_stays_open_longer_than_a_request_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 1)
    with serving() as (server, _), line(server) as news:
        first_ns = SYSTEM.monotonic_ns()
        while SYSTEM.monotonic_ns() - first_ns < 3 * NS:
            news.recv(20)  # its state, every second


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 40_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ],
)
def test_request_that_is_none_is_refused(request_: bytes) -> None:
    with serving() as (server, _):
        with dial(server) as bad:
            bad.sendall(request_)
            assert bad.recv(100).startswith((HTTP_400, b"HTTP/1.1 421")), "and not an answer"
        assert httpx.get(server.url).status_code == 200


def test_more_connections_than_it_has_room_for_get_a_503() -> None:
    with serving() as (server, _):
        held = [dial(server) for _ in range(CONNECTIONS)]
        try:
            assert httpx.get(server.url).status_code == 503
        finally:
            for one in held:
                one.close()
        assert httpx.get(server.url).status_code in (200, 503)


def test_port_that_is_taken_is_an_error() -> None:
    with serving() as (server, _):
        config = ViewConfig(address=str(server.address))
        with pytest.raises(ConfigError, match=r"must be free and .*, got 127\.0\.0\.1:\d+ \("):
            ViewServer(live_app(Hub(config, HEADS, [], "tiny", SYSTEM), config), config)


def test_address_that_others_can_reach_is_refused_without_a_token() -> None:
    """Also where a configuration was written by hand and nobody settled it."""
    config = ViewConfig(address="0.0.0.0:0")
    with pytest.raises(ConfigError, match="a page that others can reach needs a token"):
        ViewServer(live_app(Hub(config, HEADS, [], "tiny", SYSTEM), config), config)


def test_closing_ends_open_pages_soon() -> None:
    with serving() as (server, _), line(server) as news:
        news.recv(20)
        server.close(within_s=10)
        assert not server._thread.is_alive()
