"""The analyze service on a CPU: several streams at once, and no result depends on it. No sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamfuse.analysis import TickAnalyzer
from streamfuse.config import ModelConfig
from streamfuse.model.runtime import Model, load_model
from streamfuse.services import alone
from streamfuse.services.alone import PATIENCE_NS, Alone
from streamfuse.types import Answer, SessionStart, Tick
from streamfuse.wire.headers import End
from tests.services.analyze_bench import SESSIONS, TICKS, Bench, Recordings, media, start, tick

AT_MOST_S = 30


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model, device="cpu")


class Watched:
    """The model, whose every step calls `enter` first, in the thread that makes it."""

    def __init__(self, model: Model, enter: Callable[[], object]) -> None:
        self._model, self._enter = model, enter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, *inputs: Any) -> Any:
        self._enter()
        return self._model.step(*inputs)


def bench_of(model: Any, run_dir: Path, threads: int = 3) -> Bench:
    return Bench(lambda clock: Alone(model, threads, clock), run_dir)


def until_told(bench: Bench, count: int) -> None:
    """Turn until so many answers were told."""
    deadline = threading.Event()
    timer = threading.Timer(AT_MOST_S, deadline.set)
    timer.start()
    while sum(isinstance(body, Answer) for _, body in bench.answers.told) < count:
        assert not deadline.is_set(), f"{bench.told} in {AT_MOST_S} s"
        bench.turn()
    timer.cancel()


def expected(model: Model) -> dict[tuple[int, int], Answer]:
    """By one analyzer that has nobody beside it."""
    analyzer = TickAnalyzer(model)
    ticks = [body for body in media("x") if isinstance(body, Tick)]
    return {(t.head.session, t.head.index): answer for t in ticks for answer in analyzer.push(t)}


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_recording_has_the_same_bits_in_any_company_and_whenever_its_process_dies(
    model: Model, tmp_path: Path, threads: int
) -> None:
    three = Recordings(lambda clock: Alone(model, threads, clock), tmp_path, "abc", seed=threads)
    found = three.run(dies=0.05)
    assert three.kept > 0
    wanted = expected(model)
    assert len(wanted) == SESSIONS * TICKS
    for name in "abc":
        assert list(found[name]) == list(wanted), "in order, none left out"
        for at, answer in found[name].items():
            assert answer.warm == wanted[at].warm
            for head, row in answer.probabilities.items():
                np.testing.assert_array_equal(row, wanted[at].probabilities[head])


def test_two_streams_are_stepped_at_the_same_time(model: Model, tmp_path: Path) -> None:
    meeting = threading.Barrier(2, timeout=AT_MOST_S)
    bench = bench_of(Watched(model, meeting.wait), tmp_path)
    for source in "ab":
        bench.ticks.bring(source, start())
    for source in "ab":
        bench.ticks.bring(source, tick(source, 0))
    until_told(bench, 2)
    assert sum(isinstance(body, Tick) for body in bench.ticks.given_back) == 2
    assert bench.service.counters["analysed"] == 2


def test_stream_without_company_is_stepped_in_the_services_own_thread(model: Model, tmp_path: Path) -> None:
    names: list[str] = []
    bench = bench_of(Watched(model, lambda: names.append(threading.current_thread().name)), tmp_path)
    bench.ticks.bring("a", start(), *[tick("a", index) for index in range(3)])
    bench.turn()
    assert [what for _, what in bench.told] == ["SessionStart", (0, 0), (0, 1), (0, 2)]
    assert set(names) == {threading.current_thread().name}


def test_what_waits_is_answered_before_a_new_session_and_before_the_end(model: Model, tmp_path: Path) -> None:
    bench = bench_of(model, tmp_path)
    bench.ticks.bring("b", start())
    bench.ticks.bring("a", start(), tick("a", 0), tick("a", 1), start(1), tick("a", 0, session=1))
    bench.ticks.bring("a", End(source="a", complete=True))
    bench.turn()
    assert [what for source, what in bench.told if source == "a"] == [
        "SessionStart", (0, 0), (0, 1), "SessionStart", (1, 0), "End",
    ]  # fmt: skip
    assert bench.service.gauges["streams"] == 1


def test_tick_out_of_order_is_refused_and_costs_nobody_else_anything(model: Model, tmp_path: Path) -> None:
    bench = bench_of(model, tmp_path)
    bench.ticks.bring("b", start())
    bench.ticks.bring("a", start(), tick("a", 5), tick("a", 4), tick("a", 6))
    bench.ticks.bring("b", tick("b", 0))
    until_told(bench, 3)
    assert bench.service.counters["refused"] == 1
    assert [what for source, what in bench.told if source == "a"] == ["SessionStart", (0, 5), (0, 6)]
    assert sum(isinstance(body, Tick) for body in bench.ticks.given_back) == 4, "its credit is given back"


def test_step_that_takes_long_holds_the_service_up(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor counts turns: with turns beside it, a step that never ends would not be noticed."""
    begun, may_go = threading.Semaphore(0), threading.Event()

    def enter() -> None:
        begun.release()
        may_go.wait(AT_MOST_S)

    def waited_for(futures: Iterable[Any]) -> None:
        held.append(len(list(futures)))
        may_go.set()
        wait(futures)

    held: list[int] = []
    monkeypatch.setattr(alone, "wait", waited_for)
    bench = bench_of(Watched(model, enter), tmp_path)
    for source in "ab":
        bench.ticks.bring(source, start())
    bench.ticks.bring("a", tick("a", 0))
    bench.turn()
    assert begun.acquire(timeout=AT_MOST_S)
    bench.turn()
    assert not held, "not yet slow"
    bench.clock.now_ns += PATIENCE_NS + 1
    bench.turn()
    assert held == [1]
    assert bench.told[-1] == ("a", (0, 0))


def test_answers_of_streams_that_were_forgotten_come_to_nothing(model: Model, tmp_path: Path) -> None:
    """The publisher died: what was under way belongs to sessions that are no more."""
    may_go = threading.Event()
    bench = bench_of(Watched(model, lambda: may_go.wait(AT_MOST_S)), tmp_path)
    for source in "ab":
        bench.ticks.bring(source, start())
    bench.ticks.bring("a", tick("a", 0), tick("a", 1))
    bench.turn()
    bench.answers.lost = True
    bench.turn()
    may_go.set()
    for source in "ab":
        bench.ticks.bring(source, start(1), tick(source, 0, session=1))
    until_told(bench, 2)
    told = [body for _, body in bench.answers.told if isinstance(body, Answer)]
    assert {(answer.head.source, answer.head.session) for answer in told} == {("a", 1), ("b", 1)}
    assert sum(isinstance(body, SessionStart) for _, body in bench.answers.told) == 4


def test_workers_are_as_many_as_the_processors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert ModelConfig().streams_at_once() == 8
    assert ModelConfig(threads=4).streams_at_once() == 2
    assert ModelConfig(threads=16).streams_at_once() == 1
    assert ModelConfig(workers=3).streams_at_once() == 3
