"""Who may send how much, and what was lost: the rules between one sender and one receiver, without a socket.

A ZeroMQ queue drops the newest, silently, and dies with its peer. So the queue is ours, at the sender: it
holds `queue` messages, of which `window` more may be under way. The receiver says when one is done with.
Full, a live sender drops its oldest and the next message of that source says how many; a recorded one is
`full`, and its owner waits.

    sender                                  receiver
    Hello(epoch, seq)  -------------------> knows this connection, and where its sequence stands
                       <------------------- Credit(seq: received, acked: done with, window)
    Tick, Tick         -------------------> in order, each once
                       <------------------- Credit after each that is done with

Connections break and processes die: what was received nowhere is sent again; what a receiver took with it
when it died is lost and counted. For every sender, at every moment:

    produced == done + dropped + lost + waiting + under way
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from dataclasses import dataclass, replace

from streamfuse.errors import StageError, WireError
from streamfuse.types import MS, Answer, Mode, SessionStart, Tick
from streamfuse.wire.codec import Body, Message
from streamfuse.wire.headers import Credit, Hello
from streamfuse.wire.topics import TOPICS, Topic, topic_for

GREET_NS = 100 * MS
"""How often a sender asks for its receiver until it has answered."""
PROBE_NS = 250 * MS
"""How long a sender waits for credit before it asks whether what it sent has come."""
IDLE_NS = 1000 * MS
"""How often a sender with nothing under way looks whether its receiver is still the same."""

CONTROL_MAX = TOPICS["start"].queue


def new_epoch() -> int:
    """A number that no other process or connection of this run has: 62 random bits."""
    return secrets.randbits(62)


@dataclass(frozen=True, slots=True)
class _Entry:
    source: str
    body: Body
    data: bool
    """Ticks and answers are data: bounded, counted, dropped when live. The rest is control."""
    seq: int = -1
    """Its place in the sequence of what was sent, given when it is first sent."""


class Outbox:
    """The sender's side. `name` is the sender's own, told in its Hello."""

    def __init__(self, name: str, mode: Mode, topic: Topic) -> None:
        self.name, self._mode, self._topic = name, mode, topic
        self._drops = topic.policy(mode) == "drop"
        self._queue: deque[_Entry] = deque()
        self._under_way: deque[_Entry] = deque()
        self._unsaid: Counter[str] = Counter()
        """By source: dropped since its last message, which the next one says."""
        self._receiver: int | None = None
        self._widest = self._window = topic.window_in(mode)
        self._heard_ns: int | None = None
        self._asked_ns: int | None = None
        self._hellos = 0
        self._asked: tuple[int, int] | None = None
        """Number and seq of the last Hello while something was under way: until it is answered nothing more
        is sent, for a message behind the Hello would overtake those that have to be sent again."""
        self.counters: Counter[str] = Counter(produced=0, done=0, dropped=0, lost=0, resent=0)
        self._begin_sequence()

    def _begin_sequence(self) -> None:
        """Count from 0 again, towards a receiver that knows nothing."""
        self._epoch, self._greeted, self._next_seq = new_epoch(), False, 0
        self._asked = None
        self._queue = deque(replace(entry, seq=-1) for entry in self._queue)

    @property
    def waiting(self) -> int:
        return sum(entry.data for entry in self._queue)

    @property
    def under_way(self) -> int:
        return sum(entry.data for entry in self._under_way)

    @property
    def full(self) -> bool:
        """The owner of a sender that blocks takes nothing more in while this is so."""
        return not self._drops and self.waiting >= self._topic.queue

    @property
    def met(self) -> bool:
        """A receiver has answered, now or before."""
        return self._receiver is not None

    @property
    def settled(self) -> bool:
        """Everything offered is done with."""
        return not self._queue and not self._under_way

    def offer(self, source: str, body: Body) -> None:
        """Take a message in. Raises StageError where a sender that blocks is full."""
        data = topic_for(body).name == self._topic.name
        if data and self.full:
            raise StageError("a full outbox takes nothing more", got=source, where=self.name)
        if not data:
            self._forget_superseded(source, body)
            if len(self._queue) - self.waiting >= CONTROL_MAX:
                raise WireError("the receiver must take control messages", got=f"{CONTROL_MAX} waiting")
        self.counters["produced"] += data
        self._queue.append(_Entry(source, body, data))
        if self._drops:
            self._drop_to(self._topic.queue)

    def next_message(self) -> Message | None:
        """The message to send now, or None: nothing waits, or enough is under way."""
        if not self._queue or not self._greeted or len(self._under_way) >= self._window:
            return None
        if self._asked is not None:
            return None
        entry = self._queue[0]
        dropped = self._unsaid.pop(entry.source, 0) if entry.data else 0
        if dropped or entry.seq < 0:
            body = _after_drops(entry.body, dropped) if dropped else entry.body
            seq = self._next_seq if entry.seq < 0 else entry.seq
            entry = self._queue[0] = _Entry(entry.source, body, entry.data, seq)
        return Message(entry.source, entry.seq, entry.body)

    def sent(self) -> None:
        """What next_message() gave is under way."""
        entry = self._queue.popleft()
        self._next_seq = max(self._next_seq, entry.seq + 1)
        self._under_way.append(entry)

    def hello_due_ns(self) -> int | None:
        """When the next Hello is to be sent; None: at once."""
        if self._asked_ns is None:
            return None
        if not self._greeted:
            return self._asked_ns + GREET_NS
        quiet_ns = PROBE_NS if self._under_way else IDLE_NS
        return max(self._asked_ns, self._heard_ns or 0) + quiet_ns

    def hello(self, now_ns: int) -> Hello:
        self._asked_ns = now_ns
        self._hellos += 1
        self._asked = (self._hellos, self._next_seq) if self._under_way else None
        return Hello(source=self.name, epoch=self._epoch, seq=self._next_seq, number=self._hellos)

    def credit(self, credit: Credit, now_ns: int) -> bool:
        """Take the receiver's answer in. True: it is another receiver than before, which knows nothing.

        What the one before had taken in is lost and counted; control messages are kept.
        """
        if credit.to != self._epoch:
            return False
        self._heard_ns = now_ns
        if self._receiver not in (None, credit.epoch):
            self._receiver = credit.epoch
            self._lose(self._under_way, "lost")
            self._begin_sequence()
            self._asked_ns = None
            return True
        self._receiver, self._greeted = credit.epoch, True
        self._window = min(self._widest, credit.window)
        while self._under_way and self._under_way[0].seq < credit.acked:
            self.counters["done"] += self._under_way.popleft().data
        if self._asked is not None and credit.answers == self._asked[0]:
            self._send_again(credit.seq, self._asked[1])
            self._asked = None
        return False

    def drop_waiting(self) -> None:
        """Drop all data that waits, counted: it belongs to a session that ends here."""
        waiting, self._queue = self._queue, deque()
        self._lose(waiting, "dropped")

    def forget(self) -> None:
        """Drop all that waits, and owe no word of it: what it was about is sent anew from its beginning."""
        self.drop_waiting()
        self._queue.clear()
        self._unsaid.clear()

    def holds(self, source: str) -> bool:
        """Something of this source waits or is under way."""
        return any(entry.source == source for entry in (*self._queue, *self._under_way))

    def _lose(self, entries: deque[_Entry], counter: str) -> None:
        """Count the data in `entries` as gone, and put the control among them first in the queue."""
        kept = [entry for entry in entries if not entry.data]
        for entry in entries:
            if entry.data:
                self._count_gone(entry, counter)
        entries.clear()
        self._queue.extendleft(reversed(kept))

    def _drop_to(self, bound: int) -> None:
        excess = self.waiting - bound
        if excess <= 0:
            return
        kept: deque[_Entry] = deque()
        for entry in self._queue:
            if entry.data and excess > 0:
                self._count_gone(entry, "dropped")
                excess -= 1
            else:
                kept.append(entry)
        self._queue = kept

    def _count_gone(self, entry: _Entry, counter: str) -> None:
        self.counters[counter] += 1
        self._unsaid[entry.source] += 1 + _dropped_before(entry.body)

    def _send_again(self, received: int, asked: int) -> None:
        """Queue again what was sent before the Hello and has not come: the connection broke."""
        missing = [entry for entry in self._under_way if received <= entry.seq < asked]
        if not missing:
            return
        self.counters["resent"] += len(missing)
        self._under_way = deque(e for e in self._under_way if not received <= e.seq < asked)
        self._queue.extendleft(reversed(missing))
        if self._drops:
            self._drop_to(self._topic.queue)

    def _forget_superseded(self, source: str, body: Body) -> None:
        """A start that no data followed says nothing once the next one is there: a camera that flaps."""
        if not isinstance(body, SessionStart) or not self._drops:
            return
        kept: list[_Entry] = []
        followed = False
        for entry in reversed(self._queue):
            if entry.source == source:
                if isinstance(entry.body, SessionStart) and not followed:
                    continue
                followed = entry.data
            kept.append(entry)
        self._queue = deque(reversed(kept))


def _dropped_before(body: Body) -> int:
    return body.head.dropped if isinstance(body, Tick | Answer) else 0


def _after_drops(body: Body, dropped: int) -> Body:
    if isinstance(body, Tick | Answer):
        return replace(body, head=replace(body.head, dropped=body.head.dropped + dropped))
    return body
