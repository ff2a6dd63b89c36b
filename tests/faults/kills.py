"""Kills recorded jobs at random moments until they are done, and compares every byte with undisturbed runs.

    python -m tests.faults.kills --kills 200 --seed 1 [--inline] [--kinds aac.mp4 mp2.ts] [--power 0.5]

Each job is one recording through `streamfuse process`: real processes, killed with SIGKILL. A victim is one
of the decode, analyze and publish processes (the supervisor has to go on by itself), the supervisor (its
children have to go with it), or all at once, after which, in a share of the cases, everything is taken away
that was written after the last fsync, as a power cut might. Then the same command is typed again, until it
says that it is done. Prints what was killed, and the bytes that differ from golden outputs; exit code 1 where
any do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.checkpoint.made import EASY, KINDS, RESULTS, recording
from tests.faults.disk import child_environment, discard_unsynced

VICTIMS = ("decode", "analyze", "publish", "supervisor", "group")
POLL_S = 0.005
RUN_S = 180.0
"""A run that takes longer hangs."""
FULL_S = 3.0
"""A disk is full for no longer."""
SERVICE_RESTARTS = 4
"""Within one run no more services are killed: the supervisor gives up at six in a minute, rightly."""


@dataclass
class Tally:
    """What was done and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    power_cuts: int = 0
    full_disks: int = 0
    jobs: int = 0
    runs: int = 0
    bytes_compared: int = 0
    bytes_differing: int = 0
    troubles: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return sum(self.kills.values())

    def as_dict(self) -> dict[str, object]:
        return {
            "kills": self.killed,
            "by victim": dict(self.kills),
            "power cuts": self.power_cuts,
            "full disks": self.full_disks,
            "jobs": self.jobs,
            "runs": self.runs,
            "bytes compared": self.bytes_compared,
            "bytes that differ": self.bytes_differing,
            "troubles": self.troubles,
        }


@dataclass
class Killer:
    """Runs jobs and kills them.

    inline   the whole job is one process; there is one victim then
    power    share of the kills of the whole group after which unsynced data is lost
    faults   of the disk (disk.py), in every run but the golden ones
    """

    model: Path
    folder: Path
    seed: int = 1
    inline: bool = False
    power: float = 0.3
    seconds: float = 60.0
    checkpoint_s: float = 0.2
    faults: Sequence[str] = ()
    say: Callable[[str], None] = lambda _: None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._golden: dict[str, dict[str, bytes]] = {}
        self._full = self.folder / "full"

    def job(self, kind: str, kills: int, victims: Sequence[str] = VICTIMS) -> None:
        """One recording to its end, killed at most so often, then compared."""
        clip = recording(self.folder, kind, self.seconds)
        golden = self._golden_of(kind, clip)
        (self.folder / "journal").unlink(missing_ok=True)  # of all runs of the job: what one synced stays so
        out = self.folder / f"job-{self.tally.jobs}"
        left, runs = kills, 0
        while True:
            runs += 1
            code, used = self._run(clip, out, golden, left, victims)
            left -= used
            if code is not None:
                break
            if runs > kills + 3:
                self.tally.troubles.append(f"{kind}: no end after {runs} runs")
                break
        self.tally.jobs += 1
        self.tally.runs += runs
        if code not in (0, None):
            self.tally.troubles.append(f"{kind}: exit code {code}")
        self._compare(kind, golden, out)
        self.say(f"{kind}: {kills - left} kills in {runs} runs; {self.tally.bytes_differing} bytes differ")

    def _golden_of(self, kind: str, clip: Path) -> dict[str, bytes]:
        if kind not in self._golden:
            out = self.folder / f"golden-{kind}"
            done = subprocess.run(
                self._command(clip, out, inline=True), capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(f"the golden run failed: {done.stderr}")
            self._golden[kind] = _results(out, clip.stem)
        return self._golden[kind]

    def _command(self, clip: Path, out: Path, *, inline: bool) -> list[str]:
        settings = {"outputs.checkpoint_s": self.checkpoint_s} | {f"labels.{k}": v for k, v in EASY.items()}
        options = [f"--set={key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "streamfuse.cli.main", "process", str(clip), "-o", str(out)]
        command += ["--model", str(self.model), "--device", "cpu", "--csv", "--html", *options]
        return [*command, "--inline"] if inline else command

    def _run(
        self, clip: Path, out: Path, golden: dict[str, bytes], kills: int, victims: Sequence[str]
    ) -> tuple[int | None, int]:
        """One run: its exit code, None where it was killed; and how many kills it took."""
        journal = self.folder / "journal"
        environment = os.environ | child_environment(
            *self.faults, path=str(out), journal=journal, full=self._full
        )
        log = (self.folder / "log.txt").open("ab")
        process = subprocess.Popen(
            self._command(clip, out, inline=self.inline),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        children: set[int] = set()
        used = 0
        try:
            while used < min(kills, SERVICE_RESTARTS):
                if not self._wait_for_the_moment(process, out, clip, golden, children):
                    return self._end(process), used
                victim = "group" if self.inline else self._rng.choice(list(victims))
                if not self._kill(victim, process, children):
                    continue
                used += 1
                if victim == "disk":
                    self.tally.full_disks += 1
                    continue
                self.tally.kills[victim] += 1
                if victim in ("supervisor", "group"):
                    process.wait()
                    _wait_until_gone(children)
                    if victim == "group" and self._rng.random() < self.power:
                        self.tally.power_cuts += 1
                        discard_unsynced(out, journal)
                    return None, used
            return self._end(process), used
        finally:
            self._full.unlink(missing_ok=True)
            _kill_all({process.pid, *children})
            process.wait()

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(RUN_S)
        except subprocess.TimeoutExpired:
            self.tally.troubles.append("a run hung")
            return -1

    def _wait_for_the_moment(
        self,
        process: subprocess.Popen[bytes],
        out: Path,
        clip: Path,
        golden: dict[str, bytes],
        children: set[int],
    ) -> bool:
        """A moment in the work most of the time, any moment otherwise. False: the run ended before it."""
        part = out / f"{clip.stem}.labels.jsonl.part"
        size = _size(part)
        goal = size + self._rng.random() * (1.1 * len(golden["labels.jsonl"]) - size)
        at = time.monotonic() + (self._rng.uniform(0, 6) if self._rng.random() < 0.15 else RUN_S)
        while process.poll() is None and time.monotonic() < at:
            children |= set(_children(process.pid))
            if _size(part) >= goal:
                break
            time.sleep(POLL_S)
        return process.poll() is None

    def _kill(self, victim: str, process: subprocess.Popen[bytes], children: set[int]) -> bool:
        """Kill it, or fill the disk for a while; False: there is no such process now."""
        if victim == "disk":
            self._full.touch()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._rng.uniform(0.5, FULL_S))
            self._full.unlink()
            return True
        if victim == "supervisor":
            process.kill()
            return True
        if victim == "group":
            _kill_all({process.pid, *children, *_children(process.pid)})
            return True
        for pid in _children(process.pid):
            if f"streamfuse.services.{victim}" in _command_line(pid):
                _kill_all({pid})
                return True
        time.sleep(POLL_S)
        return False

    def _compare(self, kind: str, golden: dict[str, bytes], out: Path) -> None:
        got = _results(out, recording(self.folder, kind, self.seconds).stem)
        for name, wanted in golden.items():
            have = got.get(name, b"")
            differing = sum(a != b for a, b in zip(wanted, have, strict=False)) + abs(len(wanted) - len(have))
            self.tally.bytes_compared += len(wanted)
            self.tally.bytes_differing += differing
            if differing:
                self.tally.troubles.append(f"{kind}: {differing} bytes of {name} differ, see {out}")


def _results(out: Path, stem: str) -> dict[str, bytes]:
    paths = {name: out / f"{stem}.{name}" for name in RESULTS}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _kill_all(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _wait_until_gone(pids: set[int]) -> None:
    """Those of a dead parent are reaped by init; one that stays is an orphan, which is a fault of ours."""
    until = time.monotonic() + 10
    while alive := [pid for pid in pids if "streamfuse" in _command_line(pid)]:
        if time.monotonic() > until:
            raise RuntimeError(f"orphans: {alive}")
        time.sleep(POLL_S)


def tiny_model(path: Path) -> Path:
    """An untrained network of the smallest kind: what is compared is bytes, not sense."""
    import torch

    from streamfuse.model.export import export_model
    from streamfuse.model.network import build_network, network_spec
    from streamfuse.model.spec import HeadSpec

    heads = (
        HeadSpec("scene", ("indoor", "street", "nature"), threshold=0.0),
        HeadSpec("emotion", ("none", "calm", "happy"), threshold=0.35),
        HeadSpec("sound", ("speech", "music"), kind="sigmoid"),
    )
    torch.manual_seed(0)
    spec = network_spec(heads, preset="tiny", fusion="gated", picture=None, memory_ticks=32)
    export_model(build_network(spec, dropout=0.0), spec, path)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inline", action="store_true", help="one process instead of four")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument(
        "--power", type=float, default=0.5, help="share of group kills that lose unsynced data"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each recording")
    parser.add_argument("--per-job", type=int, default=6, help="most kills of one job")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sf-kills-") as folder:
        model = tiny_model(Path(folder) / "tiny.ts")
        killer = Killer(
            model,
            Path(folder),
            seed=arguments.seed,
            inline=arguments.inline,
            power=arguments.power,
            seconds=arguments.seconds,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
        rng = random.Random(arguments.seed)
        while killer.tally.killed < arguments.kills:
            kind = arguments.kinds[killer.tally.jobs % len(arguments.kinds)]
            wanted = min(rng.randint(1, arguments.per_job), arguments.kills - killer.tally.killed)
            killer.job(kind, wanted)
            if killer.tally.jobs > 3 * arguments.kills:
                break
        print(json.dumps(killer.tally.as_dict(), indent=1))
    return 1 if killer.tally.bytes_differing or killer.tally.troubles else 0


if __name__ == "__main__":
    raise SystemExit(main())
