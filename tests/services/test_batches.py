"""The analyze service with streams stepped together, as on a GPU: order, credit, refusals. No sockets."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from streamfuse.batch import BatchAnalyzer
from streamfuse.config import RunConfig
from streamfuse.model.runtime import Model, load_model
from streamfuse.services.analyze import AnalyzeService
from streamfuse.services.batches import first_tick, stepped_together
from streamfuse.types import MS, NS, Answer, Picture, SessionStart, Tick, TickHead
from streamfuse.wire.headers import End

HOP = 100 * MS


class HandClock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now_ns = NS

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns


class Ticks:
    """An inlet's face: what is in `coming` is received; `given_back` is what was done with."""

    def __init__(self) -> None:
        self.coming: deque[SimpleNamespace] = deque()
        self.given_back: list[object] = []
        self.counters: dict[str, int] = {}
        self.socket = self.monitor = None
        self.box = SimpleNamespace(leave=lambda peer: None)

    def bring(self, source: str, *bodies: object) -> None:
        self.coming += [
            SimpleNamespace(message=SimpleNamespace(source=source, body=b), peer=source) for b in bodies
        ]

    def receive(self) -> SimpleNamespace | None:
        return self.coming.popleft() if self.coming else None

    def done(self, delivery: SimpleNamespace) -> None:
        self.given_back.append(delivery.message.body)

    def handle_monitor(self) -> None: ...
    def renew(self) -> None: ...


class Answers:
    """An outlet's face: `told` is what was offered."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.socket = None
        self.box = SimpleNamespace(
            full=False, counters={}, waiting=0, settled=True, holds=lambda source: False
        )

    def offer(self, source: str, body: object) -> None:
        self.told.append((source, body))

    def handle(self) -> bool:
        return False

    def poll(self) -> int:
        return 1 << 62


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model, device="cpu")


class Bench:
    def __init__(self, model: Model, tmp_path: Path, streams: int = 4) -> None:
        config = RunConfig(mode="live", run_dir=str(tmp_path))
        together = BatchAnalyzer(model, streams=streams, max_batch=4, max_wait_ms=5, mode="live")
        together.warm_up(first_tick(model.spec))
        self.ticks, self.answers, self.clock = Ticks(), Answers(), HandClock()
        self.service = AnalyzeService(
            "analyze 0", model, config, self.ticks, self.answers, together=together, clock=self.clock
        )

    def turn(self) -> int:
        return self.service.turn(self.clock.now_ns)

    @property
    def told(self) -> list[tuple[str, object]]:
        """(source, what): an answer by its session and index, anything else by its kind."""
        return [
            (
                source,
                (body.head.session, body.head.index) if isinstance(body, Answer) else type(body).__name__,
            )
            for source, body in self.answers.told
        ]


def kind(body: object) -> object:
    return (body.head.session, body.head.index) if isinstance(body, Answer) else type(body).__name__


@pytest.fixture
def bench(model: Model, tmp_path: Path) -> Bench:
    return Bench(model, tmp_path)


def start(session: int = 0) -> SessionStart:
    return SessionStart(session, 0, 0, frozenset({"video", "audio"}))


def tick(source: str, index: int, session: int = 0) -> Tick:
    head = TickHead(source, session, index, index * HOP, HOP, "ok", "ok")
    planes = tuple(np.full(shape, 90, np.uint8) for shape in ((64, 64), (32, 32), (32, 32)))
    return Tick(head, Picture(planes), np.zeros(1952, np.float32))


def test_ticks_of_all_sources_go_at_once_and_are_done_with_when_answered(bench: Bench) -> None:
    for source in "ab":
        bench.ticks.bring(source, start(), tick(source, 0))
    bench.turn()
    assert bench.told == [("a", "SessionStart"), ("b", "SessionStart"), ("a", (0, 0)), ("b", (0, 0))]
    assert sum(isinstance(body, Tick) for body in bench.ticks.given_back) == 2
    assert bench.service.counters["analysed"] == 2


def test_tick_waits_for_company_no_longer_than_it_may(bench: Bench) -> None:
    for source in "ab":
        bench.ticks.bring(source, start())
    bench.ticks.bring("a", tick("a", 0))
    again_ns = bench.turn()
    assert again_ns == bench.clock.now_ns + 5 * MS
    assert not any(isinstance(body, Tick) for body in bench.ticks.given_back), "credit is not given back yet"
    bench.clock.now_ns = again_ns
    bench.turn()
    assert bench.told[-1] == ("a", (0, 0))
    (stamp,) = [s for s in bench.answers.told[-1][1].head.trace.stamps if s.stage == "analyze"]
    assert stamp.start_ns - stamp.enqueue_ns == 5 * MS, "the wait is queue_wait, not compute"


def test_what_waits_is_answered_before_a_new_session_and_before_the_end(bench: Bench) -> None:
    bench.ticks.bring("b", start())
    bench.ticks.bring(
        "a", start(), tick("a", 0), start(1), tick("a", 0, session=1), End(source="a", complete=True)
    )
    bench.turn()
    assert [what for source, what in bench.told if source == "a"] == [
        "SessionStart", (0, 0), "SessionStart", (1, 0), "End",
    ]  # fmt: skip
    assert bench.service.gauges["streams"] == 1


def test_tick_out_of_order_is_refused_and_costs_nobody_else_anything(bench: Bench) -> None:
    bench.ticks.bring("a", start(), tick("a", 5), tick("a", 4))
    bench.ticks.bring("b", start(), tick("b", 0))
    bench.turn()
    assert bench.service.counters["refused"] == 1
    assert {what for what in bench.told if what[1] != "SessionStart"} == {("a", (0, 5)), ("b", (0, 0))}
    assert sum(isinstance(body, Tick) for body in bench.ticks.given_back) == 3, "its credit is given back"


def test_more_streams_than_the_device_holds_are_refused_and_counted(model: Model, tmp_path: Path) -> None:
    bench = Bench(model, tmp_path, streams=1)
    bench.ticks.bring("a", start(), tick("a", 0))
    bench.ticks.bring("b", start(), tick("b", 0))
    bench.turn()
    assert bench.told == [("a", "SessionStart"), ("a", (0, 0))]
    assert bench.service.counters["refused"] == 2


def test_on_the_cpu_streams_are_stepped_alone(model: Model, tmp_path: Path) -> None:
    assert stepped_together(model, RunConfig(mode="live", run_dir=str(tmp_path))) is None
