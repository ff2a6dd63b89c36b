"""The receiver's side of flow control (see outbox.py): who sends, how far each has come, what is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from streamfuse.errors import WireError
from streamfuse.types import Mode
from streamfuse.wire.headers import Credit, Hello
from streamfuse.wire.outbox import new_epoch


class GapError(WireError):
    """Messages of a recording are missing: its job has to begin again where it was last safe."""


@dataclass(slots=True)
class Peer:
    """A sender as its receiver knows it: by the connection it last said Hello on."""

    name: str
    connection: bytes
    epoch: int
    received: int
    acked: int


class Inbox:
    """The receiver's side, for all its senders."""

    def __init__(self, window: int, mode: Mode) -> None:
        self._window, self._mode = window, mode
        self.epoch = new_epoch()
        self._by_connection: dict[bytes, Peer] = {}
        self._by_name: dict[str, Peer] = {}
        self.counters: Counter[str] = Counter(strangers=0, replayed=0, missed=0)

    @property
    def peers(self) -> Iterable[Peer]:
        return self._by_name.values()

    def hello(self, connection: bytes, hello: Hello) -> Credit:
        """A sender shows itself; the answer says how far its sequence has come."""
        peer = self._by_name.get(hello.source)
        if peer is None or peer.epoch != hello.epoch:
            if peer is not None:
                self._by_connection.pop(peer.connection, None)
            peer = Peer(hello.source, connection, hello.epoch, hello.seq, hello.seq)
            self._by_name[hello.source] = peer
        elif peer.connection != connection:
            self._by_connection.pop(peer.connection, None)
            peer.connection = connection
        self._by_connection[connection] = peer
        return self._credit(peer, hello.number)

    def take(self, connection: bytes, seq: int) -> Peer | None:
        """The sender of message `seq`; None: it is nobody's, or came before, and is to be ignored.

        A gap in the sequence is counted (live), or a GapError (recorded): dropped messages make none.
        """
        peer = self._by_connection.get(connection)
        if peer is None:
            self.counters["strangers"] += 1
            return None
        if seq < peer.received:
            self.counters["replayed"] += 1
            return None
        missed = seq - peer.received
        self.counters["missed"] += missed
        if missed and self._mode == "recorded":
            raise GapError(
                "nothing may be missing from a recording", got=f"{missed} messages", where=peer.name
            )
        peer.received = seq + 1
        return peer

    def done(self, peer: Peer, seq: int) -> Credit:
        """Message `seq` of this sender is done with."""
        peer.acked = max(peer.acked, seq + 1)
        return self._credit(peer, None)

    def leave(self, peer: Peer) -> None:
        """The sender has left in order."""
        self._by_connection.pop(peer.connection, None)
        if self._by_name.get(peer.name) is peer:
            del self._by_name[peer.name]

    def renew(self) -> None:
        """Be another receiver to all senders: what they sent is as lost as if this process had died."""
        self.epoch = new_epoch()
        self._by_connection.clear()
        self._by_name.clear()

    def _credit(self, peer: Peer, answers: int | None) -> Credit:
        return Credit(
            source=peer.name,
            seq=peer.received,
            epoch=self.epoch,
            to=peer.epoch,
            acked=peer.acked,
            window=self._window,
            answers=answers,
        )
