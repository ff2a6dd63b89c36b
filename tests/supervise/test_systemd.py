"""systemd's own words on its own kind of socket; time is an argument, so nothing here waits."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamfuse.errors import ConfigError
from streamfuse.supervise.systemd import Pulse, Systemd
from streamfuse.types import NS

WATCHDOG_NS = 10 * NS


class Listener:
    """What systemd hears."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@streamfuse-{tmp_path.name}"
    one = Listener(address)
    yield one
    one.socket.close()


def pulse_of(listener: Listener, watchdog_ns: int | None = WATCHDOG_NS) -> Pulse:
    return Pulse(Systemd(listener.address, watchdog_ns))


def test_ready_is_said_once_and_only_when_the_work_has_begun(listener: Listener) -> None:
    pulse = pulse_of(listener, None)
    pulse.beat(0, None)
    pulse.beat(NS, None)
    assert listener.heard() == []
    pulse.beat(2 * NS, 1)
    pulse.beat(3 * NS, 2)
    assert listener.heard() == ["READY=1"]


def test_ready_is_said_where_every_camera_is_away(listener: Listener) -> None:
    """systemd would else kill and restart what waits for cameras, again and again."""
    pulse = pulse_of(listener)
    pulse.beat(0, None, expected=False)
    assert listener.heard() == []  # not even the processes are there
    pulse.beat(0, 0, expected=False)
    assert listener.heard() == ["READY=1", "WATCHDOG=1"]


def test_watchdog_is_fed_twice_an_interval_while_the_work_gets_on(listener: Listener) -> None:
    pulse = pulse_of(listener)
    for step in range(200):
        pulse.beat(step * NS // 10, step)
    assert listener.heard() == ["READY=1", *["WATCHDOG=1"] * 4]


def test_watchdog_is_not_fed_by_a_process_that_is_merely_alive(listener: Listener) -> None:
    pulse = pulse_of(listener)
    pulse.beat(0, 7)
    assert listener.heard() == ["READY=1", "WATCHDOG=1"]
    for step in range(1, 600):
        pulse.beat(step * NS // 10, 7)
    assert listener.heard() == []
    pulse.beat(60 * NS, 8)
    assert listener.heard() == ["WATCHDOG=1"]


def test_watchdog_is_fed_while_nothing_can_be_expected(listener: Listener) -> None:
    pulse = pulse_of(listener)
    pulse.beat(0, 7)
    for step in range(1, 11):
        pulse.beat(step * NS, 7, expected=False)
    assert listener.heard() == ["READY=1", *["WATCHDOG=1"] * 3]


def test_counter_that_begins_anew_is_progress(listener: Listener) -> None:
    """The process that counts was restarted."""
    pulse = pulse_of(listener)
    pulse.beat(0, 900)
    pulse.beat(5 * NS, 3)
    assert listener.heard() == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_stopping_is_said_once_and_the_watchdog_waits(listener: Listener) -> None:
    pulse = pulse_of(listener)
    pulse.beat(0, 7)
    listener.heard()
    for step in range(1, 10):
        pulse.stopping(step * NS)
    assert listener.heard() == ["STOPPING=1", "WATCHDOG=1"]


def test_without_systemd_nothing_is_said() -> None:
    systemd = Systemd.from_environment({})
    assert systemd.watchdog_ns is None
    Pulse(systemd).beat(0, 1)
    systemd.close()


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    Systemd(str(tmp_path / "nobody")).tell("READY=1")


def test_variables_of_systemd_are_understood(listener: Listener) -> None:
    told = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}
    systemd = Systemd.from_environment(told, pid=77)
    assert systemd.watchdog_ns == 30 * NS
    systemd.tell("READY=1", "STATUS=well")
    assert listener.heard() == ["READY=1\nSTATUS=well"]
    assert Systemd.from_environment(told, pid=78).watchdog_ns is None  # the watchdog of another process


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"NOTIFY_SOCKET": "relative"}, "NOTIFY_SOCKET must be a path or an abstract name .*got 'relative'"),
        ({"NOTIFY_SOCKET": "/"}, "NOTIFY_SOCKET must be"),
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC must be a number of microseconds, got 'soon'"),
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC must be a number"),
    ],
)
def test_variables_that_are_wrong_are_told(told: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Systemd.from_environment(told)
