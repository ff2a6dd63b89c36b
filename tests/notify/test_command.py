"""Programs that are started for an event: what they get, and what becomes of those that misbehave."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from streamfuse.clock import SYSTEM
from streamfuse.config_notify import CommandTarget
from streamfuse.notify.command import CommandSender
from streamfuse.notify.courier import Courier, NotTaken
from tests.notify.made import notice
from tests.notify.test_webhook import until

KEEP = """
import json, os, sys
with open(sys.argv[1], "w") as file:
    json.dump({"argv": sys.argv[2:], "event": json.load(sys.stdin), "environ": dict(os.environ)}, file)
"""


def run(*words: object, timeout_s: float = 20) -> None:
    config = {"kind": "command", "run": [str(word) for word in words], "timeout_s": timeout_s}
    CommandSender(CommandTarget.model_validate(config)).send(notice())


def failure(*words: object, timeout_s: float = 20) -> NotTaken:
    with pytest.raises(NotTaken) as caught:
        run(*words, timeout_s=timeout_s)
    return caught.value


def has_ended(pid: int) -> bool:
    """Whether anybody has asked for its exit code is another matter."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_program_gets_its_arguments_as_they_are_and_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOOR_PASSWORD", "geheim")
    words = ("$HOME", "a; touch b", "$(id)", "*", "two words", "")
    run(sys.executable, "-c", KEEP, tmp_path / "kept", *words)
    kept = json.loads((tmp_path / "kept").read_text())
    assert kept["argv"] == list(words)
    assert kept["event"] == json.loads(notice().body)
    assert kept["environ"]["STREAMFUSE_EVENT"] == "new"
    assert "PATH" in kept["environ"]
    assert "geheim" not in str(kept["environ"])


def test_program_that_is_not_there_is_refused_for_good() -> None:
    error = failure("/nowhere/at-all", "--token=geheim")
    assert (str(error), error.again) == (
        "at-all must be a program that can be started, got No such file or directory",
        False,
    )


@pytest.mark.parametrize(("code", "again"), [(1, False), (75, True)])
def test_exit_code_is_told_and_75_asks_for_another_try(code: int, again: bool) -> None:
    error = failure("sh", "-c", f"exit {code}")
    assert (str(error), error.again) == (f"sh must exit with 0, got {code}", again)


def test_program_that_does_not_read_its_input_is_no_failure() -> None:
    run("true")


def test_program_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    error = failure("sh", "-c", f"sleep 1000 & echo $! $$ > {ids}; wait", timeout_s=3)
    assert str(error) == "sh must end within 3 s, got a program that runs"
    for pid in map(int, ids.read_text().split()):
        until(lambda pid=pid: has_ended(pid))  # type: ignore[misc]


def test_program_that_starts_while_the_run_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends between the program's start and our knowing of it."""
    started, let_go, real = threading.Event(), threading.Event(), subprocess.Popen
    made: list[subprocess.Popen[bytes]] = []

    def held_up(*words: object, **options: object) -> subprocess.Popen[bytes]:
        made.append(real(*words, **options))  # type: ignore[call-overload]
        started.set()
        assert let_go.wait(20)
        return made[0]

    monkeypatch.setattr(subprocess, "Popen", held_up)
    config = {"kind": "command", "run": ["sleep", "1000"], "timeout_s": 300}
    sender = CommandSender(CommandTarget.model_validate(config))
    refusals: list[NotTaken] = []

    def send() -> None:
        try:
            sender.send(notice())
        except NotTaken as error:
            refusals.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    assert started.wait(20)
    sender.close()
    let_go.set()
    thread.join(20)
    outlived = thread.is_alive()
    made[0].kill()
    assert not outlived
    assert [str(error) for error in refusals] == ["sleep must exit with 0, got -9"]


def test_program_that_runs_when_the_run_ends_is_ended_and_counted_once(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    words = ["sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 1000"]
    sender = CommandSender(CommandTarget.model_validate({"kind": "command", "run": words, "timeout_s": 300}))
    lamp = Courier("lamp", sender, queue=9, retry_max_s=1, clock=SYSTEM, rng=random.Random(0))
    lamp.offer(notice(0))
    lamp.offer(notice(1))
    until(pid.exists)
    lamp.close(SYSTEM.monotonic_ns())
    number = int(pid.read_text())
    until(lambda: has_ended(number))
    lamp._thread.join(20)
    assert lamp.counts == {"sent": 0, "failed": 0, "dropped": 2}
