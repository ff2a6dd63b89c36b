"""A source over TLS is who it says it is, or it is refused in one line."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceError, SourceRefused
from streamfuse.media.opening import open_inputs
from streamfuse.media.source import parse_source
from tests.clips import Clip
from tests.media.servers import content, http_server

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed (bash tests/system-packages.sh)"
)
RULE = "a server's certificate must be its own, and signed by somebody we trust"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """own.pem signs itself for 127.0.0.1, other.pem for another name; each with its .key."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, whom in (("own", "IP:127.0.0.1"), ("other", "DNS:elsewhere.example")):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        new = ["req", "-x509", *key, "-days", "2", "-subj", "/CN=camera"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-addext", f"subjectAltName={whom}"]
        subprocess.run(["openssl", *new, *files], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    made = Clip(seconds=0.5, width=64, height=48, fps=10, container="mpegts")
    return made.write(tmp_path_factory.mktemp("clip") / "clip.ts").read_bytes()


def server_context(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def opens(url: str, **decode: object) -> bool:
    for one in open_inputs(parse_source(url), DecodeConfig(**decode), "live"):
        one.close()
    return True


@pytest.mark.parametrize("mode", ["live", "recorded"])
def test_https_camera_that_nobody_vouches_for_is_refused_in_one_line(
    folder: Path, clip: bytes, mode: str
) -> None:
    with http_server({"/a.ts": content(clip)}, tls=server_context(folder, "own")) as server:
        url = server.url("/a.ts", login="me:s3cret@")
        with pytest.raises(SourceRefused) as told:
            open_inputs(parse_source(url), DecodeConfig(), mode)  # type: ignore[arg-type]
    assert str(told.value).startswith(f"{RULE}, got self-signed certificate [https://")
    assert str(told.value).endswith("; name its certificate, or that of who signed it, in decode.ca_file")
    assert "s3cret" not in str(told.value)
    assert server.hits == [], "nothing was asked of it, and no password said"


def test_https_camera_whose_certificate_is_named_is_opened(folder: Path, clip: bytes) -> None:
    with http_server({"/a.ts": content(clip)}, tls=server_context(folder, "own")) as server:
        assert opens(server.url("/a.ts"), ca_file=str(folder / "own.pem"))


def test_https_camera_with_a_certificate_of_another_is_refused(folder: Path, clip: bytes) -> None:
    with (
        http_server({"/a.ts": content(clip)}, tls=server_context(folder, "other")) as server,
        pytest.raises(SourceRefused, match=rf"^{RULE}, got IP address mismatch"),
    ):
        opens(server.url("/a.ts"), ca_file=str(folder / "other.pem"))


def test_file_that_holds_no_certificates_is_named(folder: Path, clip: bytes) -> None:
    with http_server({"/a.ts": content(clip)}, tls=server_context(folder, "own")) as server:
        for name in ("own.key", "none.pem"):
            with pytest.raises(SourceRefused, match=rf"must be a file of certificates.*{name}"):
                opens(server.url("/a.ts"), ca_file=str(folder / name))


@contextmanager
def listener(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """Its port, and the first words that came of each client that trusted it."""
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    raw, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(raw, server_side=True) as client:
                        words = client.recv(7)
                        if words:
                            said.append(words)
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], said
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("scheme", "first"), [("rtsps", b"OPTIONS"), ("rtmps", b"\x03")])
def test_other_sources_over_tls_are_checked_too(folder: Path, scheme: str, first: bytes) -> None:
    with listener(server_context(folder, "own")) as (port, said):
        url = f"{scheme}://127.0.0.1:{port}/live/a"
        with pytest.raises(SourceRefused, match=RULE):
            opens(url, open_timeout_s=5)
        assert said == []
        with pytest.raises(SourceError):  # it hangs up after the first words
            opens(url, open_timeout_s=5, read_timeout_s=5, ca_file=str(folder / "own.pem"))
        assert said and said[0].startswith(first)
