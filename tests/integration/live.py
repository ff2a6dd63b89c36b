"""`streamfuse run` as its user has it: a process of its own, its lines, its children, its metrics."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.ports import free_port

DEADLINE_S = 60.0
"""For what takes seconds on an idle machine; it only bounds a failing test."""
HANG = Path(__file__).with_name("hang")
"""Holds a sitecustomize.py that makes every child hang in a busy loop at SIGUSR1."""

Line = dict[str, Any]


class LiveRun:
    """A run of `streamfuse run SOURCES --json` and what it says.

    with LiveRun({"door": "rtsp://..."}, model=path) as run:
        run.until(lambda: run.labels("door"), "labels of door")
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        *options: str,
        model: Path,
        run_dir: Path | None = None,
        metrics: bool = False,
        env: Mapping[str, str] | None = None,
        read: bool = True,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sf-"))  # short: sockets have at most 107 bytes of path
        self.run_dir = run_dir or self.folder / "run"
        self.stderr = self.folder / "stderr"
        self.port = free_port() if metrics else 0
        argv = [sys.executable, "-m", "streamfuse.cli.main", "run", "--json", "--run-dir", str(self.run_dir)]
        argv += ["--model", str(model), "--device", "cpu", *options]
        argv += ["--metrics-port", str(self.port)] if metrics else []
        argv += [f"{name}={source}" for name, source in sources.items()]
        self.argv = argv
        paths = [str(HANG), os.environ.get("PYTHONPATH", "")]
        self.lines: list[Line] = []
        self.arrived_ns: list[int] = []
        self._changed = threading.Condition()
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **(env or {})},
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        if read:
            self._reader.start()

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, *_: object) -> None:
        left = self.children()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        for child in left:
            if child.is_running():
                child.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(json.loads(line))
                self.arrived_ns.append(SYSTEM.monotonic_ns())
                self._changed.notify_all()

    def until(self, done: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        """Wait until `done()` is true, looking at every new line and ten times a second; return it."""
        end_ns = SYSTEM.monotonic_ns() + round(deadline_s * NS)
        while not (value := done()):
            assert self.process.poll() is None, (
                f"{what}: the run ended with {self.process.poll()}; {self.said()}"
            )
            assert SYSTEM.monotonic_ns() < end_ns, f"{what}: not within {deadline_s} s; {self.said()}"
            with self._changed:
                self._changed.wait(0.1)
        return value

    def labels(self, source: str, *, after: int = 0) -> list[Line]:
        """The labels of a source, from line `after` on."""
        return [line for line in self.lines[after:] if line["source"] == source]

    def first_label_ns(self, source: str, after: int, session: int = -1) -> int | None:
        """When the first label of a later session than `session` came, looking from line `after` on."""
        for line, at in list(zip(self.lines, self.arrived_ns, strict=False))[after:]:
            if line["source"] == source and line["session"] > session:
                return at
        return None

    def session(self, source: str) -> int:
        return max((line["session"] for line in self.labels(source)), default=-1)

    def complaints(self) -> list[str]:
        return [x for x in self.stderr.read_text().splitlines() if x.startswith("streamfuse: ")]

    def said(self) -> str:
        logs = "".join(
            f"\n{path.name}: {path.read_text()[-500:]}" for path in (self.run_dir / "logs").glob("*.log")
        )
        return f"{len(self.lines)} lines; {self.stderr.read_text()[-2000:]}{logs}"

    def children(self) -> list[psutil.Process]:
        try:
            return list(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def named(self, words: str) -> list[psutil.Process]:
        """The children with these words on their command line; one that is just ending has none."""
        return [process for process in self.children() if words in _command(process)]

    def child(self, service: str, name: str = "") -> psutil.Process:
        """The running child of that service and name; of an analyzer and its spare, the one that serves."""
        found = self.named(f"streamfuse.services.{service}")
        found = [p for p in found if not name or name in _command(p)]
        if service == "analyze":
            found = [p for p in found if _listens(p, self.run_dir / "ticks-0.sock")]
        assert found, f"no process {service} {name}; {self.said()}"
        return found[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; give its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        code = self.process.wait(deadline_s)
        if self._reader.ident is not None:
            self._reader.join(10)
        return code

    def status(self) -> list[dict[str, Any]]:
        processes: list[dict[str, Any]] = json.loads((self.run_dir / "status.json").read_text())["processes"]
        return processes

    def counters(self, service: str, name: str | None = None) -> dict[str, int]:
        """The last counters of a process that has ended; of an analyzer and its spare, those that served."""
        found = [p for p in self.status() if p["service"] == service and name in (None, p["name"])]
        counters: dict[str, int] = max((p["counters"] for p in found), key=len)
        return counters

    def get(self, path: str) -> tuple[int, str]:
        """What the metrics server answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:  # the publish process is away, or not there yet
            return 0, str(error)

    def metric(self, name: str, **labels: str) -> float | None:
        code, text = self.get("/metrics")
        for family in text_string_to_metric_families(text) if code == 200 else ():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None


def check_order(labels: Sequence[Line]) -> None:
    """Within a session every tick is there, or was counted as dropped; sessions and time only rise."""
    for before, after in pairwise(labels):
        if after["session"] == before["session"]:
            assert after["tick"] == before["tick"] + 1 + after["dropped"], (before, after)
        else:
            assert after["session"] > before["session"], (before, after)
        assert after["start_s"] >= before["start_s"], (before, after)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _listens(process: psutil.Process, path: Path) -> bool:
    try:
        return any(one.laddr == str(path) for one in process.net_connections("unix"))
    except psutil.Error:
        return False


def ctl(run: LiveRun, *words: str) -> tuple[int, str]:
    """Exit code, and the one line that was said."""
    argv = [sys.executable, "-m", "streamfuse.cli.main", "ctl", "--run-dir", str(run.run_dir), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S)
    return done.returncode, (done.stdout or done.stderr).strip()
