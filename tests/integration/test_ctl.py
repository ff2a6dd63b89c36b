"""A run whose sources change while it goes on: `streamfuse ctl` as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from tests.clips import Clip
from tests.integration.live import DEADLINE_S, LiveRun, check_order, ctl

BARS = "lavfi:smptebars=size=160x120:rate=10;sine=frequency=880"
PATTERN = "lavfi:testsrc2=size=160x120:rate=10;sine=frequency=440"


def rows(run: LiveRun) -> dict[str, dict[str, Any]]:
    code, text = ctl(run, "list", "--json")
    assert code == 0, text
    return {row["name"]: row for row in map(json.loads, text.splitlines())}


def commands(run: LiveRun) -> list[list[str]]:
    """Command lines of the run's processes, without those that are just ending."""
    found = []
    for child in run.children():
        with suppress(psutil.Error):
            found.append(child.cmdline())
    return found


def a_config(path: Path, sources: dict[str, str], **settings: Any) -> Path:
    """JSON is YAML."""
    named = {name: {"input": source} for name, source in sources.items()}
    path.write_text(json.dumps({"sources": named, **settings}))
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_config(tmp_path_factory.mktemp("ctl") / "run.yaml", {"left": PATTERN, "right": BARS})


@pytest.fixture(scope="module")
def run(meter: Path, config: Path) -> Iterator[LiveRun]:
    with LiveRun({}, "-c", str(config), model=meter, metrics=True) as running:
        for name in ("left", "right"):
            running.until(lambda n=name: len(running.labels(n)) > 5, f"labels of {name}")
        yield running


def test_list_says_how_each_source_is(run: LiveRun) -> None:
    found = rows(run)
    assert {name: row["state"] for name, row in found.items()} == {"left": "running", "right": "running"}
    assert found["left"]["shown"] == PATTERN
    assert all(row["ticks"] > 0 and row["dropped"] == row["restarts"] == 0 for row in found.values())
    code, table = ctl(run, "list")
    assert code == 0
    begun = [line.split()[:2] for line in table.splitlines()]  # a long address takes more lines
    assert ["left", "running"] in begun and ["right", "running"] in begun


def test_source_is_added_watched_and_removed(run: LiveRun) -> None:
    session, process = run.session("left"), run.child("decode", "left").pid
    assert ctl(run, "add", "third=lavfi:mandelbrot=size=160x120:rate=10") == (
        0,
        "added third: lavfi:mandelbrot=size=160x120:rate=10",
    )
    run.until(lambda: len(run.labels("third")) > 3, "labels of third")
    run.until(lambda: run.metric("streamfuse_source_up", source="third") == 1, "it is up")
    code, said = ctl(run, "add", "third=lavfi:mandelbrot")
    assert (code, said) == (
        1,
        "streamfuse: each source has a name of its own, got third twice; "
        "remove that one first, or choose another name",
    )
    assert ctl(run, "remove", "third") == (0, "removed third")
    run.until(lambda: "third" not in rows(run), "third leaves the list")
    run.until(lambda: run.metric("streamfuse_source_up", source="third") is None, "it leaves the metrics")
    assert (run.session("left"), run.child("decode", "left").pid) == (session, process)


def test_paused_source_is_let_go_and_begins_a_session_when_it_goes_on(run: LiveRun) -> None:
    session, other = run.session("left"), run.session("right")
    assert ctl(run, "pause", "left") == (0, "paused left")
    run.until(lambda: not [line for line in commands(run) if "left" in line], "its process has gone")
    assert rows(run)["left"]["state"] == "paused"
    assert json.loads((run.run_dir / "run.json").read_text())["paused"] == ["left"], "the page reads it there"
    mark = len(run.lines)
    run.until(lambda: len(run.labels("right", after=mark)) > 5, "the other one goes on")
    assert run.labels("left", after=mark) == []
    assert ctl(run, "pause", "left") == (0, "left is paused already")
    assert ctl(run, "resume", "left") == (0, "left goes on")
    run.until(lambda: run.first_label_ns("left", mark, session), "labels of left again")
    assert ctl(run, "resume", "left")[0] == 1
    assert json.loads((run.run_dir / "run.json").read_text())["paused"] == []
    assert run.session("right") == other


def test_run_is_not_ready_while_every_source_is_away(run: LiveRun) -> None:
    run.until(lambda: run.get("/readyz") == (200, "ready\n"), "ready")
    for name in ("left", "right"):
        assert ctl(run, "pause", name)[0] == 0
    run.until(lambda: run.get("/readyz")[0] == 503, "not ready")
    assert run.get("/healthz") == (200, "ok\n")
    for name in ("left", "right"):
        assert ctl(run, "resume", name)[0] == 0
    run.until(lambda: run.get("/readyz") == (200, "ready\n"), "ready again")


def test_source_that_was_refused_is_tried_again_by_hand(run: LiveRun, tmp_path: Path) -> None:
    clip = tmp_path / "later.mp4"
    assert ctl(run, "add", f"later={clip}")[0] == 0
    run.until(lambda: rows(run)["later"]["state"] == "refused", "there is no such file")
    assert "later.mp4" in rows(run)["later"]["trouble"]
    Clip(seconds=3.0, width=160, height=120, fps=10).write(clip)
    assert ctl(run, "restart", "later") == (0, "restarted later")
    run.until(lambda: run.labels("later"), "labels of later")
    run.until(lambda: rows(run)["later"]["state"] == "done", "it ends, and the run does not")
    assert ctl(run, "remove", "later") == (0, "removed later")


def test_reload_restarts_what_changed_and_says_what_waits(run: LiveRun, config: Path) -> None:
    assert ctl(run, "reload") == (0, "nothing has changed")
    assert ctl(run, "add", "mine=lavfi:allrgb")[0] == 0
    right, session, mark = run.session("right"), run.session("left"), len(run.lines)
    changed = {"left": PATTERN.replace("440", "660"), "right": BARS, "new": BARS}
    a_config(config, changed, trace=False, notify={}, model={"threads": 2})
    code, said = ctl(run, "reload")
    assert (code, said) == (
        0,
        "added new; restarted left; in effect after a new start of the run: model.threads, trace",
    )
    run.until(lambda: run.labels("new", after=mark), "labels of new")
    run.until(lambda: run.first_label_ns("left", mark, session), "labels of left again")
    assert run.session("right") == right
    a_config(config, {"left": changed["left"], "right": BARS}, decode={"read_timeout_s": 7})
    before = {name: run.session(name) for name in ("left", "right")}
    run.process.send_signal(signal.SIGHUP)  # as systemd does
    run.until(
        lambda: "removed new; restarted left, mine, right" in run.stderr.read_text(), "the reload is told"
    )
    assert set(rows(run)) == {"left", "right", "mine"}  # what was added by hand stays
    for name, old in before.items():
        run.until(lambda n=name, o=old: run.session(n) > o, f"labels of {name} again")


def test_reload_gives_a_source_labels_of_its_own(run: LiveRun, config: Path) -> None:
    right, session, mark = run.session("right"), run.session("left"), len(run.lines)
    sources = {name: {"input": row["shown"]} for name, row in rows(run).items() if name != "mine"}
    sources["left"] |= {"labels": {"raw": True}}
    config.write_text(json.dumps({"sources": sources, "decode": {"read_timeout_s": 7}}))
    assert ctl(run, "reload") == (0, "restarted left")
    run.until(lambda: run.first_label_ns("left", mark, session), "labels of left again")
    again = [line for line in run.labels("left", after=mark) if line["session"] > session]
    assert all("raw" in line["scene"] for line in again)
    assert not any("raw" in line["scene"] for line in run.labels("right", after=mark))
    assert run.session("right") == right


def test_configuration_that_is_wrong_changes_nothing(run: LiveRun, config: Path) -> None:
    before = rows(run)
    config.write_text("sources: {left: {inptu: x}}")
    code, said = ctl(run, "reload")
    assert code == 1
    assert "sources.left.inptu" in said
    assert set(rows(run)) == set(before)
    a_config(config, {"left": "gopher://example.org/x"})
    code, said = ctl(run, "reload")
    assert code == 1
    assert "gopher" in said
    assert set(rows(run)) == set(before)


def test_last_source_stays(run: LiveRun) -> None:
    for name in ("mine", "left"):
        assert ctl(run, "remove", name)[0] == 0
    code, said = ctl(run, "remove", "right")
    assert (code, said) == (
        1,
        "streamfuse: a run needs at least one source, got right is the last; pause it, or stop the run",
    )
    assert "known by its name, got nosuch; known: right" in ctl(run, "pause", "nosuch")[1]


def test_password_of_an_added_source_is_nowhere_to_be_read(run: LiveRun) -> None:
    secret = "Xq7nT2vLw9"
    code, said = ctl(run, "add", f"cam=rtsp://bob:{secret}@127.0.0.1:9/x")
    assert (code, said) == (0, "added cam: rtsp://***@127.0.0.1:9/x")
    run.until(lambda: rows(run)["cam"]["state"] == "waiting", "it is tried")
    run.until(
        lambda: "Connection refused [rtsp://***@" in rows(run)["cam"]["trouble"], "why it is away is told"
    )
    logs = "".join(path.read_text() for path in (run.run_dir / "logs").iterdir())
    told = " ".join(word for line in commands(run) for word in line)
    assert secret not in run.stderr.read_text() + logs + told + ctl(run, "list", "--json")[1]
    assert (run.run_dir / "run.json").stat().st_mode & 0o077 == 0
    assert ctl(run, "remove", "cam")[0] == 0


def test_what_is_no_order_is_counted_and_the_next_one_is_carried_out(run: LiveRun) -> None:
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    try:
        stranger.connect(f"ipc://{run.run_dir}/control.sock")
        for parts in ([b""], [b"order/*", b"\xc1", b""], [b"x"] * 9, [b"order/*", b"\x80", b"payload"]):
            stranger.send_multipart(parts)
        assert set(rows(run)) == {"right"}
        run.until(lambda: "order refused (1 so far)" in run.stderr.read_text(), "it is told")
    finally:
        stranger.close(0)
        context.term()


def test_order_of_the_labels_held_through_all_of_it(run: LiveRun) -> None:
    """The last of this run: it ends it."""
    assert run.stop() == 0, run.said()
    for name in ("left", "right", "new", "mine", "third"):
        check_order(run.labels(name))
    code, said = ctl(run, "list")
    assert code == 1
    assert said.startswith("streamfuse: a run must be going on to be controlled, got none")


def test_run_is_found_where_only_one_goes_on(meter: Path, tmp_path: Path) -> None:
    home = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    argv = [sys.executable, "-m", "streamfuse.cli.main"]
    none = subprocess.run([*argv, "ctl", "list"], env=home, capture_output=True, text=True)
    assert none.returncode == 2
    assert "got 0 runs" in none.stderr
    options = ["run", "--json", "--model", str(meter), "--device", "cpu", f"cam={PATTERN}"]
    run = subprocess.Popen([*argv, *options], env=home, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        assert json.loads(run.stdout.readline())["source"] == "cam"
        found = subprocess.run([*argv, "ctl", "list"], env=home, capture_output=True, text=True)
        assert (found.returncode, found.stderr) == (0, "")
        assert "cam" in found.stdout
    finally:
        run.terminate()
        run.communicate(timeout=DEADLINE_S)
