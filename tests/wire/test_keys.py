"""CURVE: who may come in, and that nobody may when the authenticator is gone."""

from __future__ import annotations

import os
import shutil
import socket as sockets
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from streamfuse.cli.main import main
from streamfuse.clock import SYSTEM
from streamfuse.errors import ConfigError, WireError
from streamfuse.types import MS
from streamfuse.wire.keys import Keys, load_pair, new_keys
from streamfuse.wire.link import Delivery, Inlet, Outlet
from streamfuse.wire.transport import Wire, refusals, wait
from tests.wire.samples import a_tick
from tests.wire.test_link import DEADLINE_NS, indices, inlet_of, outlet_of, take, until

REFUSED_WITHIN_NS = 400 * MS


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    new_keys(tmp_path / "keys")
    return Keys(tmp_path / "keys")


@pytest.fixture
def server(keys: Keys) -> Iterator[tuple[Wire, Inlet, str]]:
    wire = Wire(keys)
    inlet = inlet_of(wire, "tcp://0.0.0.0:*")
    port = inlet.socket.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
    yield wire, inlet, f"tcp://127.0.0.1:{port}"
    wire.close()


def refused(inlet: Inlet, outlet: Outlet) -> None:
    """The outlet gets nowhere until its handshakes have failed; nothing of it comes in."""
    before = inlet.counters
    outlet.offer("door", a_tick(0))

    def turn() -> bool:
        assert inlet.receive() is None
        inlet.handle_monitor()
        return any(inlet.counters.get(k, 0) > before.get(k, 0) for k in inlet.counters if "handshake" in k)

    until(turn, outlet, inlet)
    assert not outlet.box._greeted


def delivered(inlet: Inlet, outlet: Outlet, index: int = 1) -> None:
    got: list[Delivery] = []
    outlet.offer("door", a_tick(index))
    until(lambda: take(inlet, got) or index in indices(got), outlet, inlet)


def test_key_files_are_their_owners_alone_and_never_written_over(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = new_keys(tmp_path / "keys")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    with pytest.raises(ConfigError, match="a key is never written over"):
        new_keys(tmp_path / "keys")


def test_secret_key_that_others_may_read_is_refused(keys: Keys) -> None:
    path = keys.folder / "server.key_secret"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"a secret key must be its owner's alone, got mode 0640"):
        load_pair(path)


def test_secret_never_shows(keys: Keys) -> None:
    pair = keys.client()
    assert pair.secret.decode() not in repr(pair)
    assert pair.secret.decode() not in repr(keys)


def test_missing_and_empty_keys_are_said(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Keys(tmp_path).client()
    shutil.copyfile(keys.folder / "client.key", keys.folder / "client.key_secret")
    with pytest.raises(ConfigError, match="has no secret key"):
        keys.client()


def test_client_with_a_known_key_comes_in(server: tuple[Wire, Inlet, str], keys: Keys) -> None:
    _, inlet, address = server
    client = Wire(keys)
    delivered(inlet, outlet_of(client, address))
    client.close()


def test_client_with_an_unknown_key_stays_out(
    server: tuple[Wire, Inlet, str], keys: Keys, tmp_path: Path
) -> None:
    _, inlet, address = server
    new_keys(tmp_path / "other")
    shutil.copyfile(keys.folder / "server.key", tmp_path / "other" / "server.key")
    stranger, friend = Wire(Keys(tmp_path / "other")), Wire(keys)
    refused(inlet, outlet_of(stranger, address))
    assert inlet.counters["handshake_auth"] > 0
    delivered(inlet, outlet_of(friend, address))
    stranger.close()
    friend.close()


def test_client_without_a_key_stays_out(server: tuple[Wire, Inlet, str]) -> None:
    _, inlet, address = server
    plain = Wire()
    refused(inlet, outlet_of(plain, address))
    plain.close()


def test_key_taken_away_no_longer_opens(server: tuple[Wire, Inlet, str], keys: Keys) -> None:
    wire, inlet, address = server
    (keys.clients / "client.key").unlink()
    wire.check()
    client = Wire(keys)
    refused(inlet, outlet_of(client, address))
    client.close()


def test_without_its_authenticator_the_server_lets_nobody_in(
    server: tuple[Wire, Inlet, str], keys: Keys
) -> None:
    """libzmq alone would let everybody in: the domain is enforced, and the check ends the service."""
    wire, inlet, address = server
    assert wire._authenticator is not None
    wire._authenticator.stop()
    with pytest.raises(WireError, match="the authenticator must be running"):
        wire.check()
    client = Wire(keys)
    outlet = outlet_of(client, address)
    outlet.offer("door", a_tick(0))
    last_ns = SYSTEM.monotonic_ns() + REFUSED_WITHIN_NS
    while SYSTEM.monotonic_ns() < last_ns:
        assert inlet.receive() is None
        outlet.handle()
        wait([inlet.socket], 20 * MS)
    assert not outlet.box._greeted
    client.close()


def test_half_open_connections_do_not_keep_others_out(server: tuple[Wire, Inlet, str], keys: Keys) -> None:
    _, inlet, address = server
    port = int(address.rpartition(":")[2])
    half_open = [sockets.create_connection(("127.0.0.1", port)) for _ in range(200)]
    client = Wire(keys)
    delivered(inlet, outlet_of(client, address))
    client.close()
    for raw in half_open:
        raw.close()


def test_raw_garbage_on_the_port_is_counted_and_survived(server: tuple[Wire, Inlet, str], keys: Keys) -> None:
    _, inlet, address = server
    port = int(address.rpartition(":")[2])
    for i in range(200):
        with sockets.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(bytes([i % 256]) * 100)
    client = Wire(keys)
    delivered(inlet, outlet_of(client, address))
    counts: Counter[str] = Counter()
    assert inlet.monitor.poll(DEADLINE_NS // MS)
    refusals(inlet.monitor, counts)
    assert sum(counts.values()) > 0
    client.close()


def test_verb_makes_keys_and_refuses_to_write_over_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "new", str(tmp_path / "k")]) == 0
    assert str(tmp_path / "k" / "server.key_secret") in capsys.readouterr().out
    assert main(["keys", "new", str(tmp_path / "k")]) == 2
    assert "a key is never written over" in capsys.readouterr().err
