"""The one table of what travels: record type, queue length, and what happens when the queue is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamfuse.types import Answer, Carried, Event, Label, Mode, SessionStart, Still, Tick
from streamfuse.wire.headers import End, Order, Progress, Reply, Shutdown

Policy = Literal["drop", "block"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One kind of message and its bounds.

    queue   messages waiting at the sender; when full, live drops the oldest and counts it, recorded blocks
    window  messages under way between sender and receiver: sent, not yet done with
    live, recorded  what a full queue does; control messages are never dropped in either
    recorded_window  the window of a recording, where it is another: nothing in it grows old
    """

    name: str
    record: type
    queue: int
    window: int
    live: Policy
    recorded: Policy
    recorded_window: int | None = None

    def window_in(self, mode: Mode) -> int:
        return self.recorded_window or self.window if mode == "recorded" else self.window

    def policy(self, mode: Mode) -> Policy:
        return self.live if mode == "live" else self.recorded


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        # Four waiting and two under way: 0.6 s is the most that a live tick can age before it is dropped.
        Topic("tick", Tick, queue=4, window=2, live="drop", recorded="block", recorded_window=8),
        # Small and of many sources: a disk that stalls for a second with 16 cameras loses nothing.
        Topic("answer", Answer, queue=256, window=64, live="drop", recorded="block"),
        # One every few seconds, of a megabyte.
        Topic("carried", Carried, queue=1024, window=64, live="block", recorded="block"),
        Topic("start", SessionStart, queue=1024, window=64, live="block", recorded="block"),
        Topic("end", End, queue=1024, window=64, live="block", recorded="block"),
        Topic("shutdown", Shutdown, queue=1, window=1, live="block", recorded="block"),
        # PUB: what a slow subscriber does not read is dropped for that subscriber, who sees it in seq.
        Topic("label", Label, queue=1000, window=1, live="drop", recorded="drop"),
        Topic("event", Event, queue=1000, window=1, live="drop", recorded="drop"),
        # A picture that waits is an old one: a second of them at two a second.
        Topic("picture", Still, queue=2, window=1, live="drop", recorded="drop"),
        # One at a time, of a person; what is not answered is asked again by that person.
        Topic("order", Order, queue=16, window=1, live="drop", recorded="drop"),
        Topic("reply", Reply, queue=16, window=1, live="drop", recorded="drop"),
        Topic("progress", Progress, queue=32, window=1, live="drop", recorded="drop"),
    )
}
"""By kind, which is also the first word of the message's topic: `label/door`."""

_BY_RECORD = {topic.record: topic for topic in TOPICS.values()}


def topic_for(body: object) -> Topic:
    """The row of a record."""
    return _BY_RECORD[type(body)]
