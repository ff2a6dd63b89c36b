"""Sources that come in bursts over the network are played at their own pace: HLS, and a film over HTTP.

Before, two seconds of ticks came at once, and of those twenty six found room. A busy machine may drop one or
two; so these tests allow for a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path

import pytest

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.clips import Clip
from tests.integration.live import LiveRun, check_order
from tests.media.servers import content, http_server

SMALL = {"width": 160, "height": 120, "fps": 10, "gop": 10}
SEGMENT_S = 2
LISTED = 4
"""Segments in the playlist: the older ones have gone."""


class Broadcast:
    """A live playlist that grows by one segment every two seconds, from its first request on."""

    def __init__(self, folder: Path, seconds: int) -> None:
        options = {"hls_time": str(SEGMENT_S), "hls_list_size": "0"}
        Clip(seconds=seconds, container="hls", options=options, **SMALL).write(folder / "film.m3u8")  # type: ignore[arg-type]
        self.segments = sorted(folder.glob("*.ts"), key=lambda path: int(path.stem.removeprefix("film")))
        self._began_ns: int | None = None

    def playlist(self, handler: BaseHTTPRequestHandler) -> None:
        now_ns = SYSTEM.monotonic_ns()
        self._began_ns = self._began_ns or now_ns
        made = LISTED + (now_ns - self._began_ns) // (SEGMENT_S * NS)
        first = max(0, min(made, len(self.segments)) - LISTED)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{SEGMENT_S}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for segment in self.segments[first : first + LISTED]:
            lines += [f"#EXTINF:{SEGMENT_S:.6f},", segment.name]
        content("\n".join([*lines, ""]).encode(), "application/vnd.apple.mpegurl")(handler)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    broadcast = Broadcast(tmp_path, seconds=40)
    assert len(broadcast.segments) == 20
    film = Clip(seconds=6.0, **SMALL).write(tmp_path / "film.mkv")  # type: ignore[arg-type]
    answers = {f"/{path.name}": content(path.read_bytes()) for path in (*broadcast.segments, film)}
    with http_server({"/live.m3u8": broadcast.playlist, **answers}) as http:
        yield http.url("")


def test_live_playlist_and_film_over_http_lose_nothing(base: str, meter: Path) -> None:
    sources = {"hls": f"{base}/live.m3u8", "film": f"{base}/film.mkv"}
    # On a busy machine a track that is read late is waited for, and no second analyzer warms up beside it.
    options = ("--allow-hls", "--set", "ticks.max_wait_ms=1000", "--set", "live.spare=false")
    with LiveRun(sources, *options, model=meter) as run:
        run.until(lambda: all(run.labels(name) for name in sources), "the first labels")
        run.until(lambda: len(run.labels("hls")) > 100, "ten seconds of the playlist")
        run.until(lambda: run.labels("film")[-1]["tick"] >= 59, "the end of the film")
        run.until(lambda: not run.named("--source film"), "the film is over")
        assert run.stop() == 0, run.said()
        for name in sources:
            labels = run.labels(name)
            check_order(labels)
            assert {line["session"] for line in labels} == {0}
            assert sum(line["dropped"] for line in labels) <= len(labels) / 10
        heard = run.labels("hls")[10:-10]
        assert {line["modalities"]["audio"] for line in heard} == {"ok"}
        assert all(after["tick"] > before["tick"] for before, after in pairwise(heard))
