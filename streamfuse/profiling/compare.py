"""Two reports side by side: what differs, how surely, and whether that breaks a rule of the user's."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import numpy as np

from streamfuse.errors import ConfigError
from streamfuse.profiling.schema import Report
from streamfuse.profiling.statistics import (
    F64,
    LEAST,
    LEAST_BLOCKS,
    PERCENTILES,
    Block,
    Series,
    block_of_ages,
    block_of_seconds,
    blocks,
    percentile,
    ratio_interval,
)

NO_DIFFERENCE = "no difference seen"
UNITS = {"cpu": "s/s", "memory": "MB", "dropped": "%", "missed": "%", "speed": "x real time"}
"""Of every metric but the ages, which are in ms."""
_CONDITION = re.compile(r"\s*([a-z0-9_.]+)\s*([<>])\s*(\d+(?:\.\d+)?)\s*(x|ms|%|MB|s/s)?\s*", re.ASCII)


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both. low..high is the 95 % interval of the ratio b / a; null where there is none.

    too_few  of what there is too little for an interval (seconds, answers): whether it differs cannot be told
    """

    metric: str
    unit: str
    a: float
    b: float
    ratio: float | None
    low: float | None
    high: float | None
    too_few: str | None = None

    @property
    def differs(self) -> bool:
        """The interval does not hold 1: a difference was seen."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high

    @property
    def verdict(self) -> str:
        if self.too_few is not None:
            return f"too few {self.too_few} to tell"
        if self.low is None or self.ratio is None:
            return NO_DIFFERENCE if self.a == self.b else ""
        if not self.differs:
            return NO_DIFFERENCE
        return f"{abs(self.ratio - 1):.0%} {'higher' if self.ratio > 1 else 'lower'} in B"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of --fail-if: what must not be."""

    text: str
    metric: str
    above: bool
    bound: float
    unit: str | None

    def can_judge(self, row: Compared) -> bool:
        """`x` needs a ratio, and enough values to know how sure it is."""
        if self.unit != "x":
            return True
        return row.too_few is None and (row.ratio is not None or row.a == row.b)

    def broken_by(self, row: Compared) -> bool:
        """`x`: the ratio lies beyond the bound, and a difference was seen. Else: B's own figure does."""
        value = row.ratio if self.unit == "x" else row.b
        if value is None:
            return False
        beyond = value > self.bound if self.above else value < self.bound
        return beyond and (self.unit != "x" or row.low is None or row.differs)


def parse_condition(text: str) -> Condition:
    """`p99>1.1x`, `p99>150ms`, `dropped>1%`. Raises ConfigError."""
    match = _CONDITION.fullmatch(text)
    hint = "such as p99>1.1x (B against A), p99>150ms, dropped>1% (B alone)"
    if match is None:
        raise ConfigError("--fail-if takes METRIC > NUMBER and a unit", got=repr(text), hint=hint)
    metric = match[1].replace("p99.9", "p99_9")
    known = (*PERCENTILES, "mean", "max", *UNITS)
    if metric not in known:
        raise ConfigError("--fail-if must name a known metric", got=metric, hint=f"one of {', '.join(known)}")
    unit = UNITS.get(metric, "ms")
    if match[4] not in ("x", unit):
        wanted = "x" if " " in unit else f"x or {unit}"
        raise ConfigError(f"--fail-if {metric} must be in {wanted}", got=repr(text), hint=hint)
    return Condition(text=text, metric=metric, above=match[2] == ">", bound=float(match[3]), unit=match[4])


def compare_reports(a: Report, b: Report) -> list[Compared]:
    """Every metric that both have. Raises ConfigError for a paced report beside a saturated one."""
    if a.rate != b.rate:
        raise ConfigError("paced and saturated reports are never compared", got=f"{a.rate} and {b.rate}")
    rows = _ages(a, b) if a.rate == "paced" else [_speed(a, b)]
    rows += [row for row in (_cpu(a, b), _memory(a, b)) if row is not None]
    if a.rate == "paced":
        rows += [
            _plain("dropped", *(100 * r.dropped / (r.answers + r.dropped) for r in (a, b))),
            _plain("missed", *(100 * (r.deadline_misses or 0) / (r.answers + r.dropped) for r in (a, b))),
        ]
    return rows


def unlike(a: Report, b: Report) -> list[str]:
    """What else differs between the two measurements, beside what was to be compared."""
    one, other = msgspec.to_builtins(a.environment), msgspec.to_builtins(b.environment)
    one |= {"hop_ms": a.hop_ms, "streams": a.streams_wanted, "source": a.source}
    other |= {"hop_ms": b.hop_ms, "streams": b.streams_wanted, "source": b.source}
    one.pop("load_1min"), other.pop("load_1min")
    return [
        f"{name}: {_brief(one[name])} / {_brief(other[name])}" for name in one if one[name] != other[name]
    ]


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _ages(a: Report, b: Report) -> list[Compared]:
    least = min(a.answers, b.answers)
    quantiles = {name: q for name, q in PERCENTILES.items() if least >= LEAST.get(name, 1)}

    def statistic(ordered: F64) -> F64:
        return np.array([ordered.mean(), *(percentile(ordered, q) for q in quantiles.values())])

    rows = _measured(["mean", *quantiles], _series(a), _series(b), statistic, block_of_ages)
    return [*rows, _plain("max", a.ages_ms["edge_age"].max, b.ages_ms["edge_age"].max)]


def _series(report: Report) -> Series:
    return [np.array(ages, np.float64) / 1000 for ages in report.samples.edge_age_us.values()]


def _mean(ordered: F64) -> F64:
    return np.array([ordered.mean()])


def _measured(
    metrics: list[str],
    left: Series,
    right: Series,
    statistic: Callable[[F64], F64],
    block: Block,
    scale: tuple[float, float] = (1, 1),
) -> list[Compared]:
    """With intervals; scale turns what was sampled into the metrics' unit."""
    one, two = (statistic(np.sort(np.concatenate(list(side)))) for side in (left, right))
    if min(blocks(left, block), blocks(right, block)) < LEAST_BLOCKS:
        few = "answers" if block is block_of_ages else "seconds"
        pairs = zip(metrics, one * scale[0], two * scale[1], strict=True)
        return [_plain(metric, float(a), float(b), too_few=few) for metric, a, b in pairs]
    none = np.full(len(one), np.nan)
    known = (one > 0).all()
    ratio, low, high = ratio_interval(left, right, statistic, block=block) if known else (none, none, none)
    factor = scale[1] / scale[0]
    return [
        Compared(
            metric=metric,
            unit=UNITS.get(metric, "ms"),
            a=float(one[i]) * scale[0],
            b=float(two[i]) * scale[1],
            ratio=_told(ratio[i], factor),
            low=_told(low[i], factor),
            high=_told(high[i], factor),
        )
        for i, metric in enumerate(metrics)
    ]


def _told(value: float, factor: float) -> float | None:
    return None if np.isnan(value) else factor * float(value)


def _plain(metric: str, a: float, b: float, *, too_few: str | None = None) -> Compared:
    """Without one: a single number of each run, or of a run too short for an interval."""
    return Compared(
        metric=metric,
        unit=UNITS.get(metric, "ms"),
        a=a,
        b=b,
        ratio=b / a if a > 0 else None,
        low=None,
        high=None,
        too_few=too_few,
    )


def _speed(a: Report, b: Report) -> Compared:
    sides = [[np.array(r.samples.answers_per_s, np.float64)] for r in (a, b)]
    if not all(len(side[0]) for side in sides):  # less than a second was measured
        return _plain("speed", a.realtime_factor, b.realtime_factor, too_few="seconds")
    scale = tuple(r.hop_ms / 1000 / r.streams_wanted for r in (a, b))
    return _measured(["speed"], sides[0], sides[1], _mean, block_of_seconds, (scale[0], scale[1]))[0]


def _cpu(a: Report, b: Report) -> Compared | None:
    """Processor seconds for a second of one source."""
    if not (a.samples.cpu_share and b.samples.cpu_share):
        return None
    sides = [[np.array(r.samples.cpu_share, np.float64)] for r in (a, b)]
    scale = tuple(1000 / (r.achieved_per_s * r.hop_ms) for r in (a, b))
    return _measured(["cpu"], sides[0], sides[1], _mean, block_of_seconds, (scale[0], scale[1]))[0]


def _memory(a: Report, b: Report) -> Compared | None:
    if a.rss_bytes is None or b.rss_bytes is None:
        return None
    return _plain("memory", a.rss_bytes / 1e6, b.rss_bytes / 1e6)
