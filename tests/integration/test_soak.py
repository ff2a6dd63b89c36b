"""The short form of benchmarks/soak.py: a minute of lost sources leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.soak import GROWTH, Holding, Look, Outcome, most, soak

HELD = Holding(rss=100_000_000, handles=40, threads=9)
GOOD = Outcome((200, 20), 201, 20, {"analyze  7": HELD}, {"analyze  7": HELD}, 3, 3)


def test_sources_lost_again_and_again_leave_nothing_behind(meter: Path, tmp_path: Path) -> None:
    outcome = soak(meter, tmp_path, reconnects=20, ticks=200, deadline_s=240)
    assert outcome.missed() == []


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (
            replace(GOOD, after={"analyze  7": replace(HELD, rss=HELD.rss + GROWTH + 1)}),
            "grew by 20.0 MB, aim 20",
        ),
        (replace(GOOD, after={"analyze  7": replace(HELD, handles=43)}), "40 -> 43 file descriptors"),
        (replace(GOOD, after={"analyze  7": replace(HELD, threads=12)}), "9 -> 12 threads"),
        (replace(GOOD, after={"analyze  8": HELD}), "analyze  7 was replaced"),
        (replace(GOOD, shm_after=4), "/dev/shm: 3 -> 4 entries"),
        (replace(GOOD, ticks=199), "199 ticks and 20 reconnects by the deadline, not 200 and 20"),
        (replace(GOOD, reconnects=19), "201 ticks and 19 reconnects by the deadline, not 200 and 20"),
        (replace(GOOD, before={}), "no process was looked at"),
    ],
)
def test_soak_says_what_was_missed(outcome: Outcome, said: str) -> None:
    assert GOOD.missed() == []
    (line,) = outcome.missed()
    assert said in line


def test_most_is_of_those_who_are_there_at_the_end() -> None:
    away, other = replace(HELD, rss=HELD.rss + 1, threads=4), replace(HELD, handles=41)
    looks = [Look(1.0, 1, 1, {"decode 7": HELD, "decode 8": HELD}), Look(2.0, 2, 2, {"decode 7": away})]
    assert most(looks) == {"decode 7": replace(HELD, rss=HELD.rss + 1)}
    assert most([*looks, Look(3.0, 3, 3, {"decode 7": other})])["decode 7"].handles == 41
    assert most([]) == {}


def test_slope_is_of_the_looks_after_it_settled() -> None:
    def at(minute: int, rss: int) -> Look:
        return Look(60.0 * minute, 10 * minute, minute, {"analyze  7": replace(HELD, rss=rss)})

    steady = [at(minute, 200_000_000 + 50_000 * minute) for minute in range(2, 30)]
    outcome = replace(GOOD, looks=[at(1, 1_000), *steady])
    assert outcome.slope_mb_per_h("analyze  7") == pytest.approx(3.0)
    assert outcome.slope_mb_per_h("decode 9") is None
    assert outcome.reached_s() == 60.0 * 20
