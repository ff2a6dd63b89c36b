"""One run and the world around it: signals, a second instance, readers that lag, leave or never read."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
from pathlib import Path

import psutil
import pytest

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.integration.live import DEADLINE_S, LiveRun, check_order

PATTERN = "lavfi:testsrc2=size=160x120:rate=10;sine=frequency=440"
DRAIN_S = 10.0


def test_subscriber_of_the_documentation_works(meter: Path, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "live.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in program.splitlines() if line]) <= 12
    with LiveRun({"cam": PATTERN}, model=meter) as run:
        run.until(lambda: run.labels("cam"), "labels")
        subscriber = subprocess.Popen(
            [sys.executable, "-c", program, str(run.run_dir)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert subscriber.stdout is not None
            name, time, scene, emotion = subscriber.stdout.readline().split()
            run.until(lambda: run.lines[-1]["time"] > time, "the same label on stdout")
            assert time in {line["time"] for line in run.lines}
            assert (name, scene, emotion) == ("cam", "dark", "loud")
        finally:
            subscriber.kill()
            subscriber.communicate()


def test_stopped_run_has_drained_and_told_everything(meter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LiveRun({"cam": PATTERN}, "-o", str(out), model=meter) as run:
        run.until(lambda: len(run.labels("cam")) > 10, "labels")
        second = subprocess.run(run.argv, capture_output=True, text=True, timeout=DEADLINE_S)
        assert (second.returncode, second.stdout) == (1, "")
        (line,) = second.stderr.splitlines()
        assert line.startswith("streamfuse: one run at a time may use a run directory, got another run")
        mark, children, began_ns = len(run.lines), run.children(), SYSTEM.monotonic_ns()
        run.until(lambda: len(run.lines) > mark + 3, "the first run goes on")
        assert run.stop(signal.SIGINT) == 0, run.said()
        assert (SYSTEM.monotonic_ns() - began_ns) / NS < DRAIN_S
        assert run.complaints() == []
        assert not any(child.is_running() for child in children)
        assert stat.S_IMODE((run.run_dir / "run.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(run.run_dir.stat().st_mode) == 0o700
        check_order(run.labels("cam"))
        assert run.counters("publish")["labels"] == len(run.labels("cam"))
        written = [json.loads(one) for one in (out / "cam.jsonl").read_text().splitlines()]
        assert [one for one in written if one["schema"] == "streamfuse.label/1"] == run.labels("cam")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_second_signal_ends_it_now(meter: Path, number: int, code: int) -> None:
    with LiveRun({"cam": PATTERN}, model=meter) as run:
        run.until(lambda: run.labels("cam") and len(run.children()) == 5, "labels, a spare and a reserve")
        children = run.children()
        run.child("analyze").suspend()  # so that nothing can drain
        run.process.send_signal(number)
        run.until(lambda: len(run.children()) == 3, "the first signal is taken: what stood by has gone")
        run.process.send_signal(number)
        assert run.wait() == code
        _, left = psutil.wait_procs(children, timeout=DEADLINE_S)
        assert not left


def test_head_of_the_output_ends_the_run_cleanly(meter: Path) -> None:
    with LiveRun({"cam": PATTERN}, model=meter, read=False) as run:
        head = subprocess.run(
            ["head", "-n", "3"], stdin=run.process.stdout, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert [json.loads(line)["source"] for line in head.stdout.splitlines()] == ["cam"] * 3
        assert run.process.stdout is not None
        run.process.stdout.close()
        run.process.stdout = None
        assert run.wait() == 0
        assert run.stderr.read_text() == ""


def test_reader_that_never_reads_holds_nothing_up(meter: Path, tmp_path: Path) -> None:
    out = tmp_path / "cam.jsonl"
    with LiveRun({"cam": PATTERN}, "-o", str(tmp_path), model=meter, read=False) as run:
        assert run.process.stdout is not None
        fcntl.fcntl(run.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        run.until(lambda: out.exists() and out.read_text().count("\n") > 25, "labels in the file")
        os.kill(run.child("decode", "cam").pid, signal.SIGKILL)
        mark = out.read_text().count("\n")
        run.until(lambda: out.read_text().count("\n") > mark + 5, "the supervisor still restarts")
        assert run.stop() == 0
        assert any("stdout was not read fast enough" in line for line in run.complaints())
        check_order([json.loads(line) for line in out.read_text().splitlines() if '"tick"' in line])


def test_port_that_is_taken_ends_the_run_with_one_line(meter: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        LiveRun({"cam": PATTERN}, "--metrics-port", str(taken.getsockname()[1]), model=meter) as run,
    ):
        assert run.wait() == 2
        (line,) = run.complaints()
        assert "the metrics address must be free and this machine's own" in line


def test_live_table_in_a_terminal(meter: Path, tmp_path: Path) -> None:
    """A pseudo-terminal of 120 columns: the table is drawn, and Ctrl-C ends the run with 0."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    folder = tmp_path / "r"
    argv = [sys.executable, "-m", "streamfuse.cli.main", "run", f"hall={PATTERN}", "--run-dir", str(folder)]
    argv += ["--model", str(meter), "--device", "cpu"]
    process = subprocess.Popen(
        argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(slave)
    try:
        shown = _read_until(master, process, b"running")
        for word in (b"hall", b"scene", b"emotion"):
            assert word in shown, shown[-2000:]
        process.send_signal(signal.SIGINT)
        shown = _read_until(master, process, None)
        assert process.wait(DEADLINE_S) == 0, shown[-2000:]
        assert b"Traceback" not in shown
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _read_until(master: int, process: subprocess.Popen[bytes], word: bytes | None) -> bytes:
    """What the terminal showed until `word` was in it, or until the program ended."""
    shown = b""
    end_ns = SYSTEM.monotonic_ns() + round(DEADLINE_S * NS)
    while word is None or word not in shown:
        assert SYSTEM.monotonic_ns() < end_ns, shown[-2000:]
        try:
            piece = os.read(master, 65_536)
        except OSError:  # EIO: the other end is closed
            piece = b""
        if not piece:
            assert word is None, shown[-2000:]
            break
        shown += piece
    return shown
