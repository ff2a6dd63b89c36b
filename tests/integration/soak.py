"""A run that is made to lose its sources again and again, and what its processes hold after that."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
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
HANDLES, THREADS = 2, 2
"""One connection, with the threads of its decoder, may be open at most moments of one window of looks and not
of the other."""
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
        if later.handles - self.handles > HANDLES:
            lines.append(f"{role}: {self.handles} -> {later.handles} file descriptors")
        if later.threads - self.threads > THREADS:
            lines.append(f"{role}: {self.threads} -> {later.threads} threads")
        return lines


@dataclass(frozen=True)
class Look:
    """At what every process holds, `seconds` after the beginning."""

    seconds: float
    ticks: int
    reconnects: int
    holdings: dict[str, Holding]


@dataclass(frozen=True)
class Outcome:
    """Of a soak: what was asked for and done, and the most each process held early and late, by its role."""

    asked: tuple[int, int]
    ticks: int
    reconnects: int
    before: dict[str, Holding]
    after: dict[str, Holding]
    shm_before: int
    shm_after: int
    looks: Sequence[Look] = field(default=())

    def reached_s(self) -> float | None:
        """Seconds after which both numbers that were asked for had been seen; None where they never were."""
        ticks, reconnects = self.asked
        return next((x.seconds for x in self.looks if x.ticks >= ticks and x.reconnects >= reconnects), None)

    def slope_mb_per_h(self, role: str) -> float | None:
        """Least-squares slope of a process's memory over the looks from SETTLED on, in MB an hour."""
        settled = [x for x in self.looks if x.reconnects >= SETTLED * self.asked[1] and role in x.holdings]
        if len(settled) < 3:
            return None
        hours = [look.seconds / 3600 for look in settled]
        return statistics.linear_regression(hours, [x.holdings[role].rss / 1e6 for x in settled]).slope

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


def soak(
    model: Path, folder: Path, *, reconnects: int, ticks: int, deadline_s: float, at_least_s: float = 0.0,
    clip_s: float = CLIP_S,
) -> Outcome:  # fmt: skip
    """Watch four sources, three of which end or are reset all the time, to both numbers or the deadline.

    With `at_least_s` it goes on after both numbers until so many seconds have passed. `clip_s`: after so many
    seconds two of the sources end; one that is away gives no ticks.
    """
    clip = Clip(seconds=clip_s, width=160, height=120, fps=10, container="mpegts").write(folder / "soak.ts")
    with ExitStack() as stack:
        base = stack.enter_context(http_camera(clip, clip_s))
        proxy = stack.enter_context(Proxy(int(base.rpartition(":")[2])))
        sources = {
            "steady": f"{base}/mjpeg",
            "ends": f"{base}/stream.ts",
            "again": f"{base}/stream.ts",
            "resets": f"http://127.0.0.1:{proxy.port}/mjpeg",
        }
        run = stack.enter_context(LiveRun(sources, model=model, metrics=True))
        for name in sources:
            run.until(lambda n=name: run.labels(n), f"labels of {name}", 120)
        # The spare grows until it is warm, which on a busy machine takes as long as many reconnects.
        run.until(lambda: STANDS_BY in (run.run_dir / SPARE_LOG).read_text(), "a warm spare", 120)
        run.until(lambda: len(run.children()) == 4 + len(sources), "a reserve", 120)
        shm = len(list(SHM.iterdir()))
        looks: list[Look] = []
        look, began_ns = _looker(run), SYSTEM.monotonic_ns()
        while (now := look(began_ns)).seconds < deadline_s:
            if now.seconds >= at_least_s and now.ticks >= ticks and now.reconnects >= reconnects:
                break
            looks.append(now)
            seen = run.session("resets")
            proxy.reset()
            proxy.heal()
            run.until(lambda s=seen: run.session("resets") > s, "labels after a reset", 60)
        looks.append(now)
        shm_after = len(list(SHM.iterdir()))
        early = [x for x in looks if SETTLED <= x.reconnects / reconnects <= 2 * SETTLED]
        done = (ticks, reconnects), now.ticks, now.reconnects
        outcome = Outcome(*done, most(early), most(looks[-len(early) :]), shm, shm_after, looks)
        assert run.stop() == 0, run.said()
        return outcome


def _looker(run: LiveRun) -> Callable[[int], Look]:
    """Looks at a run, counting what it said and lost from now on; asked with the time that it counts from."""
    told, lost = len(run.lines), _reconnects(run)

    def look(began_ns: int) -> Look:
        seconds = (SYSTEM.monotonic_ns() - began_ns) / NS
        return Look(seconds, len(run.lines) - told, _reconnects(run) - lost, holdings(run))

    return look


def most(looks: Sequence[Look]) -> dict[str, Holding]:
    """The most that each process held, of those that are there at the last of the looks.

    A decoder has threads and files while its source is there, and none while it is away: two single looks
    compare one with the other.
    """
    roles = looks[-1].holdings if looks else {}
    return {role: _most([x.holdings[role] for x in looks if role in x.holdings]) for role in roles}


def _most(held: Sequence[Holding]) -> Holding:
    return Holding(max(x.rss for x in held), max(x.handles for x in held), max(x.threads for x in held))


def holdings(run: LiveRun) -> dict[str, Holding]:
    """By role and pid: a process that was replaced is another."""
    found: dict[str, Holding] = {}
    for process in [psutil.Process(run.process.pid), *run.children()]:
        with suppress(psutil.Error):  # one that is just ending holds nothing any more
            words = process.cmdline()
            if any("streamfuse.services.reserve" in word for word in words):
                continue  # it loads, and becomes another under the same pid
            role = next((w.rpartition(".")[2] for w in words if "streamfuse.services." in w), "supervisor")
            name = words[-1] if role == "decode" else ""
            with process.oneshot():
                holding = Holding(process.memory_info().rss, process.num_fds(), process.num_threads())
            found[f"{role} {name} {process.pid}"] = holding
    return found


def _reconnects(run: LiveRun) -> int:
    counts = (run.metric("streamfuse_reconnects_total", source=name) or 0 for name in BROKEN)
    return round(sum(counts))
