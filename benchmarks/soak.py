"""Hours of a run in a quarter of one: 20,000 ticks and 200 lost sources, and what every process holds then.

    python benchmarks/soak.py [--model FILE] [--ticks 20000] [--reconnects 200] [--minutes 15]

Four sources, three of which end or are reset every few seconds (tests/integration/soak.py, which has the
aims): both numbers in that time, no process replaced, memory grown by at most 20 MB in each from the tenth
part on, file descriptors, threads and /dev/shm as they were. Exits with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import write

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streamfuse.model.inspect import inspect_model
from tests.integration.soak import Outcome, soak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--reconnects", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=15.0)
    args = parser.parse_args()
    model = Path(args.model or inspect_model(None).path)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        outcome = soak(
            model, Path(folder), reconnects=args.reconnects, ticks=args.ticks, deadline_s=60 * args.minutes
        )
        minutes = (time.monotonic() - began) / 60
    missed = outcome.missed()
    rows = rows_of(outcome)
    print(f"{outcome.ticks} ticks, {outcome.reconnects} reconnects")
    done = {"ticks": outcome.ticks, "reconnects": outcome.reconnects, "minutes": minutes}
    write("soak", rows, done | {"shm": [outcome.shm_before, outcome.shm_after], "missed": missed})
    for line in missed:
        print(f"missed: {line}")
    sys.exit(1 if missed else 0)


def rows_of(outcome: Outcome) -> list[dict[str, Any]]:
    """One row for each process that was there at both looks; told on stdout too."""
    rows = []
    for role in sorted(outcome.before.keys() & outcome.after.keys()):
        before, after = outcome.before[role], outcome.after[role]
        row = {
            "case": "soak",
            "name": role.rpartition(" ")[0].strip(),
            "rss_mb": after.rss / 1e6,
            "grown_mb": (after.rss - before.rss) / 1e6,
            "handles": [before.handles, after.handles],
            "threads": [before.threads, after.threads],
        }
        rows.append(row)
        print(
            f"{row['name']:20} {row['rss_mb']:7.1f} MB, grown {row['grown_mb']:+6.2f} MB, file descriptors "
            f"{before.handles} -> {after.handles}, threads {before.threads} -> {after.threads}"
        )
    return rows


if __name__ == "__main__":
    main()
