"""Labels and events as the pipeline makes them, for any length, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from streamfuse.types import MS, NS, Event, HeadLabel, Label, Presence, TickHead

HOP = 100 * MS
SCENES = ("street", "indoor", "forest", "sea", "mountain", "building")
EMOTIONS = ("none", "neutral", "happy", "sad", "angry", "fear")
SOUNDS = ("speech", "rain", "dog", "engine", "footsteps")


def said(label: str, score: float) -> HeadLabel:
    return HeadLabel(label, score, None, ((label, score),))


def said_many(*labels: tuple[str, float]) -> HeadLabel:
    return HeadLabel(None, None, labels, labels)


def make_label(
    tick: int = 0,
    *,
    source: str = "clip",
    session: int = 0,
    scene: HeadLabel | None = None,
    emotion: HeadLabel | None = None,
    sound: HeadLabel | None = None,
    offset_ns: int = 0,
    face: Presence = "ok",
    time: str | None = None,
    latency: dict[str, int] | None = None,
    dropped: int = 0,
) -> Label:
    head = TickHead(source, session, tick, offset_ns, HOP, video="ok", audio="ok", dropped=dropped)
    heads = {"scene": scene or said("street", 0.8123), "emotion": emotion or said("happy", 0.61)}
    if sound is not None:
        heads["sound"] = sound
    modalities: dict[str, Presence] = {"video": "ok", "face": face, "audio": "ok"}
    return Label(head, heads, modalities, warm=True, time=time, latency=latency)


def make_event(
    label: str = "street",
    start_s: float = 1.0,
    end_s: float = 4.5,
    *,
    head: str = "scene",
    peak: float = 0.9,
    kind: Literal["new", "end"] = "end",
    source: str = "clip",
    time: str | None = None,
) -> Event:
    end_ns = round(end_s * NS) if kind == "end" else None
    return Event(kind, source, 0, head, label, round(start_s * NS), end_ns, peak, peak * 0.9, time)


def walk(ticks: int, seed: int = 1, *, changes_s: float = 40.0) -> Iterator[Label | Event]:
    """A recording: scenes of about `changes_s`, emotions of a quarter of that, sounds now and then."""
    rng = random.Random(seed)
    runs = {"scene": Run(rng, SCENES, changes_s), "emotion": Run(rng, EMOTIONS, changes_s / 4)}
    sounds = {name: Run(rng, ("on", "off", "off"), changes_s / 5) for name in SOUNDS}
    for tick in range(ticks):
        heads = {}
        for name, run in runs.items():
            heads[name], event = run.step(tick, name)
            if event is not None:
                yield event
        on = []
        for name, run in sounds.items():
            answer, _ = run.step(tick, name)
            if answer.label == "on":
                on.append((name, answer.score or 0.0))
        face: Presence = (
            "missing" if heads["emotion"].label == "none" else rng.choice(("ok",) * 9 + ("held",))
        )
        yield make_label(
            tick,
            scene=heads["scene"],
            emotion=heads["emotion"],
            sound=said_many(*sorted(on, key=lambda item: -item[1])),
            face=face,
        )
    for name, run in runs.items():
        yield run.ended(ticks, name)


class Run:
    """One head that keeps a label for a while and drifts in its score."""

    def __init__(self, rng: random.Random, labels: tuple[str, ...], seconds: float) -> None:
        self.rng, self.labels, self.seconds = rng, labels, seconds
        self.label, self.score, self.since, self.until, self.peak = labels[0], 0.7, 0, 0, 0.0
        self.until = self.next_change(0)

    def next_change(self, tick: int) -> int:
        return tick + max(8, int(self.rng.expovariate(1 / self.seconds) * 10))

    def ended(self, tick: int, head: str) -> Event:
        return make_event(self.label, self.since / 10, tick / 10, head=head, peak=self.peak)

    def step(self, tick: int, head: str) -> tuple[HeadLabel, Event | None]:
        event = None
        if tick >= self.until:
            event = self.ended(tick, head)
            self.label = self.rng.choice([label for label in self.labels if label != self.label])
            self.since, self.peak, self.score = tick, 0.0, 0.45
            self.until = self.next_change(tick)
        goal = 0.55 if self.label == "none" else 0.85
        self.score = min(0.99, max(0.3, self.score + (goal - self.score) * 0.08 + self.rng.gauss(0, 0.025)))
        self.peak = max(self.peak, self.score)
        if self.score < 0.48:
            return said("unknown", self.score), event
        return said(self.label, self.score), event
