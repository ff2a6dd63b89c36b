"""The face view on clips: share of ticks with a face, jitter of the crop in pixels, and cost per tick.

    python benchmarks/bench_faces.py CLIP...        (clips with faces; none are in the repository)

Each clip's pictures go through FaceView at ten ticks a second, as in the analyzer, short side up to 288 px.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.faces.view import FaceView
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import MS, TickHead, VideoFrame

HOP_NS = 100 * MS


def measure(path: Path, side: int, most: int) -> tuple[str, ...]:
    """One row of the table."""
    view, newest, spent, crops, ticks, size = FaceView(), -1, [], [], 0, (0, 0)
    with open_decoder(
        parse_source(str(path)),
        decode=DecodeConfig(audio=False),
        ticks=TickConfig(),
        mode="recorded",
        picture_side=side,
    ) as decoder:
        for item in decoder:
            if ticks == most:
                break
            if not isinstance(item, VideoFrame) or item.pts_ns // HOP_NS == newest:
                continue
            newest = item.pts_ns // HOP_NS
            picture = item.render()
            size = picture.width, picture.height
            head = TickHead(path.name, 0, newest, 0, HOP_NS, "ok", "missing")
            began = time.perf_counter_ns()
            seen = view.see(head, picture)
            spent.append(time.perf_counter_ns() - began)
            ticks += 1
            if seen is not None and view.state.steady is not None:
                crops.append([one.value for one in view.state.steady])
    jitter = np.abs(np.diff(np.array(crops), 2, axis=0)).mean(0) if len(crops) > 2 else np.full(3, np.nan)
    cost = np.array(spent) / MS
    return (
        path.name,
        f"{size[0]}x{size[1]}",
        str(ticks),
        f"{100 * len(crops) / max(ticks, 1):.0f} %",
        f"{jitter[0]:.2f} {jitter[1]:.2f} {jitter[2]:.2f}",
        f"{np.median([c[2] for c in crops]):.0f}" if crops else "-",
        f"{cost.mean():.2f}",
        f"{np.percentile(cost, 50):.2f}",
        f"{np.percentile(cost, 99):.2f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--side", type=int, default=288, help="largest short side of the pictures")
    parser.add_argument("--ticks", type=int, default=600, help="of each clip, at most")
    chosen = parser.parse_args()
    table = Table(title="face view")
    titles = "clip", "picture", "ticks", "face", "jitter x y side, px", "side, px", "ms mean", "p50", "p99"
    for title in titles:
        table.add_column(title, justify="left" if title == "clip" else "right")
    for clip in chosen.clips:
        table.add_row(*measure(clip, chosen.side, chosen.ticks))
    Console().print(table)


if __name__ == "__main__":
    main()
