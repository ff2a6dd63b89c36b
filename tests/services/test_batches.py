"""The analyze service with streams stepped together, as on a GPU: order, credit, refusals. No sockets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamfuse.batch import BatchAnalyzer
from streamfuse.config import RunConfig
from streamfuse.model.runtime import Model, load_model
from streamfuse.services.analyzing import TURN_MESSAGES
from streamfuse.services.batches import Batches, first_tick, stepped_together
from streamfuse.types import MS, NS, Carried, Tick
from streamfuse.wire.headers import End, Shutdown
from streamfuse.wire.inbox import GapError
from tests.hand_clock import HandClock
from tests.services.analyze_bench import SESSIONS, TICKS, Bench, Recordings, media, start, tick


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model, device="cpu")


@pytest.fixture
def bench(model: Model, tmp_path: Path) -> Bench:
    return of_batches(model, tmp_path)


def of_batches(model: Model, tmp_path: Path, streams: int = 4) -> Bench:
    together = BatchAnalyzer(model, streams=streams, max_batch=4, max_wait_ms=5, mode="live")
    together.warm_up(first_tick(model.spec))
    return Bench(lambda clock: Batches(together, clock), tmp_path)


def recordings(model: Model, folder: Path, names: str, seed: int = 0) -> Recordings:
    def streams(clock: HandClock) -> Batches:
        together = BatchAnalyzer(model, streams=len(names), max_batch=4, max_wait_ms=5, mode="recorded")
        return Batches(together, clock)

    return Recordings(streams, folder, names, seed)


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
    bench = of_batches(model, tmp_path, streams=1)
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


def test_recording_has_the_same_bits_in_any_company_and_whenever_its_process_dies(
    whole_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "three").mkdir()
    expected = recordings(whole_model, tmp_path / "alone", "x").run()["x"]
    assert len(expected) == SESSIONS * TICKS
    three = recordings(whole_model, tmp_path / "three", "abc", seed=1)
    found = three.run(dies=0.1)
    assert three.kept > 10
    for name in "abc":
        assert list(found[name]) == sorted(found[name]) == list(expected), "in order, none left out"
        for at, answer in found[name].items():
            assert answer.warm == expected[at].warm
            for head, row in answer.probabilities.items():
                np.testing.assert_array_equal(row, expected[at].probabilities[head])


def test_recording_of_which_a_tick_is_missing_goes_no_further(whole_model: Model, tmp_path: Path) -> None:
    one = recordings(whole_model, tmp_path, "x")
    one.ticks.bring("x", start(), tick("x", 0), tick("x", 2))
    with pytest.raises(GapError, match="no tick of a recording may be missing"):
        one.service.turn(one.clock.now_ns)


def test_publisher_that_is_new_begins_recordings_at_their_checkpoints(
    whole_model: Model, tmp_path: Path
) -> None:
    """Nothing of what was under way is told to it."""
    one = recordings(whole_model, tmp_path, "x")
    one.ticks.bring("x", start(), tick("x", 0))
    one.told.box.forget = lambda: None
    one.service.turn(one.clock.now_ns)
    one.told.told.clear()
    one.told.lost = True
    one.ticks.bring("x", tick("x", 1))
    with pytest.raises(GapError, match="got tick 1 of session 0 after -1"):
        one.service.turn(one.clock.now_ns)


def test_recording_whose_reader_was_killed_while_stopping_hands_its_state_on(
    whole_model: Model, tmp_path: Path
) -> None:
    """Its `End` never comes: the time is up, and without the state there would be no checkpoint."""
    bench = recordings(whole_model, tmp_path, "a")
    for body in media("a")[:4]:
        bench.ticks.bring("a", body)
    bench.service.turn(bench.clock.now_ns)
    bench.service.stop(bench.clock.now_ns)
    bench.service.turn(bench.clock.now_ns)
    assert not bench.service.finished
    bench.clock.now_ns += 6 * NS
    bench.service.turn(bench.clock.now_ns)
    assert bench.service.finished
    carried, goodbye = [body for _, body in bench.told.told][-2:]
    assert isinstance(carried, Carried) and (carried.session, carried.index) == (0, 2)
    assert isinstance(goodbye, Shutdown)
