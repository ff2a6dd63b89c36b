"""The short form of benchmarks/soak.py: a minute of lost sources leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from tests.integration.soak import soak

GROWTH = 20_000_000


def test_sources_lost_again_and_again_leave_nothing_behind(meter: Path, tmp_path: Path) -> None:
    outcome = soak(meter, tmp_path, reconnects=20, ticks=200, deadline_s=240)
    assert outcome.before.keys() == outcome.after.keys()  # no process was replaced
    for role, before in outcome.before.items():
        after = outcome.after[role]
        assert after.rss - before.rss <= GROWTH, role
        # One connection more or less may be open at the moment of looking.
        assert abs(after.handles - before.handles) <= 2, role
        assert abs(after.threads - before.threads) <= 1, role
    assert outcome.shm_after <= outcome.shm_before
