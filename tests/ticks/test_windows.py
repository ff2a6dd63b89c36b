from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.errors import StageError
from streamfuse.ticks.windows import (
    sample_at,
    sample_range,
    samples_of_hop,
    tick_count,
    tick_end,
    tick_of,
)
from streamfuse.types import MS, SAMPLE_NS

HOPS = st.integers(1, 16_000).map(lambda samples: samples * SAMPLE_NS)
DAYS = st.integers(-(10**14), 10**16)


@given(DAYS, HOPS)
def test_tick_of_lies_within_its_bounds(time_ns: int, hop_ns: int) -> None:
    index = tick_of(time_ns, hop_ns)
    assert tick_end(index, hop_ns) - hop_ns <= time_ns < tick_end(index, hop_ns)


@given(st.integers(0, 10**16), HOPS)
def test_tick_count_is_one_more_than_the_tick_of_the_last_nanosecond(end_ns: int, hop_ns: int) -> None:
    assert tick_count(end_ns, hop_ns) == (tick_of(end_ns - 1, hop_ns) + 1 if end_ns else 0)


@given(st.integers(-(10**10), 10**12), st.integers(-SAMPLE_NS // 2, SAMPLE_NS // 2 - 1))
def test_sample_at_is_the_nearest(index: int, off_ns: int) -> None:
    assert sample_at(index * SAMPLE_NS + off_ns) == index


@given(st.integers(0, 10**9), HOPS, st.integers(0, 4000))
def test_sample_ranges_meet_and_agree_with_ticks(index: int, hop_ns: int, context: int) -> None:
    hop = samples_of_hop(hop_ns)
    here, after = sample_range(index, hop, context), sample_range(index + 1, hop, context)
    assert here.end == after.start
    assert here.end * SAMPLE_NS == tick_end(index, hop_ns)
    assert (here.start - here.first, here.end - here.start) == (context, hop)


@pytest.mark.parametrize("hop_ns", [0, -100 * MS, 100 * MS + 1])
def test_samples_of_hop_refuses_what_is_no_whole_number(hop_ns: int) -> None:
    with pytest.raises(StageError, match=f"positive multiple of one sample, 62500 ns, got {hop_ns}"):
        samples_of_hop(hop_ns)
