"""CURVE keys: making them, and reading them only where nobody else could.

    KEYS/server.key         public key of the side that binds; every client has a copy
    KEYS/server.key_secret  its secret key, on that side alone
    KEYS/client.key, client.key_secret   of the side that connects
    KEYS/clients/*.key      public keys that are let in; taking one away lets nobody new in with it

The files have ZeroMQ's certificate format.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth

from streamfuse.errors import ConfigError

NAMES = ("server", "client")


@dataclass(frozen=True, slots=True)
class KeyPair:
    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.public.decode()})"


@dataclass(frozen=True, slots=True)
class Keys:
    """A folder of keys, whose secret parts are read when a socket needs them."""

    folder: Path

    @property
    def clients(self) -> Path:
        return self.folder / "clients"

    def server(self) -> KeyPair:
        if not self.clients.is_dir():
            raise ConfigError("the server's keys need a folder of clients' public keys", where=self.clients)
        return load_pair(self.folder / "server.key_secret")

    def client(self) -> KeyPair:
        return load_pair(self.folder / "client.key_secret")

    def server_public(self) -> bytes:
        path = self.folder / "server.key"
        try:
            return zmq.auth.load_certificate(path)[0]
        except (OSError, ValueError) as error:
            raise ConfigError(
                "the server's public key cannot be read", got=_told(error), where=path
            ) from error


def new_keys(folder: Path) -> list[Path]:
    """Make a server's and a client's pair and let that client in; return the files.

    raises ConfigError where a key file is already there: a key is never written over
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "clients").mkdir(mode=0o700, exist_ok=True)
    made: list[Path] = []
    for name in NAMES:
        public, secret = zmq.curve_keypair()
        homes = [folder] if name == "server" else [folder, folder / "clients"]
        made += [_write(home / f"{name}.key", _certificate(public, None)) for home in homes]
        made.append(_write(folder / f"{name}.key_secret", _certificate(public, secret)))
    return made


def load_pair(path: Path) -> KeyPair:
    """The pair in a secret key file. Raises ConfigError where others may read it."""
    try:
        info = path.stat()
        if stat.S_IMODE(info.st_mode) & 0o077 or info.st_uid != os.getuid():
            mode = f"mode {stat.S_IMODE(info.st_mode):04o} of user {info.st_uid}"
            hint = f"chmod 600 {path}, and think of the key as known"
            raise ConfigError("a secret key must be its owner's alone", got=mode, where=path, hint=hint)
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        hint = "make one with `streamfuse keys new`"
        raise ConfigError("the secret key cannot be read", got=_told(error), where=path, hint=hint) from error
    if secret is None:
        raise ConfigError("the file has no secret key", where=path)
    return KeyPair(public, secret)


def _certificate(public: bytes, secret: bytes | None) -> str:
    lines = ["metadata", "curve", f'    public-key = "{public.decode()}"']
    if secret is not None:
        lines.append(f'    secret-key = "{secret.decode()}"')
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> Path:
    """Create the file with mode 0600 from its first moment."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise ConfigError("a key is never written over", where=path, hint="give another folder") from error
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path


def _told(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
