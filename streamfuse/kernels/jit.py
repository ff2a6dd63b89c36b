"""How the CPU twins of the kernels are compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba

from streamfuse.errors import ConfigError
from streamfuse.kernels.kept import kernel_cache

F = TypeVar("F", bound=Callable[..., Any])


def cpu_jit(**options: Any) -> Callable[[F], F]:
    """numba.njit without the GIL, compiled once and kept on disk in a folder that is the user's alone.

    Where there is none (a read-only container, a folder that others may write), it is compiled anew in each
    process, which says so.
    """

    def decorate(function: F) -> F:
        folder = _folder()
        return _kept(function, folder, options) if folder else numba.njit(nogil=True, **options)(function)

    return decorate


@cache
def _folder() -> str | None:
    try:
        return str(kernel_cache())
    except ConfigError as error:
        logging.getLogger(__name__).warning("kernels are compiled anew in each process: %s", error)
        return None


def _kept(function: F, folder: str, options: dict[str, Any]) -> F:
    """Numba reads its setting as it decorates; afterwards it is the caller's again, for his own functions."""
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, folder
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # numba: "cannot cache function: no locator available", as on a full disk
        return numba.njit(nogil=True, **options)(function)
    finally:
        config.CACHE_DIR = before
