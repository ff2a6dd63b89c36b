"""Streams stepped together: the answers of each alone, and when a batch goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamfuse.analysis import TickAnalyzer
from streamfuse.batch import BatchAnalyzer, BatchStepper, buckets, recorded_batch
from streamfuse.checkpoint.carried import analysed, take_up
from streamfuse.checkpoint.record import Analysed, decode_analysed, encode
from streamfuse.config import ModelConfig
from streamfuse.errors import StageError
from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import HeadSpec, ModelSpec, StateSpec, VideoSpec
from streamfuse.ticks.resume import ResumePoint
from streamfuse.types import MS, Answer, Mode, Picture, Tick, TickHead
from tests.model.networks import model_of

CLOSE = 1e-5
"""Batch size changes the order of float32 sums."""
HOP = 100 * MS


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model, device="cpu")


class Clips(nn.Module):
    """Somebody's own clip model: answers with means over its window; a black picture spoils its state."""

    @torch.jit.export
    def init_state(self, batch: int) -> list[Tensor]:
        return [torch.zeros(batch, 1)]

    def forward(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        black = video[:, 0, -1].amax((1, 2, 3)) < -1.5
        seen = torch.where(black[:, None], float("nan"), state[0] + 1.0)
        scene = torch.stack([video.mean((1, 2, 3, 4, 5)), video[:, 0, 0].mean((1, 2, 3))], 1)
        mood = torch.stack([audio.mean((1, 2)), seen[:, 0]], 1)
        return [scene, mood], [seen]


@pytest.fixture(scope="module")
def clip_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    spec = ModelSpec(
        contract=1,
        name="clips",
        heads=(HeadSpec("scene", ("a", "b")), HeadSpec("emotion", ("none", "c"))),
        views=("frame",),
        video=VideoSpec(frames=4, picture=FrameSpec(size=16)),
        state=(StateSpec("seen", (1, 1)),),
        warm_ticks=3,
    )
    path = tmp_path_factory.mktemp("clips") / "clips.ts"
    return model_of(Clips(), spec, path)


def tick(source: str, index: int, *, session: int = 0, seed: int = 0, shows: bool = True) -> Tick:
    random = np.random.default_rng(seed)
    height, width = 2 * int(random.integers(20, 60)), 2 * int(random.integers(20, 60))
    half = (height // 2, width // 2)
    planes = tuple(random.integers(16, 236, shape, np.uint8) for shape in ((height, width), half, half))
    head = TickHead(source, session, index, index * HOP, HOP, "ok" if shows else "missing", "ok")
    samples = random.normal(0, 0.1, 1952).astype(np.float32)
    return Tick(head, Picture(planes) if shows else None, samples)


def schedule(seed: int, streams: int, turns: int) -> list[list[Tick]]:
    """In each turn some streams have a tick; now and then one loses ticks, sees nothing, begins a session."""
    random = np.random.default_rng(seed)
    at = {f"s{k}": [0, 0] for k in range(streams)}
    plan = []
    for turn in range(turns):
        ticks = []
        for k, (source, place) in enumerate(at.items()):
            if random.random() < 0.2:
                continue
            if random.random() < 0.1:
                place[:] = [place[0] + 1, 0]
            place[1] += int(random.integers(20, 40)) if random.random() < 0.1 else 1
            shows = random.random() > 0.2
            ticks.append(tick(source, place[1], session=place[0], seed=100 * turn + k, shows=shows))
        plan.append(ticks)
    return plan


def batch(model: Model, streams: int = 8, max_batch: int = 4, mode: Mode = "live") -> BatchAnalyzer:
    return BatchAnalyzer(model, streams=streams, max_batch=max_batch, max_wait_ms=5, mode=mode)


def same(got: Answer, expected: Answer) -> None:
    assert (got.head, got.views, got.warm) == (expected.head, expected.views, expected.warm)
    for name, row in expected.probabilities.items():
        np.testing.assert_allclose(got.probabilities[name], row, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("mode", ["live", "recorded"])
@pytest.mark.parametrize("which", ["model", "clip_model"])
def test_streams_together_answer_as_each_alone(
    which: str, mode: Mode, request: pytest.FixtureRequest
) -> None:
    """More streams than a batch holds, streams of clips, gaps, new sessions, nothing to see."""
    model: Model = request.getfixturevalue(which)
    together, alone = batch(model, mode=mode), {f"s{k}": TickAnalyzer(model) for k in range(6)}
    for source in alone:
        together.open(source)
    for ticks in schedule(7, 6, 14):
        expected = {}
        for each in ticks:
            together.add(each, now_ns=0)
            (expected[each.head.source],) = alone[each.head.source].push(each)
        answers = []
        while together.due_ns() is not None:
            answers += together.step()
        assert len(answers) == len(ticks)
        for answer in answers:
            same(answer, expected[answer.head.source])


def test_stream_of_many_waiting_ticks_keeps_their_order(model: Model) -> None:
    together = batch(model)
    together.open("a")
    for index in range(5):
        together.add(tick("a", index), now_ns=index)
    answers = [together.step() for _ in range(5)]
    assert [[a.head.index for a in each] for each in answers] == [[0], [1], [2], [3], [4]]
    assert together.step() == []


def test_batch_goes_when_every_stream_is_there_or_it_is_full_or_the_oldest_has_waited(model: Model) -> None:
    together = batch(model, max_batch=3)
    for source in "abcd":
        together.open(source)
    assert together.due_ns() is None
    together.add(tick("a", 0), now_ns=100)
    together.add(tick("b", 0), now_ns=200)
    assert together.due_ns() == 100 + 5 * MS
    together.add(tick("b", 1), now_ns=300)
    assert together.due_ns() == 100 + 5 * MS, "a second tick of the same stream is for the next batch"
    together.add(tick("c", 0), now_ns=400)
    assert together.due_ns() == 0, "full"
    assert [a.head.source for a in together.step()] == ["a", "b", "c"]
    assert together.due_ns() == 300 + 5 * MS
    for source in "cd":
        together.forget(source)
    together.add(tick("a", 1), now_ns=500)
    assert together.due_ns() == 0, "every stream that is open"


def test_those_that_wait_longest_go_first(model: Model) -> None:
    together = batch(model, max_batch=2)
    for k, source in enumerate("abc"):
        together.open(source)
        together.add(tick(source, 0), now_ns=10 - k)
    assert [a.head.source for a in together.step()] == ["c", "b"]
    assert [a.head.source for a in together.step()] == ["a"]


def black(source: str, index: int) -> Tick:
    """What spoils the state of Clips."""
    planes = [np.full(shape, value, np.uint8) for shape, value in (((32, 32), 16), ((16, 16), 128))]
    whole = tick(source, index, seed=index)
    return replace(whole, picture=Picture((planes[0], planes[1], planes[1])))


@pytest.mark.parametrize("overlapped", [False, True])
def test_answer_that_is_no_number_spoils_one_stream_for_one_tick(clip_model: Model, overlapped: bool) -> None:
    """Also where the next batch is begun before the bad answer is known."""
    together, alone = batch(clip_model), {source: TickAnalyzer(clip_model) for source in "ab"}
    for source in "ab":
        together.open(source)
    answers, expected = [], []
    for turn in range(4):
        for source in "ab":
            each = black(source, turn) if (source, turn) == ("a", 1) else tick(source, turn, seed=turn)
            together.add(each, now_ns=turn)
            expected += alone[source].push(each)
        together.begin()
        if not overlapped or together.under_way > 1:
            answers += together.collect()
    answers += together.collect()
    assert together.counters == alone["a"].counters == {"bad_answers": 1}
    assert not answers[2].probabilities["scene"].any() and not answers[2].warm
    for got, one in zip(answers, expected, strict=True):
        same(got, one)


def test_batch_is_begun_while_the_last_one_is_computed(whole_model: Model) -> None:
    """The answers are those of one batch after the other, and no more than two are under way."""
    overlapped, after = batch(whole_model), batch(whole_model)
    for together in (overlapped, after):
        for source in "ab":
            together.open(source)
    answers, expected = [], []
    for index in range(5):
        for source in "ab":
            overlapped.add(tick(source, index, seed=index), now_ns=index)
            after.add(tick(source, index, seed=index), now_ns=index)
        overlapped.begin()
        answers += overlapped.collect() if overlapped.under_way > 1 else []
        expected += after.step()
    overlapped.add(tick("a", 5), now_ns=5)
    overlapped.begin()
    assert overlapped.waits("a") == 2 and overlapped.due_ns() is None
    with pytest.raises(StageError, match="at most 2 batches may be under way, got one more"):
        overlapped.begin()
    answers += overlapped.collect()
    assert_same_bits(answers, expected)
    overlapped.forget("a")
    assert overlapped.collect() == [], "nobody is there for its answer"


def assert_same_bits(got: Sequence[Answer], expected: Sequence[Answer]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert (one.head, one.views, one.warm) == (other.head, other.views, other.warm)
        for name, row in other.probabilities.items():
            np.testing.assert_array_equal(one.probabilities[name], row)


def bad_ticks() -> dict[str, Tick]:
    whole = tick("a", 0)
    assert whole.picture is not None
    return {
        "short": replace(whole, samples=whole.samples[:1000]),
        "none": replace(whole, samples=whole.samples[:0]),
        "double": replace(whole, samples=whole.samples.astype(np.float64)),
        "two planes": replace(whole, picture=Picture(whole.picture.planes[:2])),
    }


@pytest.mark.parametrize("which", bad_ticks())
def test_bad_tick_is_refused_and_costs_nobody_an_answer(model: Model, which: str) -> None:
    together = batch(model)
    for source in "ab":
        together.open(source)
    together.add(tick("b", 0), now_ns=0)
    with pytest.raises(StageError, match=r"(samples must be float32 \(1952,\)|planes of 420 must be)"):
        together.add(bad_ticks()[which], now_ns=0)
    together.add(tick("a", 0), now_ns=0)  # the same index: what was refused did not count
    assert {answer.head.source for answer in together.step()} == {"a", "b"}


@pytest.mark.parametrize("which", ["whole_model", "clip_model"])
def test_recorded_stream_has_the_same_bits_interrupted_or_not_and_in_any_company(
    which: str, request: pytest.FixtureRequest
) -> None:
    """One stream alone; the same among three, each taken up by a new process again and again."""
    model: Model = request.getfixturevalue(which)
    random, sources = np.random.default_rng(3), ("a", "b", "c")
    plan = [[one for one in ticks if one.head.source in ("s0",)] for ticks in schedule(11, 3, 30)]
    made = [one for ticks in plan for one in ticks]
    made[9] = replace(black("s0", made[9].head.index), head=made[9].head)
    alone = batch(model, mode="recorded")
    alone.open("s0")
    expected = []
    for one in made:
        alone.add(one, now_ns=0)
        expected += alone.step()

    def renewed(states: dict[str, bytes]) -> BatchAnalyzer:
        """A new process, which has the checkpoints of the old one."""
        fresh = batch(model, mode="recorded")
        for source in random.permutation(sources):  # another slot each time
            stepper = BatchStepper(fresh, source)
            if source in states:
                take_up(stepper, decode_analysed(states[source]))
        return fresh

    together, got = renewed({}), []
    for at, one in enumerate(made):
        for source in sources:
            together.add(replace(one, head=replace(one.head, source=source)), now_ns=int(random.integers(9)))
        got += [answer for answer in together.step() if answer.head.source == "b"]
        if at in (2, 9, 10) or random.random() < 0.4:
            states = {s: encode(carried_on(together, s)) for s in sources}
            together = renewed(states)
    assert_same_bits([replace(a, head=replace(a.head, source="s0")) for a in got], expected)
    if which == "clip_model":
        assert any(not a.probabilities["scene"].any() for a in got), "one answer was no number"


def carried_on(together: BatchAnalyzer, source: str) -> Analysed:
    course = together.course(source)
    point = ResumePoint(course.session or 0, course.index, 0, ())
    return analysed(Lane(together, source), point, b"")


class Lane:
    """A stream of a batch as a checkpoint sees it."""

    def __init__(self, together: BatchAnalyzer, source: str) -> None:
        self.model, self.state = together.model, together.state(source)


def test_state_between_two_ticks_only(model: Model) -> None:
    together = batch(model)
    together.open("a")
    together.add(tick("a", 0), now_ns=0)
    with pytest.raises(StageError, match=r"a state is that between two ticks, got a tick that waits \[a\]"):
        together.state("a")
    together.begin()
    with pytest.raises(StageError, match="between two ticks"):
        together.state("a")
    together.collect()
    assert together.state("a").stepped == 1


def test_on_the_cpu_recordings_are_stepped_alone(model: Model) -> None:
    assert recorded_batch(model, ModelConfig()) is None


def test_slot_of_a_forgotten_stream_is_another_ones_as_new(model: Model) -> None:
    together, alone = batch(model, streams=1), TickAnalyzer(model)
    together.open("a")
    together.add(tick("a", 0), now_ns=0)
    together.step()
    together.open("a")
    together.forget("a")
    together.open("b")
    together.add(tick("b", 0, seed=5), now_ns=0)
    same(together.step()[0], alone.push(tick("b", 0, seed=5))[0])


def test_tick_of_no_stream_and_one_out_of_order_are_refused(model: Model) -> None:
    together = batch(model)
    with pytest.raises(StageError, match=r"^a tick must be of an open stream, got a \[batch\]$"):
        together.add(tick("a", 0), now_ns=0)
    together.open("a")
    together.add(tick("a", 5), now_ns=0)
    with pytest.raises(StageError, match=r"must come in order, got tick 4 after 5 \[a\]"):
        together.add(tick("a", 4), now_ns=0)
    assert together.waits("a") == 1


def test_more_streams_than_the_device_holds_is_refused(model: Model) -> None:
    together = batch(model, streams=1)
    together.open("a")
    with pytest.raises(StageError, match="a device holds 1 streams, got one more"):
        together.open("b")


def test_buckets() -> None:
    assert buckets(64, "live") == (1, 2, 4, 8, 16, 32, 64)
    assert buckets(48, "live") == (1, 2, 4, 8, 16, 32, 48)
    assert buckets(1, "live") == (1,) or set(buckets(1, "live")) == {1}
    assert buckets(48, "recorded") == (48,)
