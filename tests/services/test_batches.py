"""The analyze service with streams stepped together, as on a GPU: order, credit, refusals. No sockets."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from streamfuse.batch import BatchAnalyzer
from streamfuse.checkpoint.record import Checkpoint, CheckpointFile
from streamfuse.config import RunConfig
from streamfuse.model.export import export_model
from streamfuse.model.runtime import Model, load_model
from streamfuse.services.analyze import TURN_MESSAGES, AnalyzeService
from streamfuse.services.batches import first_tick, stepped_together
from streamfuse.types import MS, NS, Answer, Carried, Picture, SessionStart, Tick, TickHead
from streamfuse.wire.headers import End
from streamfuse.wire.inbox import GapError
from tests.model.networks import random_network, small_spec

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


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Every branch runs for every row, as on CUDA: then company changes no bit."""
    path, spec = tmp_path_factory.mktemp("whole") / "model.ts", small_spec()
    network = random_network(spec)
    network.shortcuts = False
    export_model(network, spec, path)
    return load_model(path, device="cpu")


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


def test_tick_that_is_none_is_refused_and_the_others_are_answered(bench: Bench) -> None:
    """It must not end the process, as it would within the batch of all."""
    bench.ticks.bring("a", start(), replace(tick("a", 0), samples=np.zeros(100, np.float32)))
    bench.ticks.bring("b", start(), tick("b", 0))
    bench.clock.now_ns = bench.turn()
    bench.turn()
    assert bench.told[-1] == ("b", (0, 0)) and bench.service.counters["refused"] == 1
    assert sum(isinstance(body, Tick) for body in bench.ticks.given_back) == 2, "its credit is given back"


def test_messages_are_read_while_a_batch_is_computed(bench: Bench) -> None:
    """More is there to be read: the answers are not waited for in this turn, but come in the next."""
    bench.ticks.bring("a", start(), tick("a", 0))
    bench.ticks.bring("b", *[start(session) for session in range(TURN_MESSAGES - 2)])
    bench.ticks.bring("b", tick("b", 0, session=TURN_MESSAGES - 3))
    bench.clock.now_ns += 10 * MS
    bench.turn()
    assert ("a", (0, 0)) not in bench.told
    bench.clock.now_ns += 10 * MS
    bench.turn()
    assert bench.told[-2:] == [("a", (0, 0)), ("b", (TURN_MESSAGES - 3, 0))]


def test_on_the_cpu_streams_are_stepped_alone(model: Model, tmp_path: Path) -> None:
    assert stepped_together(model, RunConfig(mode="live", run_dir=str(tmp_path))) is None
    assert stepped_together(model, RunConfig(mode="recorded", run_dir=str(tmp_path))) is None


SESSIONS, TICKS = 2, 9


class Recordings:
    """Recordings of the same media through one analyze process, which dies now and then.

    A reader that is started again gives everything from the beginning; a publisher keeps what it was
    told last, now and then.
    """

    def __init__(self, model: Model, folder: Path, names: str, seed: int = 0) -> None:
        self.model, self.names, self.random = model, names, np.random.default_rng(seed)
        sources = {name: {"input": "clip.mp4", "output": str(folder / name)} for name in names}
        self.config = RunConfig.model_validate(
            {
                "mode": "recorded",
                "run_dir": str(folder),
                "sources": sources,
                "outputs": {"checkpoint_s": 1e-6},
            }
        )
        self.answers: dict[str, dict[tuple[int, int], Answer]] = {name: {} for name in names}
        self.kept = 0
        self.begin()

    def begin(self) -> None:
        together = BatchAnalyzer(
            self.model, streams=len(self.names), max_batch=4, max_wait_ms=5, mode="recorded"
        )
        self.ticks, self.told, self.clock = Ticks(), Answers(), HandClock()
        self.service = AnalyzeService(
            "analyze 0", self.model, self.config, self.ticks, self.told, together=together, clock=self.clock
        )
        self.left = {name: deque(media(name)) for name in self.names}
        self.session: dict[str, int] = {}

    def turn(self) -> None:
        for name in self.random.permutation(list(self.names)):
            for _ in range(int(self.random.integers(0, 3))):
                if self.left[name]:
                    self.ticks.bring(name, self.left[name].popleft())
        self.clock.now_ns += int(self.random.integers(0, 8)) * MS
        self.service.turn(self.clock.now_ns)
        told, self.told.told = self.told.told, []
        for name, body in told:
            if isinstance(body, SessionStart):
                self.session[name] = body.session
            if isinstance(body, Answer):
                assert body.head.session == self.session[name], "what waits is told before the next session"
                self.answers[name][body.head.session, body.head.index] = body
            if isinstance(body, Carried):
                self.keep(name, body)

    def keep(self, name: str, carried: Carried) -> None:
        assert (carried.session, carried.index) == max(self.answers[name]), "of the last answer"
        self.kept += 1
        checkpoint = Checkpoint({}, "running", carried.data)
        CheckpointFile(Path(self.config.sources[name].output)).write(checkpoint)

    def run(self, dies: float = 0.0) -> dict[str, dict[tuple[int, int], Answer]]:
        ended = 0
        while ended < len(self.names):
            self.turn()
            if self.random.random() < dies:
                self.begin()
            ended = sum(isinstance(body, End) for body in self.ticks.given_back)
        return self.answers


def media(name: str) -> list[object]:
    """The same of every recording: two sessions, then the end."""
    items: list[object] = []
    for session in range(SESSIONS):
        items.append(start(session))
        for index in range(TICKS):
            random = np.random.default_rng(100 * session + index)
            samples = random.normal(0, 0.1, 1952).astype(np.float32)
            items.append(replace(tick(name, index, session), samples=samples))
    return [*items, End(source=name, complete=True)]


def test_recording_has_the_same_bits_in_any_company_and_whenever_its_process_dies(
    whole_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "three").mkdir()
    expected = Recordings(whole_model, tmp_path / "alone", "x").run()["x"]
    assert len(expected) == SESSIONS * TICKS
    three = Recordings(whole_model, tmp_path / "three", "abc", seed=1)
    found = three.run(dies=0.1)
    assert three.kept > 10
    for name in "abc":
        assert list(found[name]) == sorted(found[name]) == list(expected), "in order, none left out"
        for at, answer in found[name].items():
            assert answer.warm == expected[at].warm
            for head, row in answer.probabilities.items():
                np.testing.assert_array_equal(row, expected[at].probabilities[head])


def test_recording_of_which_a_tick_is_missing_goes_no_further(whole_model: Model, tmp_path: Path) -> None:
    one = Recordings(whole_model, tmp_path, "x")
    one.ticks.bring("x", start(), tick("x", 0), tick("x", 2))
    with pytest.raises(GapError, match="no tick of a recording may be missing"):
        one.service.turn(one.clock.now_ns)


def test_publisher_that_is_new_begins_recordings_at_their_checkpoints(
    whole_model: Model, tmp_path: Path
) -> None:
    """Nothing of what was under way is told to it."""
    one = Recordings(whole_model, tmp_path, "x")
    one.ticks.bring("x", start(), tick("x", 0))
    one.told.handle = lambda: True  # type: ignore[method-assign]
    one.told.box.forget = lambda: None
    one.service.turn(one.clock.now_ns)
    one.told.told.clear()
    one.ticks.bring("x", tick("x", 1))
    with pytest.raises(GapError, match="got tick 1 of session 0 after -1"):
        one.service.turn(one.clock.now_ns)
