"""Window arithmetic: which tick, which samples. Pure integers; times count from the session's zero.

tick k    [k * hop, (k + 1) * hop)                       nanoseconds
samples   [k * n - context, k * n) + [k * n, (k + 1) * n)  n = samples of one hop
          `- what the first MFCC windows reach back to
"""

from __future__ import annotations

from typing import NamedTuple

from streamfuse.errors import StageError
from streamfuse.types import SAMPLE_NS


def tick_of(time_ns: int, hop_ns: int) -> int:
    """The tick that holds `time_ns`."""
    return time_ns // hop_ns


def tick_end(index: int, hop_ns: int) -> int:
    """The first nanosecond after tick `index`."""
    return (index + 1) * hop_ns


def tick_count(end_ns: int, hop_ns: int) -> int:
    """How many ticks a session has that ends at `end_ns`: the last one may be partly empty."""
    return -(-end_ns // hop_ns)


def sample_at(time_ns: int) -> int:
    """The sample nearest to `time_ns`; a tie goes to the later one."""
    return (time_ns + SAMPLE_NS // 2) // SAMPLE_NS


def samples_of_hop(hop_ns: int) -> int:
    """Samples in one hop. Raises StageError when they are not a whole number."""
    if hop_ns <= 0 or hop_ns % SAMPLE_NS:
        raise StageError(f"hop_ns must be a positive multiple of one sample, {SAMPLE_NS} ns", got=hop_ns)
    return hop_ns // SAMPLE_NS


class SampleRange(NamedTuple):
    """Absolute sample indices of a tick: [first, start) is context, [start, end) its own hop."""

    first: int
    start: int
    end: int


def sample_range(index: int, hop_samples: int, context_samples: int) -> SampleRange:
    """The samples that travel with tick `index`; `first` is negative where the session had not begun."""
    start = index * hop_samples
    return SampleRange(start - context_samples, start, start + hop_samples)
