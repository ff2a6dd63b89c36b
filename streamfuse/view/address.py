"""Where the page may be found: which addresses are safe as they are, and which need a token."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass

from streamfuse.config import ViewConfig
from streamfuse.errors import ConfigError

USUAL = "127.0.0.1:8765"
"""Where `--view` without an address puts the page, if that is free."""
TOKEN_VARIABLE = "STREAMFUSE_VIEW_TOKEN"  # noqa: S105  a name, not a secret
SHORTEST_TOKEN = 16

_ADDRESS = re.compile(r"^(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):)?(\d{1,5})$")
_BUFFER = 256 << 10
"""Bytes that the kernel may hold for one browser: more would be seconds of old pictures for a slow one."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to listen at. `str()` is HOST:PORT again."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """What to type into a browser on this machine."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a name for it, not a bind
        return f"http://{Address(anywhere.get(self.host, self.host), self.port)}/"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def looks_like_address(text: str) -> bool:
    return _ADDRESS.match(text) is not None


def parse_address(text: str) -> Address:
    """HOST:PORT, :PORT or PORT; no host is loopback. Raises ConfigError."""
    match = _ADDRESS.match(text)
    if match is None or int(match[2]) > 65_535:
        raise ConfigError("the page's address is HOST:PORT", got=repr(text), hint="such as 127.0.0.1:8765")
    return Address((match[1] or "127.0.0.1").strip("[]"), int(match[2]))


def settle(config: ViewConfig) -> ViewConfig:
    """The same with a port that is free now and, where there is one, the token of the environment.

    So that the page is found at the same place after its process was started again.
    raises  ConfigError where the address is taken, not ours, or open to others without a token
    """
    address = parse_address(config.address or USUAL)
    token = config.token or os.environ.get(TOKEN_VARIABLE) or None
    settled = ViewConfig.model_validate({**config.model_dump(), "token": _checked(token)})
    check_token(address, settled.token)
    with _bound(address, instead=address.port != 0 and str(address) == USUAL) as listener:
        port = listener.getsockname()[1]
    return settled.model_copy(update={"address": str(Address(address.host, port))})


def check_token(address: Address, token: str | None) -> None:
    """Raise ConfigError for an address that others can reach without having to show a token."""
    if token is None and not address.is_loopback:
        raise ConfigError(
            "a page that others can reach needs a token",
            got=str(address),
            hint=f"set {TOKEN_VARIABLE} to {SHORTEST_TOKEN} characters or more, or stay on 127.0.0.1",
        )


def listen(address: Address) -> socket.socket:
    """A listening socket. Raises ConfigError."""
    listener = _bound(address)
    listener.listen(64)
    listener.setblocking(False)
    return listener


def _checked(token: str | None) -> str | None:
    if token is not None and not re.fullmatch(r"[\x21-\x7e]{16,256}", token):
        rule = f"a token has {SHORTEST_TOKEN} to 256 characters of ASCII without spaces"
        raise ConfigError(rule, got=f"{len(token)} characters", where=TOKEN_VARIABLE)
    return token


def _bound(address: Address, *, instead: bool = False) -> socket.socket:
    """Bound; `instead`: to any free port where this one is taken."""
    try:
        kind, *_, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise _unusable(address, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        listener.bind(place)
    except OSError as error:
        listener.close()
        if instead:
            return _bound(Address(address.host, 0))
        raise _unusable(address, error) from error
    return listener


def _unusable(address: Address, error: OSError) -> ConfigError:
    return ConfigError(
        "the page's address must be free and this machine's own",
        got=f"{address} ({error.strerror or error})",
        hint="choose another with --view HOST:PORT",
    )
