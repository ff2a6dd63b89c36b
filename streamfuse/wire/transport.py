"""The one place where sockets are made: bounded, with deadlines, and closed to strangers.

No option is left at libzmq's default where that has no bound (MAXMSGSIZE), is too large for pictures
(HWM 1000) or waits for ever (LINGER, timeouts). CURVE alone lets anyone in whose key nobody checks, so
every server's socket belongs to a ZAP domain that is enforced: no authenticator, no entry.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, Protocol

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from streamfuse.errors import WireError
from streamfuse.types import MS
from streamfuse.wire.endpoints import EndpointLock, check_endpoint, ipc_path
from streamfuse.wire.headers import MAX_HEADER, MAX_PAYLOAD
from streamfuse.wire.keys import Keys

Pattern = Literal["send", "receive", "publish", "subscribe"]
Socket = zmq.Socket[bytes]

_TYPES = {"send": zmq.DEALER, "receive": zmq.ROUTER, "publish": zmq.PUB, "subscribe": zmq.SUB}

_OPTIONS = {
    zmq.LINGER: 0,
    zmq.SNDTIMEO: 1000,
    zmq.RCVTIMEO: 1000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 10,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.HANDSHAKE_IVL: 5000,
    zmq.RECONNECT_IVL: 50,
    zmq.RECONNECT_IVL_MAX: 1000,
    zmq.MAXMSGSIZE: MAX_PAYLOAD,
    zmq.BACKLOG: 64,
}

_HEARTBEATS = {
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.HEARTBEAT_TTL: 3000,
}
"""Of links: they notice a peer that was stopped or unplugged; one that hangs is the supervisor's to notice.

Not of subscribers: one that does not read answers no heartbeat, is cut off, connects again, and libzmq
4.3.5 aborts its process when it reads on ("Assertion failed: _input_stopped", zeromq/libzmq #3937).
"""

FAREWELL_MS = 100
"""How long a receiver that closes lets its sender leave first. A sender (ZMQ_IMMEDIATE) loses what it has not
read when its receiver goes: one in five last words, which it then waited for until its time was up."""

_DOMAIN = "streamfuse"

_REFUSALS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "handshake",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "handshake_protocol",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "handshake_auth",
    zmq.EVENT_DISCONNECTED: "disconnects",
}


class Port(Protocol):
    """Something the loop waits for: a socket or a file descriptor."""

    def fileno(self) -> object: ...


@dataclass
class Wire:
    """The sockets of one process. `keys` turns CURVE on for every tcp address."""

    keys: Keys | None = None
    _context: zmq.Context[Socket] = field(default_factory=zmq.Context)
    _locks: list[EndpointLock] = field(default_factory=list)
    _monitors: list[Socket] = field(default_factory=list)
    _senders: list[Socket] = field(default_factory=list)
    _authenticator: ThreadAuthenticator | None = None
    _clients_seen: int = 0

    def bind(
        self, pattern: Pattern, endpoint: str, *, queue: int, lock: EndpointLock | None = None
    ) -> Socket:
        """A socket that others connect to.

        queue  messages that libzmq may hold per peer and direction
        lock   the address's lock where the caller holds it already
        raises AddressTaken, WireError where it cannot be bound, ConfigError where it is unsafe
        """
        check_endpoint(endpoint, keys=self.keys is not None)
        if lock is None:
            lock = EndpointLock(endpoint)
            lock.acquire()
        self._locks.append(lock)
        socket = self._make(pattern, queue)
        if self.keys is not None and endpoint.startswith("tcp:"):
            self._serve_curve(socket, self.keys)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise WireError("the address cannot be bound", got=error.strerror, where=endpoint) from error
        path = ipc_path(endpoint)
        if path is not None:
            path.chmod(0o600)
        return socket

    def connect(self, pattern: Pattern, endpoints: str | list[str], *, queue: int) -> Socket:
        """A socket that connects, again and again, to addresses which may not be there yet."""
        socket = self._make(pattern, queue)
        for endpoint in [endpoints] if isinstance(endpoints, str) else endpoints:
            check_endpoint(endpoint, keys=self.keys is not None)
            if self.keys is not None and endpoint.startswith("tcp:"):
                pair = self.keys.client()
                socket.curve_publickey, socket.curve_secretkey = pair.public, pair.secret
                socket.curve_serverkey = self.keys.server_public()
            socket.connect(endpoint)
        return socket

    def monitor(self, socket: Socket) -> Socket:
        """A socket that tells when peers of `socket` fail to shake hands; read it with refusals()."""
        monitor: Socket = socket.get_monitor_socket(sum(_REFUSALS))
        self._monitors.append(socket)
        return monitor

    def check(self) -> None:
        """Raise WireError where the authenticator has died; take in keys that were added or taken away."""
        if self._authenticator is None or self.keys is None:
            return
        if not self._authenticator.is_alive():
            raise WireError("the authenticator must be running", got="a dead thread")
        seen = self.keys.clients.stat().st_mtime_ns
        if seen != self._clients_seen:
            self._clients_seen = seen
            self._authenticator.configure_curve(domain=_DOMAIN, location=str(self.keys.clients))

    def close(self, within_ms: int = 200) -> None:
        """Send what is under way and close every socket; what takes longer is left behind. Twice is once.

        A message of several parts that is cut in two by force makes libzmq 4.3.5 abort the process
        ("Resource temporarily unavailable (src/session_base.cpp:233)", seen with a subscriber that did not
        read). So nothing is forced: a thread waits for the stuck ones for as long as the process lives.
        """
        if self._authenticator is not None:
            self._authenticator.stop()
        while self._monitors:
            receiver = self._monitors.pop()
            _let_go(receiver.get_monitor_socket(), min(within_ms, FAREWELL_MS))
            receiver.disable_monitor()
        while self._senders:
            self._senders.pop().setsockopt(zmq.LINGER, -1)
        closing = threading.Thread(target=self._context.destroy, name="closing", daemon=True)
        closing.start()
        closing.join(within_ms / 1000)
        for lock in self._locks:
            lock.release()

    def _make(self, pattern: Pattern, queue: int) -> Socket:
        socket = self._context.socket(_TYPES[pattern])
        if pattern != "subscribe":  # which waits for its publisher to come, if it may
            self._senders.append(socket)
        for option, value in _OPTIONS.items():
            socket.setsockopt(option, value)
        if pattern in ("send", "receive"):
            for option, value in _HEARTBEATS.items():
                socket.setsockopt(option, value)
        socket.set_hwm(queue)
        if pattern == "send":
            # Without it libzmq queues for a peer that is not there, and loses that queue when it comes.
            socket.setsockopt(zmq.IMMEDIATE, 1)
        if pattern in ("publish", "subscribe"):
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER * 4)
        return socket

    def _serve_curve(self, socket: Socket, keys: Keys) -> None:
        pair = keys.server()
        if self._authenticator is None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self.check()
        socket.curve_secretkey, socket.curve_publickey = pair.secret, pair.public
        socket.curve_server = True
        socket.zap_domain = _DOMAIN.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


LENT = 262_144
"""A payload from so many bytes on is lent to libzmq, which wakes a thread of pyzmq when it is sent: a copy of
the usual picture (90 kB) costs less."""


def receive_parts(socket: Socket, limit: int) -> list[memoryview] | None:
    """The next message's first `limit` parts, or None where there is none; the rest is thrown away.

    The last part of an overlong message is a mark: a caller that counts parts sees one too many.
    """
    parts: list[memoryview] = []
    try:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        parts.append(frame.buffer)
        while frame.more:
            frame = socket.recv(zmq.NOBLOCK, copy=False)
            if len(parts) <= limit:
                parts.append(frame.buffer)
    except zmq.Again:
        return None
    return parts


def promises(socket: Socket) -> bool:
    """The socket says that a message can be received."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def send_parts(socket: Socket, parts: list[bytes]) -> bool:
    """Send without waiting; False where the peer is not there or takes nothing now."""
    payload = parts[-1]
    try:
        for part in parts[:-1]:
            socket.send(part, zmq.NOBLOCK | zmq.SNDMORE)
        socket.send(payload, zmq.NOBLOCK, copy=len(payload) < LENT)
    except (zmq.Again, zmq.ZMQError) as error:
        if isinstance(error, zmq.Again) or error.errno == zmq.EHOSTUNREACH:
            return False
        raise WireError("a message could not be sent", got=error.strerror) from error
    return True


def refusals(monitor: Socket, counts: Counter[str]) -> None:
    """Count the handshakes that failed since the last call, by kind."""
    while monitor.poll(0):
        event = recv_monitor_message(monitor)
        name = _REFUSALS.get(zmq.Event(event["event"]))
        if name is not None:
            counts[name] += 1


def _let_go(monitor: Socket, within_ms: int) -> None:
    """Wait until a peer has gone, at most so long."""
    while monitor.poll(0):
        recv_monitor_message(monitor)
    while monitor.poll(within_ms):
        if recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED:
            return


def wait(readable: list[Socket | int], timeout_ns: int) -> set[Socket | int]:
    """Wait until one of the sockets or file descriptors can be read, at most so long."""
    poller = zmq.Poller()
    for port in readable:
        poller.register(port, zmq.POLLIN)
    return {port for port, _ in poller.poll(max(0, -(-timeout_ns // MS)))}
