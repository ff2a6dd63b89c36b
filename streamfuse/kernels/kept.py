"""Where compiled kernels are kept. Numba runs what it finds there, so the folder is the user's alone.

Inside it, one folder for each version of numba and of these sources: numba itself looks only at the file
that a function stands in, not at those that it calls.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

import numba

from streamfuse.errors import ConfigError
from streamfuse.private import private_folder

WHAT = "kernel cache"


def kernel_cache() -> Path:
    """The folder, made where it is not there: under NUMBA_CACHE_DIR if that is set, else in the user's cache.

    raises  ConfigError where somebody else could put code there, or it cannot be made
    """
    above = _above()
    try:
        above.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = above.stat()
    except OSError as error:
        raise ConfigError(f"the {WHAT} cannot be made", got=error.strerror, where=above) from error
    _check(info, above)
    return private_folder(above / f"numba-{numba.__version__}-{_sources()}", WHAT)


def _above() -> Path:
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "streamfuse"
    except RuntimeError as error:  # a user id without a name and without $HOME
        raise ConfigError(f"the {WHAT} needs a home directory", hint="set NUMBA_CACHE_DIR") from error


def _check(info: os.stat_result, above: Path) -> None:
    """Who may rename what is in a folder can put his own in its place; in a sticky one (/tmp) he cannot."""
    open_to_all = info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX
    if info.st_uid not in (0, os.getuid()) or open_to_all:
        got = f"mode {stat.S_IMODE(info.st_mode):04o} of user {info.st_uid}"
        hint = "name a folder of your own in NUMBA_CACHE_DIR"
        raise ConfigError(f"the {WHAT} must be in a folder of the user's", got=got, where=above, hint=hint)


def _sources() -> str:
    digest = sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
