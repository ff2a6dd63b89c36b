"""A camera for the live benchmarks: a recording as MPEG-TS over HTTP, every packet when it is due.

    python benchmarks/camera.py RECORDING SECONDS    prints PORT n, serves http://127.0.0.1:n/ to anyone

What is sent is made beforehand, so that sending costs next to nothing; each client has a schedule of its
own, which does not wait for it: a client that falls behind gets what it missed in one go.
"""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av


class _Collector:
    """A file for the muxer that keeps what was written since the last look."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self.pieces)
        self.pieces.clear()
        return taken


def schedule(path: Path, turns: int) -> list[tuple[float, bytes]]:
    """(seconds, bytes) of the recording played `turns` times in one go, its clock running on."""
    sink, out = _Collector(), []
    options = {"flush_packets": "1", "pes_payload_size": "0"}
    with av.open(str(path)) as source, av.open(sink, "w", format="mpegts", options=options) as ts:
        streams = {stream.index: ts.add_stream_from_template(stream) for stream in source.streams}
        packets = [packet for packet in source.demux() if packet.dts is not None]
        times = [(packet.pts, packet.dts, packet.time_base) for packet in packets]
        length = source.duration / av.time_base
        first = min(float(dts * base) for _, dts, base in times)
        for turn in range(turns):
            for packet, (pts, dts, base) in zip(packets, times, strict=True):
                shift = round((turn * length - first) / base)
                packet.stream = streams[packet.stream_index]
                packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, base
                due = float(packet.dts * base)
                ts.mux_one(packet)
                out.append((due, sink.take()))
    return sorted(out, key=lambda item: item[0])


def serve(path: Path, seconds: float, *, shared: bool = False) -> None:
    """shared: one clock for all, begun by the first and told; who comes later gets the past at once."""
    with av.open(str(path)) as source:
        turns = -(-round(seconds) // max(1, round(source.duration / av.time_base)))
    plan = schedule(path, turns)
    clock: list[float] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            began = time.monotonic()
            if shared:
                if not clock:
                    clock.append(began)
                    print(f"BEGAN {round(began * 1e9)}", flush=True)
                began = clock[0]
            with contextlib.suppress(OSError):
                for due, data in plan:
                    time.sleep(max(0.0, began + due - time.monotonic()))
                    self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to say."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"PORT {server.server_address[1]}", flush=True)
    server.serve_forever()


@contextmanager
def camera(recording: Path, seconds: float, *options: str) -> Iterator[str]:
    """The URL of a camera in a process of its own, good for so long."""
    with running_camera(recording, seconds, *options) as (url, _):
        yield url


@contextmanager
def running_camera(
    recording: Path, seconds: float, *options: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The same, with its process, which says on stdout when a shared clock began."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(recording), str(seconds), *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("PORT "):
            raise RuntimeError(f"the camera did not start: {line!r}")
        yield f"http://127.0.0.1:{line.split()[1]}/", process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), float(sys.argv[2]), shared="shared" in sys.argv[3:])
