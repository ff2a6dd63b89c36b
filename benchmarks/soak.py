"""Hours of a run in a quarter of one: 20,000 ticks and 200 lost sources, and what every process holds then.

    python benchmarks/soak.py [--model FILE] [--ticks 20000] [--reconnects 200] [--minutes 15]
    python benchmarks/soak.py --reconnects 1000 --hours 1

Four sources, three of which end or are reset every few seconds (tests/integration/soak.py, which has the
aims): both numbers in that time, no process replaced; the most that each holds, from the second tenth to the
end, grown by at most 20 MB, file descriptors, threads and /dev/shm as they were. Exits with 1 where one is
missed.
With --hours it goes on so long, and tells the slope of each process's memory too, in MB an hour.
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
from tests.integration.soak import CLIP_S, Outcome, soak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--reconnects", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--hours", type=float, help="go on so long, instead of ending at both numbers")
    args = parser.parse_args()
    model = Path(args.model or inspect_model(None).path)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        lasting_s = 3600 * (args.hours or 0.0)
        # An hour's last reconnect and tick may come late on a busy machine: a minute is no failure.
        deadline_s = lasting_s + 60 if lasting_s else 60 * args.minutes
        outcome = soak(
            model, Path(folder), reconnects=args.reconnects, ticks=args.ticks,
            deadline_s=deadline_s, at_least_s=lasting_s, clip_s=max(CLIP_S, 2 * deadline_s / args.reconnects),
        )  # fmt: skip
        minutes = (time.monotonic() - began) / 60
    missed = outcome.missed()
    rows = rows_of(outcome)
    reached_s = outcome.reached_s()
    both = "never both numbers" if reached_s is None else f"both numbers after {reached_s / 60:.1f} minutes"
    print(f"{outcome.ticks} ticks, {outcome.reconnects} reconnects in {minutes:.1f} minutes, {both}")
    done = {"ticks": outcome.ticks, "reconnects": outcome.reconnects, "minutes": minutes}
    done |= {"asked": outcome.asked, "reached_s": reached_s}
    done |= {"shm": [outcome.shm_before, outcome.shm_after], "missed": missed}
    write("soak-hour" if args.hours else "soak", rows, done)
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
            "slope_mb_per_h": outcome.slope_mb_per_h(role),
            "handles": [before.handles, after.handles],
            "threads": [before.threads, after.threads],
        }
        rows.append(row)
        slope = row["slope_mb_per_h"]
        leaning = "" if slope is None else f" ({slope:+.2f} MB an hour)"
        print(
            f"{row['name']:20} {row['rss_mb']:7.1f} MB, grown {row['grown_mb']:+6.2f} MB{leaning}, "
            f"file descriptors {before.handles} -> {after.handles}, "
            f"threads {before.threads} -> {after.threads}"
        )
    return rows


if __name__ == "__main__":
    main()
