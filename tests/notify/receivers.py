"""Real receivers on this machine: an HTTP server that does as it is told, and mosquitto."""

from __future__ import annotations

import atexit
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.ports import free_port

DEADLINE_S = 60.0


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """Answers request n with `answer(n)`: a status, or (status, headers), or None: hangs up."""

    answer: Callable[[int], Any]
    requests: queue.Queue[Request] = field(default_factory=queue.Queue)
    seen: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self) -> Request:
        return self.requests.get(timeout=DEADLINE_S)

    @contextmanager
    def running(self, port: int = 0) -> Iterator[HttpReceiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                number, receiver.seen = receiver.seen, receiver.seen + 1
                answer = receiver.answer(number)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                if status < 300:
                    lower = {name.lower(): value for name, value in self.headers.items()}
                    receiver.requests.put(Request(self.path, lower, body))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Broker:
    """mosquitto on a port of its own, with `lines` in its configuration."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if found is None:
            pytest.skip("mosquitto is not installed (bash tests/system-packages.sh)")
        self.port = free_port() if port is None else port
        self._file = folder / "mosquitto.conf"
        anonymous = not any("allow_anonymous" in line for line in lines)
        self._file.write_text(
            f"listener {self.port} 127.0.0.1\n"
            + ("allow_anonymous true\n" if anonymous else "")
            + "user root\n"
            + "".join(f"{line}\n" for line in lines)
        )
        self._program = found
        self.start()
        atexit.register(self.stop)  # of a test that failed half-way

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "running" in line:
                break
        else:
            pytest.fail(f"mosquitto did not start: {self._process.wait()}")
        # Or it would stop at a full pipe.
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()

    def stop(self) -> None:
        """Pull its plug; again is nothing."""
        self._process.kill()
        self._process.wait()
        self._drain.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


class Listener:
    """A client that keeps what it hears of everything."""

    def __init__(self, port: int, **login: str) -> None:
        self._heard: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        if login:
            self._client.username_pw_set(login["username"], login["password"])
        subscribed = threading.Event()
        self._client.on_message = lambda _c, _u, m: self._heard.put((m.topic, m.payload, m.retain))
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(DEADLINE_S)

    def take(self, topic: str) -> bytes:
        """The next message on that topic; those on others are passed over."""
        while True:
            heard, payload, _ = self._heard.get(timeout=DEADLINE_S)
            if heard == topic:
                return payload

    def kept(self) -> list[str]:
        """Topics of what the broker kept from before; they come before the answer to a message of our own."""
        self._client.publish("listener/mark", b"", qos=1)
        topics: list[str] = []
        while True:
            heard, _, retained = self._heard.get(timeout=DEADLINE_S)
            if heard == "listener/mark":
                return topics
            topics += [heard] if retained else []

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
