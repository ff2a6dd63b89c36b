"""PUB and SUB: labels and events to whoever wants them, progress to whoever watches.

A subscriber that does not read loses messages, and only it; each topic of each source has its own sequence,
so it can tell how many.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection

import zmq

from streamfuse.errors import WireError
from streamfuse.wire.codec import PARTS, Body, Message, decode, encode
from streamfuse.wire.endpoints import EndpointLock
from streamfuse.wire.topics import TOPICS, Topic, topic_for
from streamfuse.wire.transport import Wire, receive_parts, send_parts

log = logging.getLogger(__name__)

_ROOM = 10_000
"""Messages kept for a subscriber that is busy elsewhere: 10 MB. It should not be full while the publisher
is restarted: libzmq 4.3.5 then aborts the subscriber (zeromq/libzmq #3937)."""


class Publisher:
    """Sends to every subscriber that is there. Binds for the world, connects to those who watch."""

    def __init__(
        self, wire: Wire, *, topic: Topic, bind: str | None = None, connect: Collection[str] = ()
    ) -> None:
        if bind is not None:
            self.socket = wire.bind("publish", bind, queue=topic.queue)
        else:
            self.socket = wire.connect("publish", list(connect), queue=topic.queue)
        self._next: Counter[tuple[str, str]] = Counter()

    def publish(self, source: str, body: Body) -> None:
        place = (topic_for(body).name, source)
        send_parts(self.socket, encode(Message(source, self._next[place], body)))
        self._next[place] += 1


class Subscriber:
    """Receives what is published; bad messages are counted and skipped, missed ones are counted.

    topics      names, or name/source; everything that begins so
    from_start  it was there before the publisher: what it does not see of the first ones was missed, too
    """

    def __init__(
        self,
        wire: Wire,
        *,
        topics: Collection[str],
        bind: str | None = None,
        connect: Collection[str] = (),
        lock: EndpointLock | None = None,
        from_start: bool = False,
    ) -> None:
        self._from_start = from_start
        queue = max(TOPICS[name.partition("/")[0]].queue for name in topics)
        if bind is not None:
            self.socket = wire.bind("subscribe", bind, queue=queue, lock=lock)
        else:
            self.socket = wire.connect("subscribe", list(connect), queue=max(queue, _ROOM))
        for name in topics:
            self.socket.setsockopt(zmq.SUBSCRIBE, (name if "/" in name else f"{name}/").encode())
        self._next: dict[tuple[type, str], int] = {}
        self.counters: Counter[str] = Counter(malformed=0, missed=0)

    def receive(self) -> Message | None:
        """The next message, or None: nothing more has come."""
        while (parts := receive_parts(self.socket, PARTS)) is not None:
            try:
                message = decode(parts)
            except WireError as error:
                self.counters["malformed"] += 1
                if self.counters["malformed"] % 1000 == 1:
                    log.warning("message refused (%d so far): %s", self.counters["malformed"], error)
                continue
            self.counters["missed"] += self._missed_before(message)
            return message
        return None

    def _missed_before(self, message: Message) -> int:
        """How many messages of its kind and source came between this one and the last that was seen."""
        place = (type(message.body), message.source)
        expected = self._next.get(place, 0 if self._from_start else message.seq)
        self._next[place] = message.seq + 1
        # A sender that was restarted counts from 0 again; what it sent until we were back was missed.
        return message.seq - expected if message.seq >= expected else message.seq
