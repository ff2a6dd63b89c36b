"""Addresses: what they may look like, and which of them need a token."""

from __future__ import annotations

import socket

import pytest

from streamfuse.config import ViewConfig
from streamfuse.errors import ConfigError
from streamfuse.view.address import USUAL, Address, listen, looks_like_address, parse_address, settle

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8765", "127.0.0.1", 8765),
        (":9000", "127.0.0.1", 9000),
        ("9000", "127.0.0.1", 9000),
        ("localhost:0", "localhost", 0),
        ("[::1]:80", "::1", 80),
        ("0.0.0.0:8080", "0.0.0.0", 8080),
    ],
)
def test_address_is_host_and_port(text: str, host: str, port: int) -> None:
    assert looks_like_address(text)
    assert parse_address(text) == Address(host, port)
    assert parse_address(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["door=rtsp://192.0.2.1/x", "clip.mp4", "rtsp://x:554", "http://127.0.0.1:80", "", "x:y", "1:2:3"]
)
def test_sources_do_not_look_like_addresses(text: str) -> None:
    assert not looks_like_address(text)
    with pytest.raises(ConfigError, match="the page's address is HOST:PORT, got"):
        parse_address(text)


def test_port_has_a_bound() -> None:
    with pytest.raises(ConfigError, match=r"HOST:PORT, got '127\.0\.0\.1:65536'"):
        parse_address("127.0.0.1:65536")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "cameras.example:80"])
def test_address_that_others_can_reach_needs_a_token(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMFUSE_VIEW_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"can reach needs a token, got .*STREAMFUSE_VIEW_TOKEN"):
        settle(ViewConfig(address=address))


def test_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMFUSE_VIEW_TOKEN", TOKEN)
    settled = settle(ViewConfig(address="0.0.0.0:0"))
    assert settled.token == TOKEN
    assert parse_address(settled.address or "").port > 0
    assert TOKEN not in repr(settled)


@pytest.mark.parametrize("token", ["short", "with a space in it", "x" * 257])
def test_weak_token_is_refused_and_not_told(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMFUSE_VIEW_TOKEN", token)
    with pytest.raises(ConfigError, match="a token has 16 to 256 characters of ASCII") as error:
        settle(ViewConfig(address="127.0.0.1:0"))
    assert token not in str(error.value)


def test_usual_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", parse_address(USUAL).port))
        except OSError:
            pass  # somebody else has it: as good
        else:
            taken.listen()
        settled = parse_address(settle(ViewConfig(address=USUAL)).address or "")
        assert settled.port not in (0, parse_address(USUAL).port)


def test_chosen_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"must be free and .*, got 127.0.0.1:{port} \("):
            settle(ViewConfig(address=f"127.0.0.1:{port}"))


def test_listening_socket_keeps_little_for_a_slow_browser() -> None:
    with listen(Address("127.0.0.1", 0)) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 1 << 20
