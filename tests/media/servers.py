"""Small servers on the loopback that say what a test tells them to, and remember what they were asked."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Http:
    """A running HTTP server: its address, and (path, headers) of every request."""

    port: int
    scheme: str = "http"
    hits: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, login: str = "") -> str:
        return f"{self.scheme}://{login}127.0.0.1:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.hits]


@contextmanager
def http_server(answers: dict[str, Answer], tls: ssl.SSLContext | None = None) -> Iterator[Http]:
    """Serve each path by its function; 404 for the others. `tls` makes it HTTPS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            http.hits.append((self.path, dict(self.headers.items())))
            try:
                answers.get(path, status(404))(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has seen enough

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.handle_error = lambda *_: None  # a client that does not trust it
        # The handshake is the client's thread's: one that breaks it off stops nobody else.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    http = Http(server.server_port, "http" if tls is None else "https")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield http
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def content(data: bytes, kind: str = "application/octet-stream") -> Answer:
    """The bytes, without ranges: nothing can be sought in them."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def stream(pieces: Callable[[], Iterator[bytes]], kind: str) -> Answer:
    """Bytes without a length, until the pieces end."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for piece in pieces():
            handler.wfile.write(piece)
            handler.wfile.flush()
        handler.close_connection = True

    return answer


@dataclass
class Tcp:
    port: int
    received: list[bytes] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def tcp_server(talk: Callable[[socket.socket, Tcp], None]) -> Iterator[Tcp]:
    """Accept connections, and let `talk` speak on each; it should end when tcp.stop is set."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    tcp = Tcp(listener.getsockname()[1])
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                talk(connection, tcp)
            except OSError:
                return  # the client has gone

    def accept() -> None:
        while not tcp.stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    main = threading.Thread(target=accept)
    main.start()
    try:
        yield tcp
    finally:
        tcp.stop.set()
        main.join()
        for thread in threads:
            thread.join()
        listener.close()


def hold(_: socket.socket, tcp: Tcp) -> None:
    """Accept, and never answer."""
    tcp.stop.wait(30)


SDP = b"""v=0
o=- 0 0 IN IP4 127.0.0.1
s=test
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:video
m=audio 0 RTP/AVP 0
a=control:audio
m=application 0 RTP/AVP 97
a=rtpmap:97 vnd.onvif.metadata/90000
a=control:data
"""


def rtsp(code: int = 200, *, plays: bool = True) -> Callable[[socket.socket, Tcp], None]:
    """An RTSP server that describes a camera of which nothing comes, or answers everything with `code`.

    plays  False: it hangs up instead, so that nobody waits for what does not come
    """

    def talk(connection: socket.socket, tcp: Tcp) -> None:
        buffer = b""
        while not tcp.stop.is_set():
            data = connection.recv(4096)
            if not data:
                return
            buffer += data
            while b"\r\n\r\n" in buffer:
                request, _, buffer = buffer.partition(b"\r\n\r\n")
                tcp.received.append(request)
                if not plays and request.startswith(b"PLAY"):
                    return
                connection.sendall(_rtsp_answer(request, code))

    return talk


def _rtsp_answer(request: bytes, code: int) -> bytes:
    method = request.split(b" ", 1)[0]
    number = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"cseq"))
    if code != 200:
        extra = b'\r\nWWW-Authenticate: Basic realm="cam"' if code == 401 else b""
        return b"RTSP/1.0 %d No\r\n%s%s\r\n\r\n" % (code, number, extra)
    if method == b"DESCRIBE":
        body = SDP.replace(b"\n", b"\r\n")
        head = b"RTSP/1.0 200 OK\r\n%s\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n"
        return head % (number, len(body)) + body
    if method == b"SETUP":
        # The camera has opened its ports; nothing ever comes out of them.
        transport = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"transport"))
        chosen = transport + (
            b";server_port=50000-50001" if b"UDP" in transport or b"client_port" in transport else b""
        )
        return b"RTSP/1.0 200 OK\r\n%s\r\nSession: 1\r\n%s\r\n\r\n" % (number, chosen)
    public = b"Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
    return b"RTSP/1.0 200 OK\r\n%s\r\nSession: 1\r\n%s\r\n\r\n" % (number, public)
