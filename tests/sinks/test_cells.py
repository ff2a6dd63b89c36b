from __future__ import annotations

import random
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.sinks.cells import EMPTY, FULL, Grid, level_of
from streamfuse.types import MS

HOP = 100 * MS


def test_grid_one_tick_is_one_cell_while_short() -> None:
    grid = Grid(HOP, max_cells=64)
    plane = grid.code_plane()
    for tick in range(40):
        plane.put(grid.cell(tick * HOP), tick % 3, level_of(tick / 100))
    assert (grid.used, grid.cell_ns) == (40, HOP)
    np.testing.assert_array_equal(plane.codes[:40], [tick % 3 for tick in range(40)])
    np.testing.assert_allclose(plane.levels[:40], [tick / 100 * FULL for tick in range(40)], rtol=1e-6)
    assert (plane.codes[40:] == EMPTY).all()


def test_grid_long_recording_stays_within_its_cells() -> None:
    grid = Grid(HOP, max_cells=64)
    plane, peaks = grid.code_plane(), grid.peak_plane()
    for tick in range(1000):
        cell = grid.cell(tick * HOP)
        plane.put(cell, 7 if tick < 500 else 8, FULL / 2)
        if tick == 700:
            peaks.put(cell, 123.0)
    assert grid.cell_ns == 16 * HOP
    assert grid.used == 63
    assert len(plane.codes) == 64
    np.testing.assert_array_equal(plane.codes[:63], [7] * 31 + [8] * 32)
    np.testing.assert_allclose(plane.levels[:63], FULL / 2)
    assert peaks.levels[700 // 16] == 123.0
    assert np.count_nonzero(peaks.levels) == 1


def test_grid_a_jump_of_a_year_is_no_reason_for_memory() -> None:
    grid = Grid(HOP, max_cells=64)
    plane = grid.code_plane()
    plane.put(grid.cell(0), 1, FULL)
    plane.put(grid.cell(365 * 86400 * 10 * HOP), 2, FULL)
    assert len(plane.codes) == 64
    assert plane.codes[0] == 1
    assert plane.codes[grid.used - 1] == 2


def test_grid_sessions_off_the_hop_fall_into_the_nearest_cell() -> None:
    grid = Grid(HOP)
    assert [grid.cell(at * MS) for at in (0, 49, 51, 1049, 1051)] == [0, 0, 1, 10, 11]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=300), st.integers(0, 10))
def test_code_plane_shows_every_clear_majority(codes: list[int], seed: int) -> None:
    # Within one cell, whatever the order: the code of more than half of the ticks is the one shown.
    rng = random.Random(seed)
    rng.shuffle(codes)
    grid = Grid(HOP, max_cells=2)
    plane = grid.code_plane()
    for code in codes:
        plane.put(0, code, FULL)
    code, count = Counter(codes).most_common(1)[0]
    if 2 * count > len(codes):
        assert plane.codes[0] == code


def test_level_is_that_of_the_label_line() -> None:
    assert level_of(0.123449999) == level_of(0.1234)
    assert level_of(None) == 0.0
