"""A live run with three cameras, to which something is done every few seconds; every return is waited for."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from streamfuse.clock import SYSTEM
from streamfuse.config import DecodeConfig
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import NS
from tests.clips import Clip
from tests.faults.clocks import WallClock
from tests.faults.disk import child_environment
from tests.faults.killer import processes_of, shared_memory
from tests.integration.live import LiveRun
from tests.integration.proxy import Proxy
from tests.integration.senders import http_camera
from tests.nemesis.history import (
    Fault,
    Targets,
    balance_problems,
    event_problems,
    leak_problems,
    log_problems,
    order_problems,
    recovery_problems,
    with_unwritten,
)
from tests.nemesis.leaks import Ledger, sockets
from tests.nemesis.strikes import CAMERAS, DEADLINE_S, Nemesis

CLIP_S = 20.0
OPTIONS = ("--set", "decode.open_timeout_s=2", "--set", "decode.read_timeout_s=2")


@contextmanager
def cameras(folder: Path) -> Iterator[tuple[dict[str, str], dict[str, Proxy]]]:
    """Two transport streams and a motion JPEG camera over HTTP, each behind a proxy of its own."""
    clip = Clip(seconds=CLIP_S, width=160, height=120, fps=10, container="mpegts").write(folder / "camera.ts")
    with ExitStack() as stack:
        base = stack.enter_context(http_camera(clip, CLIP_S))
        proxies = {name: stack.enter_context(Proxy(int(base.rpartition(":")[2]))) for name in CAMERAS}
        paths = {"door": "stream.ts", "yard": "mjpeg", "hall": "stream.ts"}
        yield {n: f"http://127.0.0.1:{proxies[n].port}/{paths[n]}" for n in CAMERAS}, proxies


def live_problems(
    model: Path, folder: Path, *, seed: int, seconds: float, every_s: float, targets: Targets,
    say: Callable[[str], None], machine: bool = False,
) -> tuple[list[str], list[Fault]]:  # fmt: skip
    """Run, strike, stop; return what was broken, and what was done."""
    shm = shared_memory()
    with cameras(folder) as (sources, proxies), ExitStack() as runs:
        nemesis = _begin(runs, model, folder, sources, proxies, random.Random(seed), say)
        nemesis.machine = machine
        ledger, begun = Ledger(), nemesis.run
        ledger.look(begun)
        known = sockets(begun)
        while nemesis.now_s() + every_s < seconds:
            nemesis.strike()
            nemesis.rest_until(every_s * (1 + nemesis.now_s() // every_s))
            ledger.look(nemesis.run)
        code = nemesis.run.stop()
        problems = [] if code == 0 else [f"exit code {code}: {nemesis.run.said()}"]
        _keep(nemesis, folder)
        problems += _written_problems(nemesis) + nemesis.problems + ledger.problems
        problems += balance_problems(nemesis.run.status())
        problems += recovery_problems(nemesis.faults, targets)
        problems += [] if nemesis.faults else ["nothing was done to the run"]
        problems += leak_problems(ledger.first, ledger.last, targets)
        for path in (begun.run_dir / "logs").iterdir():
            problems += log_problems(path.name, path.read_text(errors="replace"))
        problems += [f"left behind: {process}" for process in processes_of(str(begun.run_dir))]
        problems += [f"left behind: socket {name}" for name in sockets(begun) if name not in known]
    problems += [f"left in /dev/shm: {name}" for name in shared_memory() - shm]
    return problems, nemesis.faults


def _begin(
    runs: ExitStack, model: Path, folder: Path, sources: dict[str, str], proxies: dict[str, Proxy],
    rng: random.Random, say: Callable[[str], None],
) -> Nemesis:  # fmt: skip
    """The run, warm, and the nemesis over it; `runs` ends every run that was begun."""
    out, full, clock = folder / "out", folder / "full", WallClock(folder)
    env = clock.environment | child_environment(path=f"{out}/", full=full)

    def begin() -> LiveRun:
        options, run_dir = (*OPTIONS, "-o", str(out)), folder / "run"
        run = LiveRun(sources, *options, model=model, run_dir=run_dir, metrics=True, env=env)
        return runs.enter_context(run)

    opening = {name: _opening_s(source) for name, source in sources.items()}
    say("cameras are opened after " + ", ".join(f"{name} {took:.1f} s" for name, took in opening.items()))
    run = begin()
    for name in CAMERAS:
        run.until(lambda n=name: len(run.labels(n)) > 5, f"labels of {name}", DEADLINE_S)
    run.until(lambda: len(run.children()) == 4 + len(CAMERAS), "a spare and a reserve", DEADLINE_S)
    return Nemesis(run, begin, out, proxies, clock, full, opening, rng, say)


def _opening_s(source: str) -> float:
    """Seconds to the first that is read of a camera, by a process that has nothing to load."""
    began_ns = SYSTEM.monotonic_ns()
    with open_decoder(parse_source(source), decode=DecodeConfig(), mode="live", picture_side=64) as decoder:
        next(iter(decoder))
    return (SYSTEM.monotonic_ns() - began_ns) / NS


def _keep(nemesis: Nemesis, folder: Path) -> None:
    """What is looked at where something broke."""
    for number, run in enumerate(nemesis.runs):
        shutil.copy(run.stderr, run.run_dir / "logs" / f"run-{number}.stderr")
    (folder / "faults.txt").write_text("".join(f"{fault!r}\n" for fault in nemesis.faults))


def _written_problems(nemesis: Nemesis) -> list[str]:
    """What the files of the run's outputs say, with what a full disk took."""
    problems: list[str] = []
    for name in CAMERAS:
        files = sorted(nemesis.out.glob(f"{name}*.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        whole, events, missing = with_unwritten(name, lines, nemesis.unwritten[name])
        problems += missing + order_problems(name, whole) + event_problems(name, whole, events)
        problems += [] if lines else [f"{name}: nothing was written"]
    return problems
