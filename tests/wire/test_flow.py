"""Flow control without sockets: what is produced is done with, dropped, lost, waiting or under way."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamfuse.errors import StageError
from streamfuse.types import MS, Mode, SessionStart, Tick
from streamfuse.wire.codec import Message
from streamfuse.wire.headers import End
from streamfuse.wire.inbox import GapError, Inbox
from streamfuse.wire.outbox import GREET_NS, IDLE_NS, PROBE_NS, Outbox
from streamfuse.wire.topics import TOPICS
from tests.wire.samples import a_tick

TICK = TOPICS["tick"]


def greeted(box: Outbox, inbox: Inbox, connection: bytes = b"c") -> None:
    assert not box.credit(inbox.hello(connection, box.hello(0)), 0)


def send_all(box: Outbox) -> list[Message]:
    out = []
    while (message := box.next_message()) is not None:
        box.sent()
        out.append(message)
    return out


def index(message: Message) -> int:
    assert isinstance(message.body, Tick)
    return message.body.head.index


def dropped(message: Message) -> int:
    assert isinstance(message.body, Tick)
    return message.body.head.dropped


def test_live_sender_without_receiver_keeps_the_newest_and_says_how_many_it_dropped() -> None:
    box, inbox = Outbox("door", "live", TICK), Inbox(TICK.window, "live")
    for i in range(20):
        box.offer("door", a_tick(i))
    greeted(box, inbox)
    out = send_all(box)
    assert [index(m) for m in out] == [16, 17]
    assert [dropped(m) for m in out] == [16, 0]
    assert box.counters["dropped"] == 16


def test_nothing_is_sent_before_the_receiver_has_answered() -> None:
    box = Outbox("door", "live", TICK)
    box.offer("door", a_tick(0))
    assert box.next_message() is None


def test_recorded_sender_is_full_and_refuses_more() -> None:
    box = Outbox("clip", "recorded", TICK)
    while not box.full:
        box.offer("clip", a_tick(box.waiting))
    assert box.waiting == TICK.queue
    with pytest.raises(StageError, match="a full outbox takes nothing more"):
        box.offer("clip", a_tick(99))


def test_control_is_never_dropped_and_keeps_its_place() -> None:
    box, inbox = Outbox("door", "live", TICK), Inbox(TICK.window, "live")
    box.offer("door", SessionStart(1, 0, 0, frozenset({"video"})))
    for i in range(10):
        box.offer("door", a_tick(i))
    box.offer("door", End(source="door", complete=False))
    greeted(box, inbox)
    seen: list[object] = []
    while not box.settled:
        for message in send_all(box):
            seen.append(message.body.head.index if isinstance(message.body, Tick) else type(message.body))
            peer = inbox.take(b"c", message.seq)
            assert peer is not None
            box.credit(inbox.done(peer, message.seq), 0)
    assert seen == [SessionStart, 6, 7, 8, 9, End]


def test_starts_that_no_data_followed_are_superseded_by_the_next() -> None:
    """A camera that flaps for a day while nobody takes its messages fills no memory."""
    box, inbox = Outbox("door", "live", TICK), Inbox(TICK.window, "live")
    for session in range(5000):
        box.offer("door", SessionStart(session, 0, 0, frozenset({"video"})))
    greeted(box, inbox)
    (message,) = send_all(box)
    assert message.body == SessionStart(4999, 0, 0, frozenset({"video"}))


def test_drops_are_said_to_the_source_they_happened_to() -> None:
    box, inbox = Outbox("analyze", "live", TICK), Inbox(64, "live")
    for i in range(6):
        box.offer("a" if i % 2 else "b", a_tick(i, "a" if i % 2 else "b"))
    greeted(box, inbox)
    out = []
    while not box.settled:
        for message in send_all(box):
            out.append((message.source, index(message), dropped(message)))
            peer = inbox.take(b"c", message.seq)
            assert peer is not None
            box.credit(inbox.done(peer, message.seq), 0)
    assert out == [("b", 2, 1), ("a", 3, 1), ("b", 4, 0), ("a", 5, 0)]


def test_another_receiver_knows_nothing_and_what_the_first_had_is_lost() -> None:
    box, first, second = Outbox("door", "live", TICK), Inbox(2, "live"), Inbox(2, "live")
    for i in range(3):
        box.offer("door", a_tick(i))
    greeted(box, first)
    assert len(send_all(box)) == 2
    assert box.credit(second.hello(b"d", box.hello(0)), 0) is True
    assert box.counters["lost"] == 2
    assert box.hello_due_ns() is None, "the new receiver is greeted at once"
    greeted(box, second, b"d")
    (message,) = send_all(box)
    assert (index(message), dropped(message), message.seq) == (2, 2, 0)


def test_what_a_broken_connection_swallowed_is_sent_again_in_order() -> None:
    box, inbox = Outbox("clip", "recorded", TICK), Inbox(2, "recorded")
    for i in range(4):
        box.offer("clip", a_tick(i))
    greeted(box, inbox)
    sent = send_all(box)
    assert inbox.take(b"c", sent[0].seq) is not None  # the second one never came
    greeted(box, inbox, b"new connection")
    again = send_all(box)
    assert [index(m) for m in again] == [1]
    assert inbox.take(b"new connection", again[0].seq) is not None
    assert inbox.counters["missed"] == 0


@pytest.mark.parametrize("mode", ["live", "recorded"])
def test_nothing_overtakes_what_a_broken_connection_swallowed(mode: Mode) -> None:
    """Found by the nemesis: a tick right behind the Hello came before those that were to be sent again."""
    box, inbox = Outbox("clip", mode, TICK), Inbox(2, mode)
    greeted(box, inbox)
    box.offer("clip", a_tick(0))
    assert len(send_all(box)) == 1  # and its connection breaks
    hello = box.hello(0)
    box.offer("clip", a_tick(1))
    assert send_all(box) == []
    answer = inbox.hello(b"new connection", hello)
    box.credit(answer, 0)
    for expected, message in enumerate(send_all(box)):
        assert index(message) == expected
        assert inbox.take(b"new connection", message.seq) is not None
    assert inbox.counters == {"strangers": 0, "replayed": 0, "missed": 0}
    assert box.under_way == 2


def test_sender_that_hears_an_old_answer_goes_on_waiting_for_the_last() -> None:
    box, inbox = Outbox("clip", "live", TICK), Inbox(2, "live")
    greeted(box, inbox)
    box.offer("clip", a_tick(0))
    send_all(box)
    old = inbox.hello(b"c", box.hello(0))
    box.offer("clip", a_tick(1))
    box.credit(old, 0)
    assert [index(m) for m in send_all(box)] == [0, 1]
    last = box.hello(1)
    box.offer("clip", a_tick(2))
    box.credit(old, 1)
    assert send_all(box) == []
    box.credit(inbox.hello(b"c", last), 1)
    assert [index(m) for m in send_all(box)] == [0, 1]
    box.credit(inbox.hello(b"c", last), 1)  # the same once more: nothing is sent a third time
    assert send_all(box) == []


def test_gap_is_counted_live_and_fatal_recorded() -> None:
    for mode in ("live", "recorded"):
        inbox = Inbox(2, mode)
        box = Outbox("x", mode, TICK)
        inbox.hello(b"c", box.hello(0))
        if mode == "live":
            assert inbox.take(b"c", 3) is not None
            assert inbox.counters["missed"] == 3
        else:
            with pytest.raises(GapError, match=r"missing from a recording, got 3 messages \[x\]"):
                inbox.take(b"c", 3)


def test_replayed_and_unannounced_messages_are_nobodys() -> None:
    inbox, box = Inbox(2, "live"), Outbox("x", "live", TICK)
    assert inbox.take(b"c", 0) is None
    inbox.hello(b"c", box.hello(0))
    assert inbox.take(b"c", 0) is not None
    assert inbox.take(b"c", 0) is None
    assert inbox.counters == {"strangers": 1, "replayed": 1, "missed": 0}


def test_renewed_inbox_is_another_receiver() -> None:
    inbox, box = Inbox(2, "live"), Outbox("x", "live", TICK)
    greeted(box, inbox)
    inbox.renew()
    assert inbox.take(b"c", 0) is None
    assert box.credit(inbox.hello(b"c", box.hello(0)), 0) is True


def test_hello_is_due_often_until_answered_and_then_by_need() -> None:
    box, inbox = Outbox("x", "live", TICK), Inbox(2, "live")
    assert box.hello_due_ns() is None
    hello = box.hello(1000)
    assert box.hello_due_ns() == 1000 + GREET_NS
    box.credit(inbox.hello(b"c", hello), 5 * MS)
    assert box.hello_due_ns() == 5 * MS + IDLE_NS
    box.offer("x", a_tick(0))
    send_all(box)
    assert box.hello_due_ns() == 5 * MS + PROBE_NS


class Traffic(RuleBasedStateMachine):
    """Any order of offers, sends, deliveries, answers, broken connections and dying receivers.

    The wires are lists: what is sent lies in `to_receiver` until it is delivered or the connection breaks.
    """

    @initialize(mode=st.sampled_from(["live", "recorded"]))
    def begin(self, mode: str) -> None:
        self.mode = mode
        self.box = Outbox("door", mode, TICK)  # type: ignore[arg-type]
        self.inbox = Inbox(TICK.window_in(mode), mode)  # type: ignore[arg-type]
        self.connection = 0
        self.to_receiver: list[object] = []
        self.to_sender: list[object] = []
        self.held: list[tuple[object, Message]] = []
        self.done: list[int] = []
        self.said = 0
        self.produced = 0
        self.deaths = 0

    @rule()
    def offer(self) -> None:
        if self.mode == "recorded" and self.box.full:
            return
        self.box.offer("door", a_tick(self.produced, size=2))
        self.produced += 1

    @rule()
    def send(self) -> None:
        self.to_receiver += send_all(self.box)

    @rule()
    def ask(self) -> None:
        self.to_receiver.append(self.box.hello(0))

    @rule()
    def deliver(self) -> None:
        if not self.to_receiver:
            return
        item = self.to_receiver.pop(0)
        connection = str(self.connection).encode()
        if isinstance(item, Message):
            peer = self.inbox.take(connection, item.seq)
            if peer is not None:
                self.held.append((peer, item))
        else:
            self.to_sender.append(self.inbox.hello(connection, item))  # type: ignore[arg-type]

    @rule()
    def finish_one(self) -> None:
        if self.held:
            peer, message = self.held.pop(0)
            self.done.append(index(message))
            self.said += dropped(message)
            self.to_sender.append(self.inbox.done(peer, message.seq))  # type: ignore[arg-type]

    @rule()
    def credit(self) -> None:
        if self.to_sender:
            self.box.credit(self.to_sender.pop(0), 0)  # type: ignore[arg-type]

    @rule()
    def break_connection(self) -> None:
        self.connection += 1
        self.to_receiver.clear()
        self.to_sender.clear()

    @rule()
    def receiver_dies(self) -> None:
        if self.mode == "live":
            self.break_connection()
            self.inbox = Inbox(TICK.window, "live")
            self.held.clear()
            self.deaths += 1

    @invariant()
    def counters_balance(self) -> None:
        if not hasattr(self, "box"):
            return
        c = self.box.counters
        assert c["produced"] == self.produced
        whole = c["done"] + c["dropped"] + c["lost"] + self.box.waiting + self.box.under_way
        assert whole == self.produced
        # A recording drops nothing: what a broken connection gives back waits beside a full queue.
        assert self.box.waiting <= TICK.queue + (TICK.window_in("recorded") if self.mode == "recorded" else 0)
        assert self.box.under_way <= TICK.window_in(self.mode)
        assert len(self.held) <= TICK.window_in(self.mode) * (1 + self.deaths)

    @invariant()
    def order_is_kept(self) -> None:
        if hasattr(self, "done"):
            assert self.done == sorted(set(self.done))

    def teardown(self) -> None:
        """Left in peace, everything that is not lost arrives, and every drop has been said."""
        if not hasattr(self, "box"):
            return
        for _ in range(200):
            if self.box.settled and not self.held:
                break
            self.ask()
            while self.to_receiver or self.to_sender or self.held:
                self.deliver()
                self.finish_one()
                self.credit()
            self.send()
        assert self.box.settled
        c = self.box.counters
        assert c["done"] + c["dropped"] + c["lost"] == self.produced
        if self.mode == "recorded":
            assert self.done == list(range(self.produced))
        if not self.deaths:
            assert len(self.done) + c["dropped"] == self.produced
            assert c["lost"] == 0
            unsaid = self.produced - 1 - max(self.done, default=-1)
            assert self.said == c["dropped"] - unsaid


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=100, stateful_step_count=60)
