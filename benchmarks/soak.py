"""Hours of a run in a quarter of one: 20,000 ticks and 200 lost sources, and what every process holds then.

    python benchmarks/soak.py [--model FILE] [--ticks 20000] [--reconnects 200] [--minutes 15]

Four sources, three of which end or are reset every few seconds (tests/integration/soak.py). Aims: memory
grows by at most 20 MB in each process from the tenth part on; file descriptors, threads and /dev/shm stay as
they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from report import write

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streamfuse.model.inspect import inspect_model
from tests.integration.soak import soak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--reconnects", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30.0)
    args = parser.parse_args()
    model = Path(args.model or inspect_model(None).path)
    with tempfile.TemporaryDirectory() as folder:
        outcome = soak(
            model, Path(folder), reconnects=args.reconnects, ticks=args.ticks, deadline_s=60 * args.minutes
        )
    rows = []
    for role, before in outcome.before.items():
        after = outcome.after.get(role, before)
        name = role.rpartition(" ")[0].strip()
        grown = (after.rss - before.rss) / 1e6
        rows.append(
            {
                "case": "soak",
                "name": name,
                "rss_mb": after.rss / 1e6,
                "grown_mb": grown,
                "handles": [before.handles, after.handles],
                "threads": [before.threads, after.threads],
            }
        )
        print(
            f"{name:20} {after.rss / 1e6:7.1f} MB, grown {grown:+6.2f} MB, file descriptors "
            f"{before.handles} -> {after.handles}, threads {before.threads} -> {after.threads}"
        )
    replaced = len(outcome.before.keys() - outcome.after.keys())
    print(f"{outcome.ticks} ticks, {outcome.reconnects} reconnects, {replaced} processes replaced")
    checks = {"ticks": outcome.ticks, "reconnects": outcome.reconnects, "replaced": replaced}
    write("soak", rows, checks | {"shm": [outcome.shm_before, outcome.shm_after]})


if __name__ == "__main__":
    main()
