"""How the CPU twins of the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def cpu_jit(**options: Any) -> Callable[[F], F]:
    """numba.njit without the GIL, compiled once and kept on disk.

    The code is kept beside the source file, else in the user's cache; where neither can be written
    (a read-only container), it is compiled anew in each process instead of failing at import.
    """

    def decorate(function: F) -> F:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # numba: "cannot cache function: no locator available"
            return numba.njit(nogil=True, **options)(function)

    return decorate
