"""The face view on clips: share of ticks with a face, jitter of the crop in pixels, and cost per tick.

    python benchmarks/bench_faces.py [CLIP...] [--ticks 600] [--short]

Each clip's pictures go through FaceView at ten ticks a second, as in the analyzer, short side up to 288 px.
Without CLIP: the clips with and without faces of `shared/media` beside the checkout, which are not in the
repository; where they are not there either, that is said and nothing is measured.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import report
from rich.console import Console
from rich.table import Table

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.faces.view import FaceView
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.types import MS, TickHead, VideoFrame

Row = dict[str, Any]
HOP_NS = 100 * MS
MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"
CLIPS = (
    "obama_speech.mp4", "franck.mp4", "carphone_pristine.mp4", "movie.avi", "movie-hello.mp4",
    "face_noface.mov", "cityCC0.mpg", "diver.mov", "motion.mov",
)  # fmt: skip
"""Five of talking heads, one with a face in a part of it, three without any."""


def measure(path: Path, side: int, most: int) -> Row:
    """What the face view makes of one clip."""
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
    return {
        "case": "face view",
        "name": path.name,
        "width": size[0],
        "height": size[1],
        "ticks": ticks,
        "share_with_face": len(crops) / max(ticks, 1),
        **{f"jitter_{name}_px": _told(one) for name, one in zip(("x", "y", "side"), jitter, strict=True)},
        "side_px": float(np.median([crop[2] for crop in crops])) if crops else None,
        "ms_per_tick_mean": float(cost.mean()),
        "ms_per_tick_p50": float(np.percentile(cost, 50)),
        "ms_per_tick_p99": float(np.percentile(cost, 99)),
        "ms_per_tick_min": float(cost.min()),
    }


def _told(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)


def shown(row: Row) -> tuple[str, ...]:
    """One row of the table."""
    found = row["side_px"] is not None and row["jitter_x_px"] is not None
    jitter = " ".join(f"{row[f'jitter_{name}_px']:.2f}" for name in ("x", "y", "side")) if found else "-"
    costs = [f"{row[f'ms_per_tick_{name}']:.2f}" for name in ("mean", "p50", "p99")]
    side = f"{row['side_px']:.0f}" if found else "-"
    picture, share = f"{row['width']}x{row['height']}", f"{100 * row['share_with_face']:.0f} %"
    return row["name"], picture, str(row["ticks"]), share, jitter, side, *costs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--side", type=int, default=288, help="largest short side of the pictures")
    parser.add_argument("--ticks", type=int, default=600, help="of each clip, at most")
    parser.add_argument("--short", action="store_true", help="20 ticks of each: does it run at all")
    chosen = parser.parse_args()
    clips = chosen.clips or [MEDIA / name for name in CLIPS if (MEDIA / name).is_file()]
    if not clips:
        print("bench_faces: skipped: no CLIP given, and no shared/media beside the checkout")
        return
    table = Table(title="face view")
    titles = "clip", "picture", "ticks", "face", "jitter x y side, px", "side, px", "ms mean", "p50", "p99"
    for title in titles:
        table.add_column(title, justify="left" if title == "clip" else "right")
    rows = [measure(clip, chosen.side, 20 if chosen.short else chosen.ticks) for clip in clips]
    for row in rows:
        table.add_row(*shown(row))
    Console().print(table)
    print(f"written to {report.write('faces', rows, {'side_px': chosen.side})}")


if __name__ == "__main__":
    main()
