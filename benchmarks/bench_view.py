"""What the page costs the run that it shows, and how soon a label is on the screen.

    python benchmarks/bench_view.py [--seconds 20] [--rounds 3] [--pages 0,1,8] [--run] [--sources 16]

First the page's server by itself, in a process of its own, with 16 made-up sources at ten labels and two
pictures of 640 x 360 a second: its processor time with 0, 1 and 8 open pages, in turns. A page here is a
WebSocket client in another process that takes everything, as a browser's network process does; so the cost
is the server's alone. Then one tab in a real browser: the time from telling a label to the frame after it was
drawn, the browser's own processor time, and what it missed.
With --run the same 0, 1 and 8 pages beside a real run of `--sources` generated cameras, and beside one that
serves no page (no `--view`): age of the labels, and processor time of all its processes together, so that the
pictures that the decode processes make are in it.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from report import Timing, write
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.integration.browser import Tab, chromium
from tests.integration.live import LiveRun
from tests.integration.test_view_pages import SOURCES, fed
from tests.ports import free_port

SETTLE_S = 2.0
SERVER = "the page's server, 16 sources"
CAMERA = "lavfi:testsrc2=size=640x360:rate=25;sine=frequency=440"


def serve() -> None:
    """The child that is measured: 16 sources and their page, until its stdin ends."""
    with fed() as (url, _):
        print(url, flush=True)
        sys.stdin.read()


@contextmanager
def server() -> Iterator[tuple[psutil.Process, str]]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield psutil.Process(process.pid), process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)


def read_pages(url: str, count: int, seconds: float, told: Any) -> None:
    """So many pages that take everything; tells [bytes, pictures, labels] of the time after settling."""

    async def page() -> list[int]:
        got = [0, 0, 0]
        async with connect(url.replace("http", "ws") + "news", max_size=1 << 26, compression=None) as line:
            began = time.monotonic()
            while (at := time.monotonic() - began) < SETTLE_S + seconds:
                message = await line.recv()
                if at < SETTLE_S:
                    continue
                got[0] += len(message)
                got[1] += isinstance(message, bytes)
                got[2] += message.count("},[[[") if isinstance(message, str) else 0
        return got

    async def pages() -> list[list[int]]:
        return await asyncio.gather(*(page() for _ in range(count)))

    told.put(asyncio.run(pages()))


def spent(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measured(processes: list[psutil.Process], url: str, pages: int, seconds: float) -> dict[str, float]:
    """Processor share of the processes while so many pages are open, and what each page got a second."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    reader = context.Process(target=read_pages, args=(url, pages, seconds + 1, told)) if pages else None
    if reader is not None:
        reader.start()
        time.sleep(1 + SETTLE_S)  # its imports
    before, began = spent(processes), time.monotonic()
    time.sleep(seconds)
    share = (spent(processes) - before) / (time.monotonic() - began)
    row = {"pages": pages, "cpu_share": share}
    if reader is not None:
        got = told.get()
        reader.join()
        names = ("bytes_per_s", "pictures_per_s", "labels_per_s")
        row |= {name: sum(page[i] for page in got) / pages / (seconds + 1) for i, name in enumerate(names)}
    return row


def server_rows(counts: list[int], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """The medians of so many rounds, in turns."""
    taken: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    with server() as (process, url):
        time.sleep(SETTLE_S)
        for _ in range(rounds):
            for count in counts:
                taken[count].append(measured([process], url, count, seconds))
    return [_median(SERVER, f"{count} pages", taken[count]) for count in counts]


def screen_row(seconds: float) -> dict[str, Any]:
    """One tab of Chromium: label to screen, and the browser's own processor time."""
    with server() as (_, url), chromium() as browser, Tab(browser, url) as tab:
        tab.until("globalThis.streamfuseShown?.().delays.length >= 160", "a second of labels")
        ours = psutil.Process().children(recursive=True)
        browsers = [child for child in ours if "chrom" in child.name()]
        before = spent(browsers)
        tab.page.wait_for_timeout(seconds * 1000)
        used = spent(browsers) - before
        shown = tab.page.evaluate("streamfuseShown()")
    delays = Timing.of([max(0.0, delay[0]) * 1e6 for delay in shown["delays"]])
    row = {
        "case": "label to screen",
        "name": "one tab",
        "unit": "ns per label",
        "n": delays.n,
        "p50": delays.p50,
    }
    row |= {"p95": delays.p95, "p99": delays.p99, "max": delays.max, "missed": shown["missed"]}
    return row | {"browser_cpu_share": used / seconds}


def run_rows(
    counts: list[int], seconds: float, rounds: int, sources: int, model: Path
) -> list[dict[str, Any]]:
    """A real run without a page, and one with: ages of the labels, processor share of all its processes."""
    case = f"a run of {sources} sources, all processes"
    cameras = {f"camera{n}": CAMERA for n in range(sources)}
    rows = []
    for name, view in (("no --view", False), ("--view", True)):
        taken: dict[str, list[dict[str, float]]] = {}
        port = free_port()
        options = ("--view", f"127.0.0.1:{port}") if view else ()
        with LiveRun(cameras, *options, model=model) as run:
            run.until(lambda r=run: all(r.labels(name) for name in cameras), "labels of every camera", 180)
            spare = run.run_dir / "logs" / "analyze-0-spare.log"
            run.until(lambda log=spare: "stands by" in log.read_text(), "the spare is warm, and rests", 180)
            for _ in range(rounds):
                for count in counts if view else [0]:
                    row = beside_run(run, f"http://127.0.0.1:{port}/", count, seconds)
                    taken.setdefault(f"{count} pages" if view else name, []).append(row)
            run.stop()
        rows += [_median(case, title, found) for title, found in taken.items()]
    return rows


def beside_run(run: LiveRun, url: str, pages: int, seconds: float) -> dict[str, float]:
    mark = len(run.lines)
    row = measured([psutil.Process(run.process.pid), *run.children()], url, pages, seconds)
    lines = run.lines[mark:]
    ages = Timing.of([line["latency"]["edge_age"] for line in lines])
    row |= {"p50": ages.p50, "p95": ages.p95, "p99": ages.p99}
    return row | {"dropped": sum(line["dropped"] for line in lines)}


def _median(case: str, name: str, rows: list[dict[str, float]]) -> dict[str, Any]:
    middle = {key: sorted(row[key] for row in rows)[len(rows) // 2] for key in rows[0]}
    return {"case": case, "name": name, "unit": "share of a core; ages in ns", "rounds": len(rows)} | middle


def told(row: dict[str, Any]) -> str:
    parts = [f"  {row['name']:10}"]
    if "cpu_share" in row:
        parts.append(f"{row['cpu_share'] * 100:6.2f} % of a core")
    if "bytes_per_s" in row:
        parts.append(f"{row['bytes_per_s'] / 1e3:8.0f} kB/s a page, {row['pictures_per_s']:.1f} pictures/s")
    if "p50" in row:
        parts.append(f"p50 {row['p50'] / 1e6:7.1f} ms  p95 {row['p95'] / 1e6:7.1f} ms")
    if "browser_cpu_share" in row:
        parts.append(
            f"browser {row['browser_cpu_share'] * 100:.0f} % of a core, {row['missed']} labels missed"
        )
    return "  ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", default="0,1,8")
    parser.add_argument("--run", action="store_true", help="a real run too")
    parser.add_argument("--sources", type=int, default=SOURCES, help="of the real run")
    parser.add_argument(
        "--model", type=Path, default=Path(__file__).parents[1] / "streamfuse/model/default.ts"
    )
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    counts = [int(count) for count in given.pages.split(",")]
    rows = server_rows(counts, given.seconds, given.rounds)
    most = rows[-1]
    if counts[0] == 0 and counts[-1] > 0:
        most["cpu_share_per_page"] = (most["cpu_share"] - rows[0]["cpu_share"]) / counts[-1]
    rows.append(screen_row(given.seconds))
    if given.run:
        rows += run_rows(counts, given.seconds, given.rounds, given.sources, given.model)
    for case in dict.fromkeys(row["case"] for row in rows):
        print(case)
        print("\n".join(told(row) for row in rows if row["case"] == case))
    if "cpu_share_per_page" in most:
        print(f"one page more costs {most['cpu_share_per_page'] * 100:.2f} % of a core (aim: under 3)")
    whole = [row["labels_per_s"] for row in rows if row["case"] == SERVER and "labels_per_s" in row]
    checks = {
        "sources": SOURCES,
        "every page got every label": all(abs(rate - SOURCES * 10) < SOURCES for rate in whole),
    }
    print(checks)
    write("view", rows, checks)


if __name__ == "__main__":
    main()
