"""How soon a change of the scene is said, and how steadily: the two that smoothing trades for each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from streamfuse.errors import ConfigError
from streamfuse.types import NS, Event, Label


class Switch(msgspec.Struct, frozen=True):
    """From at_ns on (file time), `label` is what the head should say."""

    at_ns: int
    label: str


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """One switch. label_s: until the label was said and stayed; event_s: until the event was told.

    From the switch to the end of the tick that said so: media time, to which an answer's age is to be added.
    None: not before the next switch, or the end.
    """

    at_s: float
    label: str
    label_s: float | None
    event_s: float | None


class Detections(msgspec.Struct, frozen=True, kw_only=True):
    """All switches of a head; medians and p90 are over those that were seen.

    flips_per_min  changes of the label; needless: of them, those beyond one a switch
    right          share of ticks with the right label
    """

    switches: list[Detection]
    missed: int
    median_s: float | None
    p90_s: float | None
    event_median_s: float | None
    flips_per_min: float
    needless_per_min: float
    right: float


def detections(
    labels: Sequence[Label],
    told: Sequence[tuple[int, Event]],
    switches: Sequence[Switch],
    head: str,
    *,
    hold_ticks: int,
) -> Detections:
    """Hold a head's labels against the truth.

    labels    of one recording, in order
    told      its events, each with the end (ns) of the tick with which it was told
    switches  the truth, in order; what lies before the first is not judged
    raises    ConfigError where there is nothing to judge, or the head or a label is unknown
    """
    _check(labels, switches, head)
    end_ns = labels[-1].head.end_ns
    seen = []
    for switch, until_ns in zip(switches, [*(s.at_ns for s in switches[1:]), end_ns], strict=True):
        within = [label for label in labels if switch.at_ns < label.head.end_ns <= until_ns]
        at_ns = _first_held(within, head, switch.label, hold_ticks)
        event_ns = next(
            (
                when
                for when, event in told
                if event.kind == "new"
                and (event.head, event.label) == (head, switch.label)
                and switch.at_ns < when <= until_ns
            ),
            None,
        )
        seen.append(
            Detection(
                at_s=switch.at_ns / NS,
                label=switch.label,
                label_s=None if at_ns is None else (at_ns - switch.at_ns) / NS,
                event_s=None if event_ns is None else (event_ns - switch.at_ns) / NS,
            )
        )
    return _summed(seen, labels, switches, head)


def _check(labels: Sequence[Label], switches: Sequence[Switch], head: str) -> None:
    if not labels:
        raise ConfigError("a clip must give labels", got="none")
    if head not in labels[0].heads:
        known = ", ".join(labels[0].heads)
        raise ConfigError("--head must be a head of the model", got=head, hint=f"one of {known}")
    if not switches:
        raise ConfigError("a clip needs at least one switch", got="none", hint="--switch 10s=forest")
    if any(a.at_ns >= b.at_ns for a, b in pairwise(switches)):
        raise ConfigError("switches must be in order of time", got=[s.at_ns / NS for s in switches])
    end_ns = labels[-1].head.end_ns
    if switches[-1].at_ns >= end_ns:
        raise ConfigError(
            "a switch must lie within the clip", got=f"{switches[-1].at_ns / NS:g} s of {end_ns / NS:g} s"
        )


def _first_held(labels: Sequence[Label], head: str, wanted: str, hold_ticks: int) -> int | None:
    """End of the first tick from which on the label is said for so many ticks in a row."""
    run = 0
    for index, label in enumerate(labels):
        run = run + 1 if _says(label, head, wanted) else 0
        if run == hold_ticks:
            return labels[index - hold_ticks + 1].head.end_ns
    return None


def _says(label: Label, head: str, wanted: str) -> bool:
    part = label.heads[head]
    if part.labels is not None:
        return any(name == wanted for name, _ in part.labels)
    return part.label == wanted


def _summed(
    seen: list[Detection], labels: Sequence[Label], switches: Sequence[Switch], head: str
) -> Detections:
    judged = [label for label in labels if label.head.end_ns > switches[0].at_ns]
    minutes = sum(label.head.hop_ns for label in judged) / (60 * NS)
    flips = sum(_said(a, head) != _said(b, head) for a, b in pairwise(judged))
    changes = sum(a.label != b.label for a, b in pairwise(switches))
    times = sorted(one.label_s for one in seen if one.label_s is not None)
    events = sorted(one.event_s for one in seen if one.event_s is not None)
    right = sum(_says(label, head, _truth(switches, label.head.end_ns)) for label in judged)
    return Detections(
        switches=seen,
        missed=sum(one.label_s is None for one in seen),
        median_s=_rank(times, 50),
        p90_s=_rank(times, 90),
        event_median_s=_rank(events, 50),
        flips_per_min=round(flips / minutes, 3),
        needless_per_min=round(max(0, flips - changes) / minutes, 3),
        right=round(right / len(judged), 4),
    )


def _said(label: Label, head: str) -> object:
    part = label.heads[head]
    return part.label if part.labels is None else frozenset(name for name, _ in part.labels)


def _truth(switches: Sequence[Switch], end_ns: int) -> str:
    return [s.label for s in switches if s.at_ns < end_ns][-1]


def _rank(ordered: Sequence[float], q: float) -> float | None:
    return float(np.percentile(ordered, q, method="inverted_cdf")) if ordered else None
