"""Folders that are their owner's alone: for sockets, state, and code that is kept on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from streamfuse.errors import ConfigError


def private_folder(path: Path, what: str = "run directory") -> Path:
    """Make the folder, or find it, readable by its owner alone. Raises ConfigError otherwise."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        raise ConfigError(f"the {what} cannot be made", got=error.strerror, where=path) from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        got = f"mode {stat.S_IMODE(info.st_mode):04o} of user {info.st_uid}"
        raise ConfigError(f"a {what} must be its owner's alone (0700)", got=got, where=path)
    return path
