"""A run that is made to lose its sources again and again, and what its processes hold after that."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from streamfuse.clock import SYSTEM
from streamfuse.services.analyze import STANDS_BY
from streamfuse.types import NS
from tests.clips import Clip
from tests.integration.live import LiveRun
from tests.integration.proxy import Proxy
from tests.integration.senders import http_camera

CLIP_S = 1.5
SETTLED = 0.1
"""Share of the reconnects after which a process is taken to have all it needs."""
BROKEN = ("ends", "again", "resets")
SHM = Path("/dev/shm")
GROWTH = 20_000_000
"""Bytes by which a process may grow between SETTLED and the end."""
HANDLES, THREADS = 2, 1
"""One connection more or less may be open at the moment of looking."""
SPARE_LOG = "logs/analyze-0-spare.log"


@dataclass(frozen=True)
class Holding:
    """What one process holds."""

    rss: int
    handles: int
    threads: int

    def leaks(self, later: Holding, role: str) -> list[str]:
        lines = []
        if later.rss - self.rss > GROWTH:
            lines.append(f"{role} grew by {(later.rss - self.rss) / 1e6:.1f} MB, aim {GROWTH / 1e6:.0f}")
        if abs(later.handles - self.handles) > HANDLES:
            lines.append(f"{role}: {self.handles} -> {later.handles} file descriptors")
        if abs(later.threads - self.threads) > THREADS:
            lines.append(f"{role}: {self.threads} -> {later.threads} threads")
        return lines


@dataclass(frozen=True)
class Outcome:
    """Of a soak: what was asked for and done, and each process at SETTLED and at the end, by its role."""

    asked: tuple[int, int]
    ticks: int
    reconnects: int
    before: dict[str, Holding]
    after: dict[str, Holding]
    shm_before: int
    shm_after: int

    def missed(self) -> list[str]:
        """Every aim that was missed, one line each."""
        lines = []
        if self.ticks < self.asked[0] or self.reconnects < self.asked[1]:
            asked = "{} and {}".format(*self.asked)
            lines.append(f"{self.ticks} ticks and {self.reconnects} reconnects by the deadline, not {asked}")
        for role in self.before.keys() - self.after.keys():
            lines.append(f"{role} was replaced")
        for role in self.before.keys() & self.after.keys():
            lines += self.before[role].leaks(self.after[role], role)
        if not self.before:
            lines.append("no process was looked at: too few reconnects")
        if self.shm_after > self.shm_before:
            lines.append(f"/dev/shm: {self.shm_before} -> {self.shm_after} entries")
        return lines


def soak(model: Path, folder: Path, *, reconnects: int, ticks: int, deadline_s: float) -> Outcome:
    """Watch four sources, three of which end or are reset all the time, to both numbers or the deadline."""
    clip = Clip(seconds=CLIP_S, width=160, height=120, fps=10, container="mpegts").write(folder / "soak.ts")
    with ExitStack() as stack:
        base = stack.enter_context(http_camera(clip, CLIP_S))
        proxy = stack.enter_context(Proxy(int(base.rpartition(":")[2])))
        sources = {
            "steady": f"{base}/mjpeg",
            "ends": f"{base}/stream.ts",
            "again": f"{base}/stream.ts",
            "resets": f"http://127.0.0.1:{proxy.port}/mjpeg",
        }
        run = stack.enter_context(LiveRun(sources, model=model, metrics=True))
        end_ns = SYSTEM.monotonic_ns() + round(deadline_s * NS)
        for name in sources:
            run.until(lambda n=name: run.labels(n), f"labels of {name}", 120)
        # The spare grows until it is warm, which on a busy machine takes as long as many reconnects.
        run.until(lambda: STANDS_BY in (run.run_dir / SPARE_LOG).read_text(), "a warm spare", 120)
        assert len(run.children()) == 3 + len(sources)
        shm = len(list(SHM.iterdir()))
        before: dict[str, Holding] = {}
        told, lost = len(run.lines), _reconnects(run)
        seen_ticks = done = 0
        while (done < reconnects or seen_ticks < ticks) and SYSTEM.monotonic_ns() < end_ns:
            seen = run.session("resets")
            proxy.reset()
            proxy.heal()
            run.until(lambda s=seen: run.session("resets") > s, "labels after a reset", 60)
            seen_ticks, done = len(run.lines) - told, _reconnects(run) - lost
            if not before and SETTLED * reconnects <= done < reconnects:
                before = holdings(run)
        after, asked = holdings(run), (ticks, reconnects)
        outcome = Outcome(asked, seen_ticks, done, before, after, shm, len(list(SHM.iterdir())))
        assert run.stop() == 0, run.said()
        return outcome


def holdings(run: LiveRun) -> dict[str, Holding]:
    """By role and pid: a process that was replaced is another."""
    found: dict[str, Holding] = {}
    for process in [psutil.Process(run.process.pid), *run.children()]:
        words = process.cmdline()
        role = next((w.rpartition(".")[2] for w in words if "streamfuse.services." in w), "supervisor")
        name = words[-1] if role == "decode" else ""
        with process.oneshot():
            holding = Holding(process.memory_info().rss, process.num_fds(), process.num_threads())
        found[f"{role} {name} {process.pid}"] = holding
    return found


def _reconnects(run: LiveRun) -> int:
    counts = (run.metric("streamfuse_reconnects_total", source=name) or 0 for name in BROKEN)
    return round(sum(counts))
