"""What a run shows: JSON lines on stdout or the live table, notices on stderr; and where it hears it from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from rich.console import Console
from rich.live import Live

from streamfuse.cli.board import Board
from streamfuse.cli.lines import PatientStream
from streamfuse.clock import SYSTEM
from streamfuse.config import RunConfig
from streamfuse.model.inspect import inspect_model
from streamfuse.sinks.jsonl import StreamLines
from streamfuse.sinks.table import BoardStatus, StatusBoard
from streamfuse.supervise.supervisor import Notice
from streamfuse.types import NS, Event, Label
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.headers import Progress
from streamfuse.wire.transport import Socket, Wire, wait

REDRAW_NS = NS // 4
STDOUT_S = 1.0
"""At the end, for whoever reads our stdout."""


class Inbox:
    """Labels and events from the publish process, progress from all, in one wait."""

    def __init__(self, wire: Wire, config: RunConfig, screen: Screen) -> None:
        self._progress = Subscriber(wire, topics=["progress"], bind=config.endpoint("progress"))
        self._labels = Subscriber(
            wire, topics=["label", "event"], connect=[config.endpoint("labels")], from_start=True
        )
        self._missed = 0
        self._screen = screen
        self.ports: list[Socket | int] = [self._progress.socket, self._labels.socket]
        """What is waited for; whoever wants to be woken adds its own."""

    def read_progress(self, timeout_ns: int) -> Iterator[Progress]:
        wait(self.ports, timeout_ns)
        self.drain()
        while (message := self._progress.receive()) is not None:
            if isinstance(message.body, Progress):
                self._screen.on_progress(message.body)
                yield message.body

    def drain(self) -> None:
        while (message := self._labels.receive()) is not None:
            before, self._missed = self._missed, self._labels.counters["missed"]
            if self._missed > before:
                self._screen.on_missed(
                    message.source, self._missed - before, events=isinstance(message.body, Event)
                )
            if isinstance(message.body, Label):
                self._screen.on_label(message.body)
            elif isinstance(message.body, Event):
                self._screen.on_event(message.body)


class Screen:
    """The run as its user sees it: JSON lines on stdout, or the live table; notices on stderr."""

    def __init__(self, config: RunConfig, *, show_json: bool, events_only: bool) -> None:
        self._model = inspect_model(config.model.path, sha256=config.model.sha256).spec.name
        self.board = Board(list(config.sources))
        self.refused: set[str] = set()
        """Sources that will never work."""
        self.missed = 0
        """Labels and events that were published and have not come here."""
        self._told_of_loss = False
        self._troubles: dict[str, set[str]] = {}
        """What was said of each source since it last delivered."""
        self._stdout = PatientStream(sys.stdout.fileno()) if show_json else None
        self._lines: StreamLines | None = None
        if self._stdout is not None:
            self._lines = StreamLines(cast(TextIO, self._stdout), labels=not events_only, events=events_only)
        self._console = Console(stderr=True)
        self._began_ns = self._drawn_ns = SYSTEM.monotonic_ns()
        self._device = ", ".join(config.devices)
        self._live = None if show_json else Live(console=Console(), auto_refresh=False)

    @property
    def reader_left(self) -> bool:
        """Whoever read our stdout has gone (`| head`)."""
        return self._lines is not None and not self._lines.wanted

    @contextmanager
    def shown(self) -> Iterator[None]:
        if self._live is None:
            yield
            return
        with self._live:
            yield
            self.draw(now=True)

    def finish(self) -> None:
        """Let the reader of our stdout take what is left; say how much it has not taken."""
        if self._stdout is None:
            return
        self._stdout.finish(STDOUT_S)
        if self._stdout.lost and not self.reader_left:
            self.say(f"stdout was not read fast enough: {self._stdout.lost} lines were thrown away")

    def on_progress(self, report: Progress) -> None:
        self.board.on_progress(report)
        if report.service == "decode" and self._live is None:
            self._tell_trouble(report)
        lost = report.counters.get("lines_lost", 0)
        if lost and report.service == "publish" and not self._told_of_loss:
            self._told_of_loss = True
            self.say("publish: labels cannot be written to their files, and are lost; its log says why")

    def _tell_trouble(self, report: Progress) -> None:
        """Where no table shows it: each trouble of a source that is tried again, once until it delivers."""
        if report.state == "running":
            self._troubles.pop(report.source, None)
        told = self._troubles.setdefault(report.source, set())
        if report.state == "waiting" and report.error and report.error not in told:
            told.add(report.error)
            self.say(f"decode {report.source}: {report.error}; it is tried again")

    def on_label(self, label: Label) -> None:
        self.board.on_label(label, SYSTEM.monotonic_ns())
        if self._lines is not None:
            self._lines.write_label(label)

    def on_event(self, event: Event) -> None:
        if self._lines is not None:
            self._lines.write_event(event)

    def on_missed(self, source: str, count: int, *, events: bool) -> None:
        self.missed += count
        what = ("event" if events else "label") + ("s" if count > 1 else "")
        self.say(f"{source}: {count} {what} not shown here: published before this screen was connected again")

    def on_notice(self, notice: Notice) -> None:
        role, source = notice.role, notice.role.service == "decode"
        if source and notice.kind in ("refused", "lost"):
            self.board.on_trouble(role.name, notice.text, over=notice.kind == "refused")
        if notice.kind == "refused" and source:
            self.refused.add(role.name)
        if notice.kind == "paused":  # whoever asked for it is told elsewhere
            self.board.on_pause(role.name)
            return
        ends_the_run = notice.kind in ("refused", "given up") and not source  # which is told as the error
        if notice.kind not in ("started", "done") and not ends_the_run:
            self.say(f"{role.title}: {notice.text}")

    def say(self, text: str) -> None:
        console = self._live.console if self._live is not None else self._console
        console.print(f"streamfuse: {text}", markup=False, highlight=False, soft_wrap=True)

    def draw(self, *, now: bool = False) -> None:
        now_ns = SYSTEM.monotonic_ns()
        if self._live is None or (now_ns - self._drawn_ns < REDRAW_NS and not now):
            return
        self._drawn_ns = now_ns
        about = BoardStatus(now_ns - self._began_ns, self._device, self._model, self.board.summary(now_ns))
        self._live.update(StatusBoard(self.board.statuses(now_ns), about), refresh=True)
