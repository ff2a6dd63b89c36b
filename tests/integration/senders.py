"""Small servers that send a recording at its own pace, as a camera would: HTTP, multipart JPEG, UDP."""

from __future__ import annotations

import contextlib
import http.server
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from streamfuse.clock import SYSTEM
from streamfuse.types import NS

TS_PACKETS = 7
"""In one datagram, as encoders send them: 1316 bytes."""


class Pace:
    """Waits so that `share` of a recording has taken its share of `seconds`."""

    def __init__(self, stopped: threading.Event, seconds: float) -> None:
        self._stopped, self._seconds = stopped, seconds

    def rest(self, share: float) -> bool:
        """False: stop sending."""
        return not self._stopped.wait(self._seconds * share)


@contextmanager
def http_camera(clip: Path, seconds: float) -> Iterator[str]:
    """A base URL: /stream.ts is the clip, once, at its own pace; /mjpeg is a moving picture without end."""
    stopped = threading.Event()
    data = clip.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                if self.path == "/stream.ts":
                    self._send_stream()
                elif self.path == "/mjpeg":
                    self._send_pictures()
                else:
                    self.send_error(404)

        def _send_stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            pace, step = Pace(stopped, seconds), 188 * 50
            for at in range(0, len(data), step):
                self.wfile.write(data[at : at + step])
                if not pace.rest(step / len(data)):
                    return

        def _send_pictures(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            pace, index = Pace(stopped, 1.0), 0
            while pace.rest(0.1):
                jpeg = _jpeg(index)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                index += 1

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests' output is for their failures."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()


@contextmanager
def udp_sender(clip: Path, seconds: float, port: int) -> Iterator[None]:
    """Sends a transport stream as datagrams to 127.0.0.1:port, again and again, at its own pace."""
    stopped = threading.Event()
    data, step = clip.read_bytes(), 188 * TS_PACKETS

    def send() -> None:
        pace = Pace(stopped, seconds)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not stopped.is_set():
                for at in range(0, len(data), step):
                    out.sendto(data[at : at + step], ("127.0.0.1", port))
                    if not pace.rest(step / len(data)):
                        return

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(10)


def with_late_sound(source: Path, path: Path, share: float, pid: int = 257) -> Path:
    """The transport stream with each packet of its sound moved back by `share` of the whole."""
    data = source.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    back = round(share * len(packets))

    def place(index: int) -> int:
        own_pid = int.from_bytes(packets[index][1:3], "big") & 0x1FFF
        return index + (back if own_pid == pid else 0)

    path.write_bytes(b"".join(packets[i] for i in sorted(range(len(packets)), key=place)))
    return path


def _jpeg(index: int) -> bytes:
    picture = np.full((120, 160), 200, np.uint8)
    picture[:, index * 4 % 160 : index * 4 % 160 + 8] = 30
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG")
    return out.getvalue()


@contextmanager
def flv_camera(clip: Path, late_s: float = 0.0) -> Iterator[str]:
    """A URL of the FLV at its own pace, each packet when it is due, the sound `late_s` after that.

    Its time stamps stay: what belongs together only comes apart.
    """
    stopped = threading.Event()
    head, tags = _tags(clip.read_bytes(), late_s)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/x-flv")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(head)
                began_ns = SYSTEM.monotonic_ns()
                for due_s, tag in tags:
                    if stopped.wait(max(0.0, due_s - (SYSTEM.monotonic_ns() - began_ns) / NS)):
                        return
                    self.wfile.write(tag)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests' output is for their failures."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/cam.flv"
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()


def _tags(data: bytes, late_s: float) -> tuple[bytes, list[tuple[float, bytes]]]:
    """The header of an FLV, and its tags with the seconds at which they are sent; what sets up, at once."""
    at, tags = 13, list[tuple[float, bytes]]()
    while at + 15 <= len(data):
        end = at + 15 + int.from_bytes(data[at + 1 : at + 4])
        stamp_s = int.from_bytes(bytes([data[at + 7], *data[at + 4 : at + 7]])) / 1000
        is_sound = data[at] == 8
        sets_up = data[at] == 18 or data[at + 12] == 0  # metadata; H.264's and AAC's packet type 0
        tags.append((0.0 if sets_up else stamp_s + (late_s if is_sound else 0.0), data[at:end]))
        at = end
    return data[:13], sorted(tags, key=lambda tag: tag[0])
