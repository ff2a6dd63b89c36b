"""A live run with three cameras, to which something is done every few seconds; every return is waited for."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.clips import Clip
from tests.faults.killer import afflict, processes_of, shared_memory
from tests.integration.live import LiveRun
from tests.integration.proxy import Proxy
from tests.integration.senders import http_camera
from tests.nemesis.history import (
    CAMERA_FAULTS,
    PROCESS_FAULTS,
    Fault,
    Targets,
    balance_problems,
    event_problems,
    leak_problems,
    log_problems,
    order_problems,
    recovery_problems,
)

CAMERAS = ("door", "yard", "hall")
CLIP_S = 20.0
OPTIONS = ("--set", "decode.open_timeout_s=2", "--set", "decode.read_timeout_s=2")
DEADLINE_S = 90.0
"""What has not come back by then never will."""
LIMIT_BYTES = 20_000


@dataclass
class Nemesis:
    """Faults by a seeded choice; what became of each is in `faults`."""

    run: LiveRun
    proxies: dict[str, Proxy]
    rng: random.Random
    say: Callable[[str], None]
    faults: list[Fault] = field(default_factory=list)
    began_ns: int = field(default_factory=SYSTEM.monotonic_ns)

    def now_s(self) -> float:
        return (SYSTEM.monotonic_ns() - self.began_ns) / NS

    def strike(self) -> Fault:
        """One fault, until what it hit is back."""
        if self.rng.random() < 0.5:
            fault = self._camera(self.rng.choice(CAMERA_FAULTS), self.rng.choice(CAMERAS))
        else:
            target = self.rng.choice(("publish", "analyze", *(f"decode {name}" for name in CAMERAS)))
            fault = self._process(self.rng.choice(PROCESS_FAULTS), target)
        self.faults.append(fault)
        noticed = "" if fault.noticing_s is None else f"noticed after {fault.noticing_s:.1f} s, "
        self.say(f"{fault}: {noticed}back after {fault.return_s:.1f} s")
        return fault

    def _process(self, kind: str, target: str) -> Fault:
        service, _, name = target.partition(" ")
        names = (name,) if name else CAMERAS
        sessions, mark = {n: self._session(n) for n in names}, len(self.run.lines)
        fault = Fault(self.now_s(), kind, target)
        victim = self.run.child(service, name)
        afflict(victim, kind)
        self._wait(lambda: _is_gone(victim), f"{fault}: is noticed")
        fault = replace(fault, noticed_s=self.now_s())
        for one in names:
            self._wait(lambda n=one: self.run.first_label_ns(n, mark, sessions[n]), f"{fault}: {one}")
        return replace(fault, back_s=self.now_s())

    def _camera(self, kind: str, name: str) -> Fault:
        session, proxy = self._session(name), self.proxies[name]
        fault = Fault(self.now_s(), kind, name)
        mild = kind in ("latency", "limit")  # not, or not for long, a loss
        {
            "stall": proxy.stall,
            "cut": proxy.cut,
            "reset": proxy.reset,
            "trickle": lambda: proxy.trickle(5),
            "limit": lambda: proxy.limit(LIMIT_BYTES),
            "latency": lambda: proxy.latency(0.3),
        }[kind]()
        if not mild:
            self._wait(
                lambda: self.run.metric("streamfuse_source_up", source=name) == 0, f"{fault}: is noticed"
            )
            fault = replace(fault, noticed_s=self.now_s())
        else:
            self._rest(self.rng.uniform(1, 3))
        proxy.heal()
        mark, healed_s = len(self.run.lines), self.now_s()
        floor = session if not mild else -1
        self._wait(lambda: self.run.first_label_ns(name, mark, floor), f"{fault}: comes back")
        return replace(fault, healed_s=healed_s, back_s=self.now_s())

    def _session(self, name: str) -> int:
        """The newest session that a source has begun, labelled or not: what comes back is a later one."""
        state = json.loads((self.run.run_dir / "sessions" / f"{name}.json").read_text())
        return int(state["next"]) - 1

    def _wait(self, done: Callable[[], object], what: str) -> None:
        self.run.until(done, what, DEADLINE_S)

    def _rest(self, seconds: float) -> None:
        """Let the run go on; an end of it is noticed at once."""
        end_s = self.now_s() + seconds
        self.run.until(lambda: self.now_s() >= end_s, "time passes", seconds + DEADLINE_S)

    def rest_until(self, at_s: float) -> None:
        self._rest(max(0.0, at_s - self.now_s()))


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
    say: Callable[[str], None],
) -> tuple[list[str], list[Fault]]:  # fmt: skip
    """Run, strike, stop; return what was broken, and what was done."""
    out, shm = folder / "out", shared_memory()
    with cameras(folder) as (sources, proxies), LiveRun(sources, *OPTIONS, "-o", str(out), model=model,
                                                        metrics=True) as run:  # fmt: skip
        for name in CAMERAS:
            run.until(lambda n=name: len(run.labels(n)) > 5, f"labels of {name}", DEADLINE_S)
        run.until(lambda: len(run.children()) == 3 + len(CAMERAS), "a warm spare", DEADLINE_S)
        nemesis = Nemesis(run, proxies, random.Random(seed), say)
        before = held(run)
        while nemesis.now_s() + every_s < seconds:
            nemesis.strike()
            nemesis.rest_until(every_s * (1 + nemesis.now_s() // every_s))
        after = held(run)
        code = run.stop()
        problems = [] if code == 0 else [f"exit code {code}: {run.said()}"]
        for name in CAMERAS:
            files = sorted(out.glob(f"{name}*.jsonl"))
            lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
            problems += order_problems(name, lines) + event_problems(name, lines)
            problems += [] if lines else [f"{name}: nothing was written"]
        shutil.copytree(run.run_dir / "logs", folder / "logs")
        shutil.copy(run.run_dir / "status.json", folder)
        (folder / "faults.txt").write_text("".join(f"{fault!r}\n" for fault in nemesis.faults))
        problems += balance_problems(run.status())
        problems += recovery_problems(nemesis.faults, targets)
        problems += [] if nemesis.faults else ["nothing was done to the run"]
        problems += leak_problems(before, after, targets)
        for path in [*(run.run_dir / "logs").iterdir(), run.stderr]:
            problems += log_problems(path.name, path.read_text(errors="replace"))
        problems += [f"left behind: {process}" for process in processes_of(str(run.run_dir))]
    problems += [f"left in /dev/shm: {name}" for name in shared_memory() - shm]
    return problems, nemesis.faults


def _is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def held(run: LiveRun) -> dict[str, tuple[int, int]]:
    """(resident bytes, handles) of each process, by its pid: one that was replaced is another.

    Analyzers are left out: a spare holds more once it serves, and rightly.
    """
    found = {}
    for process in [psutil.Process(run.process.pid), *run.children()]:
        words = " ".join(process.cmdline())
        if "--standby" not in words:
            found[f"{process.pid} {words[-60:]}"] = process.memory_info().rss, process.num_fds()
    return found
