"""Addresses: which may be used without keys, and one process at a time behind each of ours.

A second bind of an ipc address silently takes the first one's traffic, so whoever binds holds a lock
beside the socket; the kernel lets go of it when the process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from streamfuse.errors import ConfigError, WireError
from streamfuse.private import private_folder

MAX_IPC_PATH = 107
"""Bytes of a Unix socket's path on Linux."""


def check_endpoint(endpoint: str, *, keys: bool) -> None:
    """Raise ConfigError unless this address is safe: ours alone, this host's alone, or behind keys."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "inproc":
        return
    if scheme == "ipc":
        _check_ipc(Path(rest), endpoint)
    elif scheme == "tcp":
        if not keys and not _is_loopback(endpoint):
            hint = "make keys with `streamfuse keys new` and name their folder in wire.keys"
            raise ConfigError("an address that others can reach needs keys", got=endpoint, hint=hint)
    else:
        raise ConfigError("an address is ipc://PATH or tcp://HOST:PORT", got=endpoint)


def ipc_path(endpoint: str) -> Path | None:
    return Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None


class AddressTaken(WireError):
    """Another living process serves this address: a second instance."""


class EndpointLock:
    """The right to bind an ipc address; other kinds of address need none: a second bind of them fails."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._path = ipc_path(endpoint)
        self._handle: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock; False where a living process holds it."""
        if self._path is None or self._handle is not None:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(f"{self._path}.lock", flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def acquire(self) -> None:
        if not self.try_acquire():
            raise AddressTaken("one process at a time may bind an address", where=self.endpoint)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; AddressTaken where another living process has it."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _check_ipc(path: Path, endpoint: str) -> None:
    if not path.is_absolute():
        raise ConfigError("an ipc address is an absolute path", got=endpoint)
    if len(os.fsencode(path)) > MAX_IPC_PATH:
        hint = "choose a shorter run directory"
        raise ConfigError(f"an ipc path has at most {MAX_IPC_PATH} bytes", got=endpoint, hint=hint)
    if not path.parent.is_dir():
        raise ConfigError("the folder of an ipc address must be there", where=path.parent)
    private_folder(path.parent)


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may be resolved to anything; or *
        return False
