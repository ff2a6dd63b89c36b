"""Links, broadcasts and locks on real sockets, each with a deadline and no sleeping."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import zmq

from streamfuse.clock import SYSTEM
from streamfuse.errors import ConfigError, WireError
from streamfuse.private import private_folder
from streamfuse.types import NS, SessionStart, Tick
from streamfuse.wire import transport
from streamfuse.wire.broadcast import Publisher, Subscriber
from streamfuse.wire.codec import Message, encode
from streamfuse.wire.endpoints import AddressTaken, EndpointLock
from streamfuse.wire.headers import End, Hello
from streamfuse.wire.link import Delivery, Inlet, Outlet
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Wire, receive_parts, send_parts, wait
from tests.wire.samples import a_report, a_tick

TICK = TOPICS["tick"]
KINDS = ("tick", "start", "end", "shutdown")
DEADLINE_NS = 60 * NS
"""It only bounds a failing test."""
CLOSED_MS = 60_000
"""Where an address is bound anew, its first socket has to be closed for good: it takes the file away then."""


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    return f"ipc://{tmp_path}/t.sock"


def until(done: Callable[[], Any], *ends: Outlet | Inlet | Subscriber) -> None:
    """Turn the ends' loops until `done()`; fail at the deadline."""
    last_ns = SYSTEM.monotonic_ns() + DEADLINE_NS
    while not done():
        assert SYSTEM.monotonic_ns() < last_ns, "the deadline has passed"
        for end in ends:
            if isinstance(end, Outlet):
                end.handle()
        wait([end.socket for end in ends], 2_000_000)


def inlet_of(wire: Wire, address: str, mode: Any = "live", **options: Any) -> Inlet:
    return Inlet(wire, address, mode=mode, topic=TICK, accepts=KINDS, **options)


def outlet_of(wire: Wire, address: str, mode: Any = "live", name: str = "door") -> Outlet:
    return Outlet(wire, address, name=name, mode=mode, topic=TICK, clock=SYSTEM)


def take(inlet: Inlet, into: list[Delivery], done: bool = True) -> bool:
    """Take in what has come; False, so that `take(...) or <condition>` reads well."""
    while (delivery := inlet.receive()) is not None:
        into.append(delivery)
        if done:
            inlet.done(delivery)
    return False


def indices(deliveries: list[Delivery]) -> list[int]:
    return [d.message.body.head.index for d in deliveries if isinstance(d.message.body, Tick)]


def test_link_carries_every_tick_of_a_recording_in_order(wire: Wire, address: str) -> None:
    """The receiver comes later than the sender, and is slower."""
    outlet = outlet_of(wire, address, "recorded", "clip")
    outlet.offer("clip", SessionStart(0, 0, 0, frozenset({"video", "audio"})))
    got: list[Delivery] = []
    offered = 0
    inlet: Inlet | None = None

    def turn() -> bool:
        nonlocal inlet, offered
        while not outlet.box.full and offered < 300:
            outlet.offer("clip", a_tick(offered, "clip"))
            offered += 1
        inlet = inlet or inlet_of(wire, address, "recorded")
        if (delivery := inlet.receive()) is not None:
            got.append(delivery)
            inlet.done(delivery)
        return offered == 300 and outlet.box.settled

    until(turn, outlet)
    assert isinstance(got[0].message.body, SessionStart)
    assert indices(got) == list(range(300))
    assert outlet.box.counters == {"produced": 300, "done": 300, "dropped": 0, "lost": 0, "resent": 0}


def test_live_link_to_a_receiver_that_does_not_read_drops_the_oldest_and_balances(
    wire: Wire, address: str
) -> None:
    inlet, outlet = inlet_of(wire, address), outlet_of(wire, address)
    got: list[Delivery] = []
    until(lambda: take(inlet, got) or outlet.box._greeted, outlet, inlet)
    for i in range(500):
        outlet.offer("door", a_tick(i))
    assert outlet.box.waiting == TICK.queue
    until(lambda: take(inlet, got) or outlet.box.settled, outlet, inlet)
    ticks = [d.message.body.head for d in got if isinstance(d.message.body, Tick)]
    assert [h.index for h in ticks] == [0, 1, 496, 497, 498, 499]
    assert sum(h.dropped for h in ticks) == outlet.box.counters["dropped"] == 494
    assert ticks[2].dropped == 494
    assert inlet.counters["missed"] == 0


def test_link_survives_the_death_of_its_receiver(wire: Wire, address: str) -> None:
    """A second receiver takes the address over, as a warm spare does; the sender notices and goes on."""
    other = Wire()
    first, outlet = inlet_of(other, address), outlet_of(wire, address)
    got: list[Delivery] = []
    outlet.offer("door", a_tick(0))
    outlet.offer("door", a_tick(1))
    until(lambda: take(first, got, done=False) or len(got) == 2, outlet, first)
    other.close(CLOSED_MS)
    second = inlet_of(wire, address)
    outlet.offer("door", a_tick(2))
    changed = False
    got.clear()

    def turn() -> bool:
        nonlocal changed
        changed |= outlet.handle()
        return take(second, got) or bool(got)

    until(turn, second)
    assert changed
    (tick,) = [d.message.body for d in got if isinstance(d.message.body, Tick)]
    assert (tick.head.index, tick.head.dropped) == (2, 2)
    assert outlet.box.counters["lost"] == 2


def test_sender_may_speak_only_of_its_own_source(wire: Wire, address: str) -> None:
    inlet, outlet = inlet_of(wire, address, own_only=True), outlet_of(wire, address, name="door")
    outlet.offer("window", a_tick(0, "window"))
    outlet.offer("door", a_tick(1, "door"))
    got: list[Delivery] = []
    until(lambda: take(inlet, got) or bool(got), outlet, inlet)
    assert indices(got) == [1]
    assert inlet.counters["malformed"] == 1


def test_second_bind_of_an_ipc_address_is_refused_while_the_first_lives(wire: Wire, address: str) -> None:
    """Without the lock libzmq lets the second one take the first one's traffic, silently."""
    inlet_of(wire, address)
    other = Wire()
    with pytest.raises(AddressTaken, match="one process at a time may bind an address"):
        inlet_of(other, address)
    other.close()
    lock = EndpointLock(address)
    assert not lock.try_acquire()
    wire.close(CLOSED_MS)
    assert lock.try_acquire()
    inlet_of(wire_again := Wire(), address, lock=lock)  # over the stale socket file
    wire_again.close()


def test_run_directory_of_others_is_refused(tmp_path: Path, wire: Wire) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match=r"must be its owner's alone \(0700\), got mode 0755"):
        inlet_of(wire, f"ipc://{tmp_path}/open/t.sock")
    with pytest.raises(ConfigError, match="0700"):
        private_folder(tmp_path / "open")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "open")
    with pytest.raises(ConfigError, match="0700"):
        private_folder(link)


def test_ipc_socket_is_its_owners_alone(wire: Wire, address: str) -> None:
    inlet_of(wire, address)
    assert stat.S_IMODE(Path(address.removeprefix("ipc://")).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("tcp://*:5555", "needs keys"),
        ("tcp://0.0.0.0:5555", "needs keys"),
        ("tcp://192.168.0.7:5555", "needs keys"),
        ("tcp://localhost:5555", "needs keys"),
        ("tcp://[::]:5555", "needs keys"),
        ("udp://127.0.0.1:5555", "an address is ipc://PATH or tcp://HOST:PORT"),
        ("ipc://relative", "an absolute path"),
        ("ipc:///nowhere/at/all/x.sock", "must be there"),
        ("ipc:///tmp/" + "x" * 120, "at most 107 bytes"),
    ],
)
def test_unsafe_addresses_are_refused(wire: Wire, endpoint: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        wire.bind("receive", endpoint, queue=1)
    with pytest.raises(ConfigError, match=says):
        wire.connect("send", endpoint, queue=1)


def test_port_in_use_is_said(wire: Wire) -> None:
    socket = wire.bind("receive", "tcp://127.0.0.1:*", queue=1)
    endpoint = socket.get_string(zmq.LAST_ENDPOINT)
    with pytest.raises(WireError, match="the address cannot be bound, got Address already in use"):
        wire.bind("receive", endpoint, queue=1)


def test_every_socket_is_bounded(wire: Wire, address: str) -> None:
    sockets = [wire.bind("receive", address, queue=5), wire.connect("send", address, queue=5)]
    sockets += [
        wire.bind("publish", address + "2", queue=5),
        wire.connect("subscribe", address + "2", queue=5),
    ]
    for socket in sockets:
        assert (socket.SNDHWM, socket.RCVHWM, socket.LINGER) == (5, 5, 0)
        assert 0 < int(socket.MAXMSGSIZE) <= 32 << 20
        assert socket.SNDTIMEO == socket.RCVTIMEO == 1000
        assert socket.HANDSHAKE_IVL == 5000
    for link in sockets[:2]:
        assert (link.HEARTBEAT_IVL, link.HEARTBEAT_TIMEOUT) == (1000, 3000)


def test_a_slow_subscriber_is_hurt_alone_and_can_tell(wire: Wire, address: str) -> None:
    """One that does not read: the publisher does not wait, the other loses nothing, memory is bounded."""
    publisher = Publisher(wire, topic=TOPICS["label"], bind=address)
    good = Subscriber(wire, topics=["progress"], connect=[address])
    slow = Subscriber(wire, topics=["progress"], connect=[address])
    report = a_report()
    seen: list[Message] = []
    slow_seen: list[Message] = []

    def drain(subscriber: Subscriber, into: list[Message]) -> bool:
        while (message := subscriber.receive()) is not None:
            into.append(message)
        return False

    def both_there() -> bool:
        publisher.publish("door", report)
        drain(good, seen)
        drain(slow, slow_seen)
        return bool(seen and slow_seen)

    def last_seq() -> int:
        return publisher._next["progress", "door"] - 1

    until(both_there, good, slow)
    for i in range(30_000):
        publisher.publish("door", report)
        if i % 400 == 399:  # the queues for one reader hold a thousand
            until(lambda: drain(good, seen) or seen[-1].seq == last_seq(), good)
    assert good.counters["missed"] == 0

    def slow_has_caught_up() -> bool:
        publisher.publish("door", report)  # it takes libzmq a moment to see that there is room again
        return drain(slow, slow_seen) or slow_seen[-1].seq > 30_000

    until(slow_has_caught_up, slow)
    assert slow.counters["missed"] > 0
    assert len(slow_seen) + slow.counters["missed"] == slow_seen[-1].seq - slow_seen[0].seq + 1


def test_subscriber_takes_only_its_topics(wire: Wire, address: str) -> None:
    publisher = Publisher(wire, topic=TOPICS["progress"], bind=address)
    subscriber = Subscriber(wire, topics=["progress/door"], connect=[address])
    seen: list[str] = []

    def turn() -> bool:
        for name in ("window", "door"):
            publisher.publish(name, a_report(name))
        while (message := subscriber.receive()) is not None:
            seen.append(message.source)
        return len(seen) > 2

    until(turn, subscriber)
    assert set(seen) == {"door"}


def raw_sender(address: str) -> Any:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 5000)
    socket.connect(address)
    return context, socket


MALFORMED: list[list[bytes]] = [
    [b""],
    [b"", b""],
    [b"", b"", b""],
    [b"", b"", b"", b""],
    [b"tick/door", b"\x80", b""],
    [b"tick/door", b"\x91" * 1000, b"x" * 1000],
    [b"tick/door", b"\xc1", b""],
    [b"cos\nsystem\n(S'true'\ntR.", b"", b""],
    encode(Message("door", 0, End(source="door", complete=True)))[:2],
    [*encode(Message("door", 0, a_tick(0)))[:2], b"short"],
    [b"tick/other", *encode(Message("door", 0, a_tick(0)))[1:]],
    encode(Message("door", 0, a_report())),
    [b"p"] * 300,
]


def test_ten_thousand_malformed_messages_are_counted_and_the_next_good_one_is_processed(
    wire: Wire, address: str
) -> None:
    inlet, outlet = inlet_of(wire, address), outlet_of(wire, address)
    context, socket = raw_sender(address)
    total, sent = 10_000, 0
    got: list[Delivery] = []

    def turn() -> bool:
        nonlocal sent
        for _ in range(50):
            if sent < total:
                try:
                    socket.send_multipart(MALFORMED[sent % len(MALFORMED)], zmq.NOBLOCK)
                except zmq.Again:
                    break
                sent += 1
        take(inlet, got)
        return inlet.counters["malformed"] == total

    until(turn, inlet)
    outlet.offer("door", a_tick(7))
    until(lambda: take(inlet, got) or bool(got), outlet, inlet)
    assert indices(got) == [7]
    assert inlet.counters["malformed"] == total
    context.destroy(linger=0)


def test_oversized_message_disconnects_its_sender_alone(wire: Wire, address: str) -> None:
    inlet, outlet = inlet_of(wire, address), outlet_of(wire, address)
    context, socket = raw_sender(address)
    socket.send_multipart([b"tick/door", b"x", bytes((32 << 20) + 1)])

    def turn() -> bool:
        assert inlet.receive() is None
        inlet.handle_monitor()
        return inlet.counters.get("disconnects", 0) > 0

    until(turn, inlet)
    context.destroy(linger=0)
    got: list[Delivery] = []
    outlet.offer("door", a_tick(1))
    until(lambda: take(inlet, got) or bool(got), outlet, inlet)
    assert indices(got) == [1]


def test_hello_of_garbage_does_not_take_a_peer_away(wire: Wire, address: str) -> None:
    inlet, outlet = inlet_of(wire, address), outlet_of(wire, address)
    got: list[Delivery] = []
    outlet.offer("door", a_tick(0))
    until(lambda: take(inlet, got) or bool(got), outlet, inlet)
    stranger = wire.connect("send", address, queue=10)
    assert wait([outlet.socket], DEADLINE_NS)
    until(lambda: send_parts(stranger, encode(Message("x", 5, a_tick(9)))), inlet, outlet)
    send_parts(stranger, encode(Message("x", 0, Hello(source="x", epoch=1))))
    outlet.offer("door", a_tick(1))
    until(lambda: take(inlet, got) or len(got) == 2, outlet, inlet)
    assert indices(got) == [0, 1]
    assert inlet.counters["strangers"] == 1


def test_receive_parts_throws_the_rest_of_a_long_message_away(wire: Wire, address: str) -> None:
    socket = wire.bind("receive", address, queue=10)
    context, sender = raw_sender(address)
    sender.send_multipart([b"x" * 999] * 5000)
    sender.send_multipart([b"good"])
    assert wait([socket], DEADLINE_NS)
    parts = receive_parts(socket, 4)
    assert parts is not None
    assert len(parts) == 5
    assert wait([socket], DEADLINE_NS)
    good = receive_parts(socket, 4)
    assert good is not None
    assert bytes(good[-1]) == b"good"
    context.destroy(linger=0)


def test_stuck_socket_is_replaced_and_nothing_is_lost(
    wire: Wire, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that says for ever that a message is there, and has none, as one was seen to do."""
    inlet, outlet = inlet_of(wire, address), outlet_of(wire, address)
    got: list[Delivery] = []
    until(lambda: take(inlet, got) or outlet.box.met, inlet, outlet)
    stuck = outlet.socket
    monkeypatch.setattr("streamfuse.wire.link.promises", lambda socket: socket is stuck)
    for index in range(101):
        outlet.handle()
        if index in (0, 100):
            outlet.offer("door", a_tick(index, "door"))
    assert outlet.socket is not stuck
    until(lambda: take(inlet, got) or outlet.box.settled, outlet)
    assert indices(got) == [0, 100]


def test_receiver_that_closes_leaves_its_senders_their_last_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A sender that had not read it yet would lose it with the connection, and wait until its time is up."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr(transport, "FAREWELL_MS", CLOSED_MS)
    for turn in range(50):
        theirs, ours, address = Wire(), Wire(), f"ipc://{tmp_path}/{turn}"
        inlet, outlet = inlet_of(theirs, address), outlet_of(ours, address)
        outlet.offer("door", End(source="door", complete=True, reason=""))
        got: list[Delivery] = []
        while not take(inlet, got) and not got:
            until(lambda inlet=inlet: inlet.socket.poll(0), outlet)  # type: ignore[misc]
        closing = Thread(target=theirs.close, args=(CLOSED_MS,), daemon=True)
        closing.start()
        until(lambda box=outlet.box: box.settled, outlet)  # type: ignore[misc]
        ours.close()
        closing.join()
