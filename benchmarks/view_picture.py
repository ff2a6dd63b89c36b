"""Draws docs/images/view.png: the page of a real run, in a browser.

    python benchmarks/view_picture.py [--seconds 60] [--model FILE] name=SOURCE...

Files begin again and again at their own pace; one source more is a camera that is not there. Give no more
sources than the machine holds (bench_streams.py), or the picture shows what is dropped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.integration.browser import Tab, chromium
from tests.integration.live import LiveRun
from tests.ports import free_port

SIZE = {"width": 1440, "height": 1080}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="name=SOURCE")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", type=Path, default=ROOT / "streamfuse/model/default.ts")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/view.png")
    given = parser.parse_args()
    sources = dict(source.split("=", 1) for source in given.sources)
    cameras, port = {**sources, "gate": "rtsp://127.0.0.1:9/stream"}, free_port()
    options = ("--loop", "--view", f"127.0.0.1:{port}", "--set", "live.spare=false")
    # The browser is there first: its start costs a machine with two cores some ticks.
    with chromium() as browser, LiveRun(cameras, *options, model=given.model) as run:
        run.until(lambda: all(run.labels(name) for name in sources), "labels of every source", 180)
        with Tab(browser, f"http://127.0.0.1:{port}/", size=SIZE) as tab:
            SYSTEM.sleep_ns(round(given.seconds * NS))
            tab.page.screenshot(path=str(given.out))
            for line in tab.complaints:
                print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
