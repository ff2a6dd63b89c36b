"""Starts real service processes over a run directory, and watches them as a supervisor does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamfuse.clock import SYSTEM
from streamfuse.config import ModelConfig, RunConfig, SourceConfig
from streamfuse.config_live import LiveOutputConfig, WireConfig
from streamfuse.labels.lines import event_line, label_line
from streamfuse.services.process import command, environment
from streamfuse.types import MS, NS, Event, Label
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.headers import Progress
from streamfuse.wire.transport import Wire, wait

DEADLINE_NS = 40 * NS
"""Imports of torch on a machine that eight others use are in it."""


@dataclass
class Run:
    """One run: its configuration, its processes, and everything they report and publish."""

    config: RunConfig
    wire: Wire = field(default_factory=Wire)
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    reports: dict[str, Progress] = field(default_factory=dict)
    labels: list[Label] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = Path(self.config.run_dir)
        path = self.folder / "run.json"
        path.touch(mode=0o600)
        path.write_text(self.config.model_dump_json())
        endpoint = self.config.endpoint
        self._progress = Subscriber(self.wire, topics=["progress"], bind=endpoint("progress"))
        self._world = Subscriber(self.wire, topics=["label", "event"], connect=[endpoint("labels")])

    def start(self, service: str, name: str = "", *, standby: bool = False) -> subprocess.Popen[str]:
        title = f"{service} {name}".strip() + (" spare" if standby else "")
        process = subprocess.Popen(
            command(service, self.folder / "run.json", name, standby=standby),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes[title] = process
        return process

    def start_all(self) -> None:
        self.start("publish")
        self.start("analyze", "0")
        for name in self.config.sources:
            self.start("decode", name)

    def look(self) -> None:
        """Take in what has been reported and published."""
        while (message := self._progress.receive()) is not None:
            body = message.body
            assert isinstance(body, Progress)
            self.reports[f"{body.service} {body.source}" if body.service != "publish" else "publish"] = body
        while (message := self._world.receive()) is not None:
            if isinstance(message.body, Label):
                self.labels.append(message.body)
            elif isinstance(message.body, Event):
                self.events.append(message.body)

    def until(self, done: Callable[[], Any], what: str) -> None:
        last_ns = SYSTEM.monotonic_ns() + DEADLINE_NS
        while True:
            self.look()
            if done():
                return
            assert SYSTEM.monotonic_ns() < last_ns, f"{what}: not within the deadline; {self.said()}"
            wait([self._progress.socket, self._world.socket], 20 * MS)

    def state(self, title: str) -> str:
        return self.reports[title].state if title in self.reports else ""

    def code(self, title: str) -> int:
        """The exit code of a process that ends by itself."""
        process = self.processes[title]
        self.until(lambda: process.poll() is not None, f"{title} ends")
        return process.returncode

    def error(self, title: str) -> str:
        process = self.processes[title]
        assert process.stderr is not None
        return process.stderr.read()

    def kill(self, title: str) -> None:
        self.processes[title].kill()
        self.processes[title].wait()

    def lines(self, source: str) -> list[str]:
        return [label_line(label) for label in self.labels if label.head.source == source]

    def event_lines(self, source: str) -> list[str]:
        return [event_line(event) for event in self.events if event.source == source]

    def result(self, source: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.folder / "results" / f"{source}.json").read_text())
        return result

    def said(self) -> str:
        """What the dead have said, for the message of a test that fails."""
        dead = {t: p for t, p in self.processes.items() if p.poll() is not None}
        return "; ".join(f"{t}: {p.returncode} {self.error(t)[-2000:]}" for t, p in dead.items())

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
        self.wire.close()


@contextmanager
def a_run(mode: Any, model: Path, sources: dict[str, SourceConfig], **sections: Any) -> Iterator[Run]:
    """A run in a private folder with a short path, as Unix sockets want it; nothing of it stays."""
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    sections.setdefault("live", LiveOutputConfig())
    sections.setdefault("wire", WireConfig())
    config = RunConfig(
        mode=mode,
        run_dir=str(folder),
        sources=sources,
        model=ModelConfig(path=str(model), device="cpu"),
        **sections,
    )
    run = Run(config)
    try:
        yield run
    finally:
        run.close()
        shutil.rmtree(folder)
