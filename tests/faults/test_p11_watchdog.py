"""P11: systemd hears READY when labels come, and is fed while they come, not while a process is alive."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from streamfuse.services.process import environment
from streamfuse.supervise.systemd import VARIABLES
from tests.integration.live import LiveRun
from tests.ports import free_port

PATTERN = "lavfi:testsrc2=size=64x48:rate=10"
WATCHDOG_US = 1_000_000


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self.words: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(WATCHDOG_US)}

    def heard(self, word: str) -> int:
        """How often it was said so far."""
        while True:
            try:
                self.words += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.words.count(word)


def test_p11_watchdog_is_fed_by_labels(tiny_model: Path, tmp_path: Path) -> None:
    systemd = Systemd(tmp_path)
    with LiveRun({"door": PATTERN}, model=tiny_model, env=systemd.environment) as run:
        run.until(lambda: run.lines or systemd.heard("READY=1"), "the first label")
        run.until(lambda: systemd.heard("READY=1") == 1 and systemd.heard("WATCHDOG=1") > 3, "it is fed")
        # The publisher stands still: the decoder, the analyzer and the supervisor are as alive as before.
        publisher, mark = run.child("publish"), len(run.lines)
        publisher.suspend()
        run.until(lambda: not publisher.is_running(), "the supervisor has noticed")
        before = systemd.heard("WATCHDOG=1")
        run.until(lambda: len(run.lines) > mark + 10, "labels again")
        run.until(lambda: systemd.heard("WATCHDOG=1") > before + 2, "it is fed again")
        assert run.stop() == 0, run.said()
    assert systemd.heard("READY=1") == 1  # by the supervisor alone: its children do not speak for it
    assert systemd.heard("STOPPING=1") == 1


def test_p11_a_run_whose_cameras_are_all_away_is_not_killed(tiny_model: Path, tmp_path: Path) -> None:
    systemd = Systemd(tmp_path)
    away = f"rtsp://127.0.0.1:{free_port()}/cam"
    with LiveRun({"door": away}, model=tiny_model, env=systemd.environment) as run:
        run.until(lambda: systemd.heard("READY=1") and systemd.heard("WATCHDOG=1") > 3, "ready all the same")
        assert run.lines == []
        assert run.stop() == 0, run.said()


def test_p11_children_are_not_given_systemds_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    assert not set(VARIABLES) & set(environment())
