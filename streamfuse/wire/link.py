"""The two ends of a link on sockets: what outbox.py and inbox.py decide, sent and received."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from streamfuse.clock import Clock
from streamfuse.errors import WireError
from streamfuse.types import Mode
from streamfuse.wire.codec import PARTS, Body, Message, decode, encode
from streamfuse.wire.endpoints import EndpointLock
from streamfuse.wire.headers import Credit, Hello
from streamfuse.wire.inbox import GapError, Inbox, Peer
from streamfuse.wire.outbox import Outbox
from streamfuse.wire.topics import TOPICS, Topic
from streamfuse.wire.transport import Wire, promises, receive_parts, refusals, send_parts

log = logging.getLogger(__name__)

_HELLOS = 8
"""Messages beside a window that libzmq may hold: Hellos and credit."""
_STUCK = 100
"""So often in a row a socket may promise a message and have none. Seen once, after its peer was killed: the
socket never gave anything again, and whoever waited for it span."""


class Outlet:
    """The sending end: connects, and keeps what it cannot send yet.

    Call handle() when its socket can be read, and poll() when it says so.
    """

    def __init__(
        self, wire: Wire, endpoint: str, *, name: str, mode: Mode, topic: Topic, clock: Clock
    ) -> None:
        self.box = Outbox(name, mode, topic)
        self._connect = partial(wire.connect, "send", endpoint, queue=topic.window_in(mode) + _HELLOS)
        self.socket = self._connect()
        self._empty_promises = 0
        self.tap: Callable[[Body, Sequence[bytes]], None] | None = None
        """Called with everything that was sent."""
        self._clock = clock
        self.malformed = 0

    def offer(self, source: str, body: Body) -> None:
        """Take a message in, and send what may be sent. Raises StageError where a blocking outlet is full."""
        self.box.offer(source, body)
        self._send()

    def handle(self) -> bool:
        """Take in the receiver's credit. True: it is a new receiver that knows nothing of before."""
        changed = False
        while (parts := receive_parts(self.socket, PARTS)) is not None:
            try:
                body = decode(parts).body
                if not isinstance(body, Credit):
                    raise WireError("a receiver sends only credit", got=type(body).__name__)
            except WireError as error:
                self.malformed += 1
                log.warning("%s", error)
                continue
            changed |= self.box.credit(body, self._clock.monotonic_ns())
        self._check_socket()
        self.poll()
        return changed

    def _check_socket(self) -> None:
        """Connect anew where the socket is stuck; the old one is left to the end of the process."""
        self._empty_promises = self._empty_promises + 1 if promises(self.socket) else 0
        if self._empty_promises >= _STUCK:
            log.warning("a socket is stuck and replaced")
            self.socket, self._empty_promises = self._connect(), 0

    def poll(self) -> int | None:
        """Send what is due; return when to call again at the latest (monotonic ns), None: soon."""
        now_ns = self._clock.monotonic_ns()
        due_ns = self.box.hello_due_ns()
        if due_ns is None or due_ns <= now_ns:
            hello = self.box.hello(now_ns)
            send_parts(self.socket, encode(Message(hello.source, hello.seq, hello)))
        self._send()
        return self.box.hello_due_ns()

    def drop_waiting(self) -> None:
        self.box.drop_waiting()

    def _send(self) -> None:
        while (message := self.box.next_message()) is not None:
            parts = encode(message)
            if not send_parts(self.socket, parts):
                return
            self.box.sent()
            if self.tap is not None:
                self.tap(message.body, parts)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that came, and to whom its credit goes."""

    peer: Peer
    message: Message


class Inlet:
    """The receiving end, for any number of senders: binds, checks everything, gives credit.

    accepts   the topics whose records may come
    own_only  a sender may speak only of the source that has its own name
    """

    def __init__(
        self,
        wire: Wire,
        endpoint: str,
        *,
        mode: Mode,
        topic: Topic,
        accepts: Collection[str],
        own_only: bool = False,
        lock: EndpointLock | None = None,
    ) -> None:
        self.box = Inbox(topic.window_in(mode), mode)
        self.socket = wire.bind("receive", endpoint, queue=topic.window_in(mode) + _HELLOS, lock=lock)
        self.monitor = wire.monitor(self.socket)
        self._accepts = tuple(TOPICS[name].record for name in accepts)
        self._own_only = own_only
        self._counts: Counter[str] = Counter(malformed=0)

    @property
    def counters(self) -> dict[str, int]:
        return {**self._counts, **self.box.counters}

    def receive(self) -> Delivery | None:
        """The next message, or None: nothing more has come. What is not right is counted and skipped.

        raises  GapError in recorded mode, where a message is missing
        """
        while (parts := receive_parts(self.socket, PARTS + 1)) is not None:
            connection = bytes(parts[0])
            try:
                delivery = self._delivery(connection, decode(parts[1:]))
            except GapError:
                raise
            except WireError as error:
                self._complain(error)
                continue
            if delivery is not None:
                return delivery
        return None

    def done(self, delivery: Delivery) -> None:
        """The message is done with: its sender may send another."""
        self._credit(delivery.peer.connection, self.box.done(delivery.peer, delivery.message.seq))

    def renew(self) -> None:
        """Make all senders begin anew, as if this process had been restarted."""
        self.box.renew()

    def handle_monitor(self) -> None:
        refusals(self.monitor, self._counts)

    def _delivery(self, connection: bytes, message: Message) -> Delivery | None:
        body = message.body
        if isinstance(body, Hello):
            self._credit(connection, self.box.hello(connection, body))
            return None
        if not isinstance(body, self._accepts):
            raise WireError("this receiver takes other kinds", got=type(body).__name__)
        peer = self.box.take(connection, message.seq)
        if peer is None:
            return None
        if self._own_only and message.source != peer.name:
            raise WireError("a sender speaks of its own source", got=message.source, where=peer.name)
        return Delivery(peer, message)

    def _credit(self, connection: bytes, credit: Credit) -> None:
        send_parts(self.socket, [connection, *encode(Message(credit.source, credit.seq, credit))])

    def _complain(self, error: WireError) -> None:
        """Count; say the first and then every thousandth, or a hostile peer would fill the disk."""
        self._counts["malformed"] += 1
        if self._counts["malformed"] % 1000 == 1:
            log.warning("message refused (%d so far): %s", self._counts["malformed"], error)
