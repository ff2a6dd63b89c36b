"""Recordings in publish, without processes: reports in time; what vanishes costs only itself."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from streamfuse.config import RunConfig, SourceConfig
from streamfuse.model.inspect import ModelFile
from streamfuse.services.loop import Reporter, Wake, serve
from streamfuse.services.recordings import RecordingsService
from streamfuse.sinks import jsonl
from streamfuse.types import MS, NS, SessionStart
from streamfuse.wire.broadcast import Publisher
from streamfuse.wire.codec import Body, Message
from streamfuse.wire.headers import End, Progress
from streamfuse.wire.link import Delivery
from streamfuse.wire.transport import Wire
from tests.clips import Clip
from tests.hand_clock import HandClock
from tests.labels.made import SCENE, answer, tick_head
from tests.pipeline.fakes import fake_spec

START = SessionStart(0, 0, 0, frozenset({"video", "audio"}))


class Answers:
    """An Inlet that has been sent all this already."""

    box = SimpleNamespace(peers=(), leave=lambda _: None)

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.socket = self.monitor = Wake()
        self.sent: deque[tuple[str, Body]] = deque()

    def send(self, name: str, *bodies: Body) -> None:
        self.sent.extend((name, body) for body in bodies)

    def handle_monitor(self) -> None:
        """Nobody comes or goes."""

    def receive(self) -> Delivery | None:
        name, body = self.sent.popleft() if self.sent else ("", None)
        return None if body is None else Delivery(cast(Any, None), Message(name, 0, body))

    def done(self, delivery: Delivery) -> None:
        """Credit is nobody's."""


def answers_of(count: int) -> list[Body]:
    ended = End(source="", complete=True, duration_ns=count * 100 * MS)
    return [START, *(answer(tick_head(i), scene=(0.8, 0.1, 0.1)) for i in range(count)), ended]


class Desk:
    """A RecordingsService of some recordings, and what it reports."""

    def __init__(self, folder: Path, *recordings: Path) -> None:
        (run_dir := folder / "run").mkdir(mode=0o700)
        sources = {
            path.stem: SourceConfig(input=str(path), output=str(folder / path.stem)) for path in recordings
        }
        config = RunConfig(mode="recorded", run_dir=str(run_dir), sources=sources)
        spec = msgspec.structs.replace(fake_spec(), heads=(SCENE,))
        model = ModelFile(folder / "m.ts", spec, "0" * 64, 0, b"")
        self.answers, self.clock, self.wire, self._results = (
            Answers(),
            HandClock(),
            Wire(),
            run_dir / "results",
        )
        self.reports: list[tuple[int, Progress]] = []
        world = SimpleNamespace(publish=lambda *_: None)
        self._reporter = Reporter(self.wire, (), "publish", "publish", self.clock)
        self._reporter._publisher = cast(Publisher, self)
        quiet = dict.fromkeys(("turn", "stop", "session", "told", "ended"), lambda *_: None)
        status = SimpleNamespace(**quiet, ports=list)
        parts = cast(Any, (config, model, self.answers, world, status))
        self.service = RecordingsService(*parts, allow=self._reporter.allow, clock=self.clock)

    def publish(self, _: str, body: Progress) -> None:
        self.reports.append((self.clock.now_ns, body))

    def serve(self) -> None:
        stop = cast(Any, SimpleNamespace(asked=False, wake=Wake()))
        try:
            serve(self.service, self.wire, self._reporter, stop, self.clock)
        finally:
            self.wire.close()

    def result(self, name: str) -> dict[str, Any]:
        return json.loads((self._results / f"{name}.json").read_text())

    def longest_silence_ns(self) -> int:
        """Beyond what was announced."""
        spans = zip(self.reports, self.reports[1:], strict=False)
        return max(later - at - body.allowance_ms * MS for (at, body), (later, _) in spans)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Desk, int], None]:
    """Make a desk's lines of labels take so long to write."""

    def slow_down(desk: Desk, takes_ns: int) -> None:
        real = jsonl.LabelLines.write_label

        def write_label(*arguments: Any) -> None:
            desk.clock.now_ns += takes_ns
            real(*arguments)

        monkeypatch.setattr(jsonl.LabelLines, "write_label", write_label)

    return slow_down


@pytest.mark.parametrize("takes_ms", [2, 70, 300])
def test_reports_go_out_in_time_however_slow_the_outputs_are(
    slow: Callable[[Desk, int], None], tmp_path: Path, takes_ms: int
) -> None:
    """An overlay takes 0.1 s for each answer, and 64 were taken in one turn: publish was killed for that."""
    desk = Desk(tmp_path, Clip(seconds=0.2).write(tmp_path / "a.mp4"))
    slow(desk, takes_ms * MS)
    desk.answers.send("a", *answers_of(200))
    desk.serve()
    assert desk.result("a")["result"]["ticks"] == 200
    assert desk.longest_silence_ns() <= NS


def test_time_to_open_and_to_close_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, Clip(seconds=0.2).write(tmp_path / "a.mp4"))

    def slow(name: str) -> None:
        real = getattr(jsonl.LabelLines, name)

        def take_long(*arguments: Any, **named: Any) -> Any:
            desk.clock.now_ns += 10 * NS
            return real(*arguments, **named)

        monkeypatch.setattr(jsonl.LabelLines, name, take_long)

    for name in ("__init__", "settle", "close"):
        slow(name)
    desk.answers.send("a", *answers_of(5))
    desk.serve()
    assert desk.result("a")["status"] == "done"
    assert desk.longest_silence_ns() <= NS


def test_recording_that_is_gone_when_publish_starts_costs_the_others_nothing(tmp_path: Path) -> None:
    here, gone = Clip(seconds=0.2).write(tmp_path / "here.mp4"), tmp_path / "gone.mp4"
    desk = Desk(tmp_path, gone, here)
    desk.answers.send("gone", End(source="gone", complete=False, reason="a source must exist"))
    desk.answers.send("here", *answers_of(5))
    desk.serve()
    assert (desk.result("gone")["status"], desk.result("here")["status"]) == ("failed", "done")


def test_recording_that_vanishes_is_one_line_of_its_own(tmp_path: Path) -> None:
    here, gone = (Clip(seconds=0.2).write(tmp_path / f"{name}.mp4") for name in ("here", "gone"))
    desk = Desk(tmp_path, gone, here)
    gone.unlink()
    for name in ("gone", "here"):
        desk.answers.send(name, *answers_of(5))
    desk.serve()
    assert desk.result("here")["status"] == "done"
    assert desk.result("gone")["error"] == (
        f"a recording must stay readable until it is done, got No such file or directory [{gone}]"
    )
