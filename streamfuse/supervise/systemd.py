"""What systemd is told of a process: that it is ready, and that it gets on (sd_notify(3)).

Health is progress here too: the watchdog is fed while the work gets on, not while the process is alive. A
few lines of a datagram socket, so that nothing has to be installed for them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from streamfuse.errors import ConfigError

ADDRESS, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
VARIABLES = (ADDRESS, WATCHDOG, WATCHDOG_PID)
"""Meant for the process that systemd started, not for those that it starts itself."""

_US = 1000


class Systemd:
    """The socket on which systemd listens. Without one every call does nothing.

    raises  ConfigError for an address that is none
    """

    def __init__(self, address: str | None, watchdog_ns: int | None = None) -> None:
        self.watchdog_ns = watchdog_ns
        self._address = address
        self._socket: socket.socket | None = None
        if address is not None:
            if address[:1] not in ("/", "@") or len(address) < 2:
                raise ConfigError(f"{ADDRESS} must be a path or an abstract name (@...)", got=repr(address))
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, pid: int | None = None
    ) -> Systemd:
        """As systemd's variables say, where they are meant for this process."""
        told = os.environ if environment is None else environment
        own = told.get(WATCHDOG_PID, str(pid or os.getpid())) == str(pid or os.getpid())
        interval = told.get(WATCHDOG, "") if own else ""
        if interval and not (interval.isascii() and interval.isdigit() and int(interval) > 0):
            raise ConfigError(f"{WATCHDOG} must be a number of microseconds", got=repr(interval))
        return cls(told.get(ADDRESS) or None, int(interval) * _US if interval else None)

    def tell(self, *lines: str) -> None:
        """Send `NAME=value` lines as one message. Nobody listening is systemd's affair, not ours."""
        if self._socket is None or self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), address)
        except OSError:  # it restarts, or its queue is full; the next word comes soon
            return

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Pulse:
    """Tells systemd READY once the work has begun, and feeds its watchdog while the work gets on.

    Time comes as an argument.
    """

    def __init__(self, systemd: Systemd) -> None:
        self._systemd = systemd
        self._seen: int | None = None
        self._due_ns = 0
        self._ready = self._stopping = False

    def beat(self, now_ns: int, progress: int | None, *, expected: bool = True) -> None:
        """Say how far the work is.

        progress  changes when the work gets on; None: it has not begun
        expected  False: it cannot get on now, and not by a fault of ours (every camera is away)
        """
        if progress is None and not self._ready:
            return
        moved = progress != self._seen or not expected
        if moved and not self._ready:
            self._ready = True
            self._systemd.tell("READY=1")
        interval_ns = self._systemd.watchdog_ns
        if interval_ns is None or now_ns < self._due_ns or not moved:
            return
        self._seen = progress
        # At half of the interval, as sd_watchdog_enabled(3) asks.
        self._due_ns = now_ns + interval_ns // 2
        self._systemd.tell("WATCHDOG=1")

    def stopping(self, now_ns: int) -> None:
        """The process was asked to end: it has its own deadline for that."""
        if not self._stopping:
            self._stopping = True
            self._systemd.tell("STOPPING=1")
        self.beat(now_ns, self._seen, expected=False)
