"""The analyze service without sockets: messages brought by hand, and recordings whose process dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from streamfuse.checkpoint.record import Checkpoint, CheckpointFile
from streamfuse.config import RunConfig
from streamfuse.services.analyzing import AnalyzeService
from streamfuse.services.streams import Streams
from streamfuse.types import MS, Answer, Carried, Picture, SessionStart, Tick, TickHead
from streamfuse.wire.headers import End
from tests.hand_clock import HandClock

HOP = 100 * MS


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
        self.lost = False
        self.socket = None
        self.box = SimpleNamespace(
            full=False, counters={}, waiting=0, settled=True, holds=lambda source: False
        )

    def offer(self, source: str, body: object) -> None:
        self.told.append((source, body))

    def handle(self) -> bool:
        """Whether the receiver was lost since the last time."""
        lost, self.lost = self.lost, False
        return lost

    def drop_waiting(self) -> None: ...

    def poll(self) -> int:
        return 1 << 62


class Bench:
    """A live service by hand. `streams`: what it steps them with."""

    def __init__(self, streams: Callable[[HandClock], Streams], run_dir: Path) -> None:
        self.ticks, self.answers, self.clock = Ticks(), Answers(), HandClock()
        config = RunConfig(mode="live", run_dir=str(run_dir))
        self.service = AnalyzeService(
            "analyze 0", config, streams(self.clock), self.ticks, self.answers, clock=self.clock
        )

    def turn(self) -> int:
        return self.service.turn(self.clock.now_ns)

    @property
    def told(self) -> list[tuple[str, object]]:
        """(source, what): an answer by its session and index, anything else by its kind."""
        return [(source, _kind(body)) for source, body in self.answers.told]


def _kind(body: object) -> object:
    return (body.head.session, body.head.index) if isinstance(body, Answer) else type(body).__name__


def start(session: int = 0) -> SessionStart:
    return SessionStart(session, 0, 0, frozenset({"video", "audio"}))


def tick(source: str, index: int, session: int = 0) -> Tick:
    head = TickHead(source, session, index, index * HOP, HOP, "ok", "ok")
    planes = tuple(np.full(shape, 90, np.uint8) for shape in ((64, 64), (32, 32), (32, 32)))
    return Tick(head, Picture(planes), np.zeros(1952, np.float32))


SESSIONS, TICKS = 2, 9


class Recordings:
    """Recordings of the same media through one analyze process, which dies now and then.

    A reader that is started again gives everything from the beginning; a publisher keeps what it was
    told last, now and then. `streams`: what each process steps its streams with.
    """

    def __init__(
        self, streams: Callable[[HandClock], Streams], folder: Path, names: str, seed: int = 0
    ) -> None:
        self.streams, self.names, self.random = streams, names, np.random.default_rng(seed)
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
        self.ticks, self.told, self.clock = Ticks(), Answers(), HandClock()
        self.service = AnalyzeService(
            "analyze 0", self.config, self.streams(self.clock), self.ticks, self.told, clock=self.clock
        )
        self.left = {name: deque(media(name)) for name in self.names}
        self.session: dict[str, int] = {}
        self.last: dict[str, tuple[int, int]] = {}
        """Answered by this process; one that died may have come further than it was kept."""

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
                self.last[name] = body.head.session, body.head.index
                self.answers[name][self.last[name]] = body
            if isinstance(body, Carried):
                self.keep(name, body)

    def keep(self, name: str, carried: Carried) -> None:
        assert (carried.session, carried.index) == self.last[name], "of the last answer"
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
