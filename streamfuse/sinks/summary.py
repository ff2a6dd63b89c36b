"""What a whole recording said, counted as it goes by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamfuse.types import HeadLabel, Label


@dataclass(slots=True)
class SharesState:
    """Plain data, so that a checkpoint can hold it; counts: head -> label -> ticks."""

    ticks: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


class LabelShares:
    """How much of the time each head said each label.

    A softmax head's shares sum to 1 (`unknown` counts); a sigmoid head may say several labels at once,
    so each of its shares is of all ticks by itself.
    """

    def __init__(self) -> None:
        self.state = SharesState()

    @property
    def ticks(self) -> int:
        return self.state.ticks

    def push(self, label: Label) -> None:
        self.state.ticks += 1
        for head, said in label.heads.items():
            counts = self.state.counts.setdefault(head, {})
            for name in spoken(said):
                counts[name] = counts.get(name, 0) + 1

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Head -> label -> share of all ticks (4 decimals), largest first, equal ones by name."""
        return {head: dict(self.ranked(head)) for head in self.state.counts}

    def heads(self) -> list[str]:
        """The heads, in the order of the model."""
        return list(self.state.counts)

    def ranked(self, head: str) -> list[tuple[str, float]]:
        counts = self.state.counts.get(head, {})
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(label, round(count / self.ticks, 4)) for label, count in ordered]


def spoken(said: HeadLabel) -> list[str]:
    """Every label that a head says in one tick."""
    if said.labels is not None:
        return [label for label, _ in said.labels]
    return [said.label] if said.label is not None else []
