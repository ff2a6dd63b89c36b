"""File modes that bind root too: tests often run as root, people do not.

Root passes over modes by two capabilities. Here a block of a test, or a program that it starts, gives them
up.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# linux/capability.h: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; linux/prctl.h: PR_CAPBSET_DROP.
_OVER_MODES = (1, 2)
_CAPBSET_DROP = 24
_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)

_WITHOUT = f"""
import ctypes, os, sys
for capability in {_OVER_MODES}:
    ctypes.CDLL(None).prctl({_CAPBSET_DROP}, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


@contextmanager
def modes_bind() -> Iterator[None]:
    """This thread obeys modes within the block. Not what it starts, and not os.access(): see python()."""
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    _call(_libc.capget, header, sets)
    had = sets[0].effective
    try:
        sets[0].effective = had & ~sum(1 << capability for capability in _OVER_MODES)
        _call(_libc.capset, header, sets)
        yield
    finally:
        sets[0].effective = had
        _call(_libc.capset, header, sets)


def python(*arguments: object) -> list[str]:
    """The command line of Python with these arguments, in which modes bind, and in all that it starts."""
    return [sys.executable, "-c", _WITHOUT, *map(str, arguments)]


def _call(function: ctypes._NamedFuncPointer, header: _Header, sets: ctypes.Array[_Sets]) -> None:
    if function(ctypes.byref(header), sets) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
