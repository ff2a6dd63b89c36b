"""A run over two hosts: the camera's decode process in one place, analyze and publish in another, with keys.

Both are on this machine, in run directories of their own; all that they share are tcp addresses and keys.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from streamfuse.config import ModelConfig, RunConfig, SourceConfig
from streamfuse.config_live import WireConfig
from streamfuse.wire.codec import Message, encode
from streamfuse.wire.keys import Keys, new_keys
from streamfuse.wire.transport import Wire
from tests.integration.live import DEADLINE_S
from tests.ports import free_port
from tests.services.run import Run
from tests.wire.samples import a_report, a_tick

PATTERN = "lavfi:testsrc2=size=160x120:rate=10;sine=frequency=440"
MALFORMED = 10_000


def client_folder(keys: Path, folder: Path) -> Path:
    """What a machine that only connects is given."""
    folder.mkdir(mode=0o700)
    for name in ("client.key", "client.key_secret", "server.key"):
        shutil.copy2(keys / name, folder / name)
    return folder


def a_host(stack: ExitStack, folder: Path, model: Path, sources: list[str], wire: WireConfig) -> Run:
    folder.mkdir(mode=0o700)
    config = RunConfig(
        mode="live",
        run_dir=str(folder),
        sources={name: SourceConfig(input=PATTERN) for name in sources},
        model=ModelConfig(path=str(model), device="cpu"),
        wire=wire,
    )
    run = Run(config, Wire(None if wire.keys is None else Keys(Path(wire.keys))))
    stack.callback(run.close)
    return run


@dataclass
class Hosts:
    """`centre` analyzes and publishes; `camera` decodes; `stranger` has keys that nobody let in."""

    centre: Run
    camera: Run
    stranger: Run
    ticks: str


@pytest.fixture(scope="module")
def hosts(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    top = tmp_path_factory.mktemp("h")
    keys, others = top / "keys", top / "others"
    new_keys(keys)
    new_keys(others)
    shutil.copy2(keys / "server.key", others / "server.key")  # a public key is no secret
    given = client_folder(keys, top / "given")
    ticks, labels = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    with ExitStack() as stack:
        at_centre = WireConfig(keys=str(keys), ticks=ticks, labels=labels)
        at_camera = WireConfig(keys=str(given), ticks=ticks, labels=labels)
        at_stranger = WireConfig(keys=str(others), ticks=ticks, labels=labels)
        centre = a_host(stack, top / "a", tiny_model, ["door"], at_centre)
        camera = a_host(stack, top / "b", tiny_model, ["door"], at_camera)
        stranger = a_host(stack, top / "c", tiny_model, ["thief"], at_stranger)
        centre.start("publish")
        centre.start("analyze", "0")
        camera.start("decode", "door")
        yield Hosts(centre, camera, stranger, ticks)


def await_count(run: Run, title: str) -> None:
    """Wait until the process counts: its first report is that it starts, and has no counters yet."""
    run.until(lambda: title in run.reports and run.reports[title].counters, f"{title} counts")


def refusals(run: Run) -> int:
    return sum(n for name, n in run.reports["analyze 0"].counters.items() if name == "handshake_auth")


def test_labels_of_a_camera_elsewhere_arrive_here_and_there(hosts: Hosts) -> None:
    for host in (hosts.centre, hosts.camera):  # each has subscribed over tcp, with a key
        host.until(lambda run=host: len(run.lines("door")) > 5, "labels of door")
    hosts.camera.until(lambda: hosts.camera.state("decode door") == "running", "it says that it runs")
    assert not list(hosts.camera.folder.glob("ticks-*.sock")), "it went by no other way"


def test_host_whose_key_was_not_let_in_stays_out_and_is_counted(hosts: Hosts) -> None:
    await_count(hosts.centre, "analyze 0")
    before, seen = refusals(hosts.centre), len(hosts.centre.lines("door"))
    hosts.stranger.start("decode", "thief")
    await_count(hosts.stranger, "decode thief")
    hosts.centre.until(lambda: refusals(hosts.centre) > before, "it is refused")
    hosts.centre.until(lambda: len(hosts.centre.lines("door")) > seen + 3, "the camera goes on")
    assert hosts.centre.lines("thief") == hosts.stranger.lines("thief") == hosts.stranger.lines("door") == []
    assert hosts.stranger.reports["decode thief"].counters["link_done"] == 0
    hosts.stranger.kill("decode thief")


def test_ten_thousand_malformed_messages_of_somebody_with_a_key_are_counted_and_the_camera_goes_on(
    hosts: Hosts,
) -> None:
    centre, keys = hosts.centre, Keys(Path(str(hosts.camera.config.wire.keys)))
    await_count(centre, "analyze 0")
    before = centre.reports["analyze 0"].counters["malformed"]
    tick = encode(Message("door", 0, a_tick(0)))
    bad = [
        [b""],
        [b"tick/door", b"\xc1" * 40, b""],
        [*tick[:2], b"short"],
        [b"tick/window", *tick[1:]],
        encode(Message("door", 0, a_report())),
        [b"part"] * 40,
    ]
    context = zmq.Context()
    sender = context.socket(zmq.DEALER)
    sender.curve_publickey, sender.curve_secretkey = keys.client().public, keys.client().secret
    sender.curve_serverkey = keys.server_public()
    sender.set_hwm(0)
    try:
        sender.connect(hosts.ticks)
        for at in range(MALFORMED):
            sender.send_multipart(bad[at % len(bad)])
        reports, lines = centre.reports, len(centre.lines("door"))
        wanted = before + MALFORMED
        centre.until(lambda: reports["analyze 0"].counters["malformed"] >= wanted, "each is counted")
        centre.until(lambda: len(centre.lines("door")) > lines + 3, "good ones are processed")
        assert reports["analyze 0"].counters["malformed"] == wanted
        assert centre.processes["analyze 0"].poll() is None
    finally:
        sender.close(0)
        context.term()


@pytest.mark.parametrize("channel", ["ticks", "answers", "labels"])
def test_address_that_others_can_reach_without_keys_is_refused_before_anything_starts(
    channel: str, tiny_model: Path, tmp_path: Path
) -> None:
    argv = [sys.executable, "-m", "streamfuse.cli.main", "run", "--json", f"cam={PATTERN}"]
    argv += ["--run-dir", str(tmp_path / "r"), "--model", str(tiny_model)]
    argv += ["--set", f"wire.{channel}=tcp://0.0.0.0:{free_port()}"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert "an address that others can reach needs keys, got tcp://0.0.0.0:" in line
    assert "streamfuse keys new" in line
