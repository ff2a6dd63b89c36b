"""What a whole recording said, counted as it goes by."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamfuse.types import HeadLabel, Label


class LabelShares:
    """How much of the time each head said each label.

    A softmax head's shares sum to 1 (`unknown` counts); a sigmoid head may say several labels at once,
    so each of its shares is of all ticks by itself.
    """

    def __init__(self) -> None:
        self.ticks = 0
        self._counts: dict[str, Counter[str]] = {}

    def push(self, label: Label) -> None:
        self.ticks += 1
        for head, said in label.heads.items():
            self._counts.setdefault(head, Counter()).update(spoken(said))

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Head -> label -> share of all ticks (4 decimals), largest first, equal ones by name."""
        return {head: dict(self.ranked(head)) for head in self._counts}

    def heads(self) -> list[str]:
        """The heads, in the order of the model."""
        return list(self._counts)

    def ranked(self, head: str) -> list[tuple[str, float]]:
        counts = self._counts.get(head, Counter())
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(label, round(count / self.ticks, 4)) for label, count in ordered]


def spoken(said: HeadLabel) -> list[str]:
    """Every label that a head says in one tick."""
    if said.labels is not None:
        return [label for label, _ in said.labels]
    return [said.label] if said.label is not None else []
