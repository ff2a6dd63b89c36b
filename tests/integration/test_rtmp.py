"""An RTMP camera: FFmpeg's own RTMP server, which serves one client at a time, behind `streamfuse run`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import pytest

from tests.clips import Clip
from tests.integration.live import LiveRun, check_order
from tests.ports import free_port

SECONDS = 4.0
LISTEN = {"fifo_format": "flv", "format_opts": "listen=1:timeout=3", "queue_size": "1000"}
"""PyAV hands a protocol's options on only through a muxer that opens its output itself."""


@contextmanager
def rtmp_camera(clip: Path, port: int) -> Iterator[str]:
    """Serves the clip at its own pace, again and again; a client that comes later sees the rest of it."""
    stopped, url = threading.Event(), f"rtmp://127.0.0.1:{port}/live/cam"

    def serve_once() -> None:
        with av.open(str(clip)) as source, av.open(url, "w", format="fifo", options=LISTEN) as out:
            streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
            at_s = 0.0
            for packet in source.demux():
                if packet.dts is None or packet.time_base is None:
                    continue
                due_s = float(packet.dts * packet.time_base)
                if due_s > at_s and stopped.wait(due_s - at_s):
                    return
                at_s = max(at_s, due_s)
                packet.stream = streams[packet.stream.index]
                out.mux(packet)

    def serve() -> None:
        while not stopped.is_set():
            with suppress(av.FFmpegError):  # the client has left, or none came
                serve_once()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        stopped.set()
        thread.join(10)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rtmp") / "cam.mp4"
    return Clip(seconds=SECONDS, width=160, height=120, fps=10, gop=5).write(path)


def test_rtmp_camera_is_seen_and_heard_and_found_again_when_its_stream_ends(clip: Path, meter: Path) -> None:
    with rtmp_camera(clip, free_port()) as url, LiveRun({"cam": url}, model=meter) as run:

        def both() -> bool:
            return any(x["modalities"] == {"video": "ok", "audio": "ok"} for x in run.labels("cam"))

        run.until(both, "picture and sound of cam")
        assert any(line["emotion"]["label"] == "loud" for line in run.labels("cam"))
        session = run.session("cam")
        run.until(lambda: run.session("cam") > session, "labels of its next stream")
        assert run.stop() == 0, run.said()
        check_order(run.labels("cam"))
        assert run.counters("decode", "cam")["reconnects"] > 0
