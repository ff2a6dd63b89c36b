"""Random faults on a live run and a recorded job at once: `python -m tests.nemesis --seed 1 --minutes 5`.

Every ten seconds something is done to three cameras or to the processes that watch them (tests/nemesis/live);
beside it recorded jobs are killed at random moments and typed again until they are done (tests/faults/kills).
With --machine it is also done to the whole run, to its disk and to its clock (tests/nemesis/strikes), and the
disk of the jobs is full for a while.
At the end one checker goes over everything that was written, counted and left behind (tests/nemesis/history).
Exit code 1 where a promise was broken. The seed decides what is done; when it takes effect, the machine does.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import threading
import traceback
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.checkpoint.made import KINDS
from tests.faults.kills import VICTIMS, Killer, tiny_model
from tests.nemesis.history import CAMERA_FAULTS, Fault, Targets
from tests.nemesis.live import live_problems

KILLS_PER_JOB = 3
RECORDED_S = 30.0
"""Length of each recording."""


class RecordedJobs(threading.Thread):
    """Jobs that are killed again and again, until the time is up; `problems` once it has ended."""

    def __init__(self, model: Path, folder: Path, seed: int, seconds: float, machine: bool) -> None:
        super().__init__(name="recorded", daemon=True)
        self._rng = random.Random(seed)
        self._victims = (*VICTIMS, "disk") if machine else VICTIMS
        self._end_ns = SYSTEM.monotonic_ns() + round(seconds * NS)
        self.killer = Killer(model, folder, seed=seed, seconds=RECORDED_S)
        self.problems: list[str] = []

    def run(self) -> None:
        try:
            while SYSTEM.monotonic_ns() < self._end_ns:
                kind, kills = self._rng.choice(list(KINDS)), self._rng.randint(1, KILLS_PER_JOB)
                self.killer.job(kind, kills, self._victims)
        except Exception:  # noqa: BLE001  the main thread tells it
            self.problems.append(traceback.format_exc())
        self.problems += [f"recorded: {trouble}" for trouble in self.killer.tally.troubles]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds from fault to fault")
    parser.add_argument("--slack", type=float, default=1.0, help="factor on all times, for a busy machine")
    parser.add_argument("--machine", action="store_true", help="also strike a whole run, its disk, its clock")
    parser.add_argument("--only", choices=("live", "recorded"))
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="copy everything there where something broke"
    )
    options = parser.parse_args(arguments)
    seconds = options.minutes * 60

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="sf-") as name:
        folder = Path(name)
        model = tiny_model(folder / "tiny.ts")
        problems: list[str] = []
        faults: list[Fault] = []
        jobs = None
        if options.only != "live":
            (folder / "jobs").mkdir()
            jobs = RecordedJobs(model, folder / "jobs", options.seed, seconds, options.machine)
            jobs.start()
        if options.only != "recorded":
            (folder / "live").mkdir()
            problems, faults = live_problems(
                model, folder / "live", seed=options.seed, seconds=seconds, every_s=options.every,
                targets=Targets(slack=options.slack), say=say, machine=options.machine,
            )  # fmt: skip
        if jobs is not None:
            jobs.join()
            problems += jobs.problems
            tally = jobs.killer.tally
            cuts = f"{tally.power_cuts} power cuts, {tally.full_disks} times a full disk"
            print(f"recorded: {tally.killed} kills in {tally.jobs} jobs ({dict(tally.kills)}), {cuts}")
            print(f"recorded: {tally.bytes_differing} of {tally.bytes_compared} bytes differ")
        if problems and options.keep is not None:
            shutil.copytree(folder, options.keep, ignore=_sockets, dirs_exist_ok=True)
    _tell(faults)
    for problem in problems:
        print(f"BROKEN: {problem}")
    print(
        f"seed {options.seed}, {options.minutes:g} minutes: {len(faults)} faults live, {len(problems)} broken"
    )
    return 1 if problems else 0


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]


def _tell(faults: Sequence[Fault]) -> None:
    """Each kind of fault, how often it was, and how long noticing it and the return took."""
    by_kind: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        kind = f"{fault.kind} {'camera' if fault.kind in CAMERA_FAULTS else fault.target.split()[0]}"
        by_kind[kind].append(fault)
    for kind, same in sorted(by_kind.items()):
        noticed = _times("noticed", [f.noticing_s for f in same if f.noticing_s is not None])
        back = _times("back", [f.return_s for f in same if f.return_s is not None])
        print(f"{kind}: {len(same)}{noticed}{back}")


def _times(what: str, seconds: Sequence[float]) -> str:
    if not seconds:
        return ""
    return f", {what} after {statistics.median(seconds):.1f} s (at most {max(seconds):.1f} s)"


if __name__ == "__main__":
    sys.exit(main())
