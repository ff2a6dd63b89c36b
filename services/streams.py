"""What the analyze service steps its streams with: in batches on a GPU, else each stream alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamfuse.errors import StageError
from streamfuse.services.recorded_stream import Analyzing
from streamfuse.types import Answer, Tick
from streamfuse.wire.link import Delivery


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers, the message that asked for them, and when the latter came and its step was begun.

    refused  why there is no answer: the tick was not one of its stream
    """

    answers: Sequence[Answer]
    delivery: Delivery
    received_ns: int
    begun_ns: int
    refused: StageError | None = None


class Streams(Protocol):
    """The streams of one device. All calls come from the service's thread; none but rest() waits long.

    A tick that was taken comes back once, in order within its stream, from advance() or rest().
    """

    @property
    def counters(self) -> dict[str, int]:
        """`bad_answers`: answers that were not finite, of all streams since the process began."""
        ...

    def __len__(self) -> int: ...
    def __contains__(self, source: object) -> bool: ...

    def ports(self) -> Sequence[int]:
        """What becomes readable when advance() has something to say."""
        ...

    def begin(self, source: str, max_gap_ms: int) -> Analyzing:
        """A stream begins; rest() first where it was there already. StageError: the device is full."""
        ...

    def take(self, delivery: Delivery, tick: Tick) -> None:
        """StageError: the tick is out of order, where that is known at once; it is not kept."""
        ...

    def advance(self, *, more: bool) -> Sequence[Answered] | None:
        """Do what is due and tell what is answered; None: nothing is due now.

        more  messages are there to be read: what is being computed is not waited for
        """
        ...

    def due_ns(self) -> int | None:
        """When advance() is due; None: nothing that time alone would bring."""
        ...

    def rest(self, source: str) -> list[Answered]:
        """Step until nothing of this stream waits: its session or itself is about to end.

        Answers of other streams may be among what comes.
        """
        ...

    def forget(self, source: str) -> None:
        """End a stream; rest() first where its ticks matter."""
        ...

    def forget_all(self) -> None: ...
