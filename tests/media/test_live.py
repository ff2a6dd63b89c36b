"""Live sources over real sockets: what arrives, and what is lost or refused, and how it is said."""

from __future__ import annotations

import contextlib
import gc
import io
import socket
import threading
import weakref
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceError, SourceLost, SourceRefused
from streamfuse.media.decode import Decoder, open_decoder
from streamfuse.media.source import Source, parse_source
from streamfuse.types import MS, AudioChunk, MediaItem, SessionStart, TrackEnd, VideoFrame
from tests.clips import Clip, index_picture, read_index
from tests.hand_clock import HandClock
from tests.media.servers import Tcp, content, hold, http_server, rtsp, status, stream, tcp_server
from tests.ports import free_port

pytestmark = pytest.mark.timeout(120)
PATIENT = DecodeConfig(open_timeout_s=30, read_timeout_s=30)
"""Where something comes: a busy machine is no loss."""
FALLS_SILENT = DecodeConfig(open_timeout_s=30, read_timeout_s=3)
"""Where something comes, and then nothing does."""
QUICK = DecodeConfig(open_timeout_s=2, read_timeout_s=1)
"""Where nothing comes."""
NOTHING = b"\x47\x1f\xff\x10" + bytes(184)
"""A packet of a transport stream that means nothing."""


def live(text: str, config: DecodeConfig = PATIENT, **more: Any) -> Decoder:
    return open_decoder(parse_source(text), decode=config, mode="live", picture_side=256, **more)


def drain(decoder: Decoder) -> tuple[list[MediaItem], SourceError | None]:
    """All items, and the error that ended them."""
    items: list[MediaItem] = []
    try:
        for item in decoder:
            items.append(item)
    except SourceError as error:
        return items, error
    finally:
        decoder.close()
    return items, None


def ts(tmp_path: Path, **clip: Any) -> bytes:
    return Clip(**{"seconds": 2.0, **clip}).write(tmp_path / "live.ts").read_bytes()


def test_http_stream_is_given_and_its_end_is_a_loss(tmp_path: Path) -> None:
    data = ts(tmp_path)
    with http_server({"/cam.ts": stream(lambda: iter([data]), "video/mp2t")}) as http:
        items, error = drain(live(http.url("/cam.ts"), first_session=41))
    assert isinstance(items[0], SessionStart)
    assert items[0].session == 41
    frames = [read_index(i.render().planes[0]) for i in items if isinstance(i, VideoFrame)]
    assert frames == list(range(60))
    assert [i for i in items if isinstance(i, TrackEnd)] == items[-2:]
    assert isinstance(error, SourceLost)
    assert "the stream ended or broke off" in str(error)


def test_a_stream_that_says_its_length_and_ends_is_a_loss(tmp_path: Path) -> None:
    with http_server({"/cam.ts": content(ts(tmp_path))}) as http:
        _, error = drain(live(http.url("/cam.ts")))
    assert isinstance(error, SourceLost)
    assert "a live source must not end" in str(error)


def test_a_lost_source_leaves_no_decoder_to_the_garbage_collector(tmp_path: Path) -> None:
    """Of a camera that goes again and again, each would stay until some collection: tens of megabytes."""
    with http_server({"/cam.ts": content(ts(tmp_path))}) as http:
        decoder = live(http.url("/cam.ts"))
        gone = weakref.ref(decoder)
        gc.disable()
        try:
            _, error = drain(decoder)
            assert isinstance(error, SourceLost)
            del decoder, error
            assert gone() is None
        finally:
            gc.enable()


def opened(source: Source) -> Decoder:
    return open_decoder(source, decode=PATIENT, mode="recorded", picture_side=256)


def playlist(*segments: str) -> bytes:
    lines = [f"#EXTINF:2,\n{segment}" for segment in segments]
    return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines, "#EXT-X-ENDLIST", ""]).encode()


def test_hls_when_it_was_allowed(tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(ts(tmp_path))
    answers = {
        "/a.ts": content(ts(tmp_path)),
        "/good.m3u8": content(playlist("a.ts")),
        "/bad.m3u8": content(playlist(f"file://{tmp_path}/secret.ts")),
    }
    with http_server(answers) as http:
        with pytest.raises(SourceRefused, match="only when allowed"):
            parse_source(http.url("/good.m3u8"))
        frames: list[int] = []
        for name in ("/good.m3u8", "/bad.m3u8"):
            source = parse_source(http.url(name), allow_hls=True)
            with contextlib.suppress(SourceError), opened(source) as decoder:
                frames.append(sum(isinstance(item, VideoFrame) for item in decoder))
    assert frames == [60]  # the playlist that names a file gave nothing


def test_a_recording_on_a_server_ends_well(tmp_path: Path) -> None:
    data = ts(tmp_path)
    answers = {"/a.ts": content(data), "/b.ts": stream(lambda: iter([data]), "video/mp2t")}
    with http_server(answers) as http:
        for path, truncated in (("/a.ts", False), ("/b.ts", True)):
            source = parse_source(http.url(path))
            with opened(source) as decoder:
                items = list(decoder)
            assert sum(isinstance(i, VideoFrame) for i in items) == 60
            # Without a length nobody can tell an end from a break.
            assert decoder.truncated == truncated


def test_http_with_password_in_the_address(tmp_path: Path) -> None:
    challenge = status(401, **{"WWW-Authenticate": 'Basic realm="cam"'})
    data = content(ts(tmp_path))

    def guarded(handler: BaseHTTPRequestHandler) -> None:
        (data if handler.headers.get("Authorization") == "Basic dXNlcjpzM2NSM3Q=" else challenge)(handler)

    with http_server({"/cam.ts": guarded}) as http:
        items, _ = drain(live(http.url("/cam.ts", login="user:s3cR3t@")))
    assert len(items) > 100


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (401, SourceRefused, "our user and password"),
        (403, SourceRefused, "must let us read"),
        (404, SourceRefused, "must exist on the server"),
        (400, SourceRefused, "must accept our request"),
        (429, SourceLost, "refusing for now"),
        (500, SourceLost, "the server failed"),
        (302, SourceLost, "redirects are not followed"),
    ],
)
def test_http_answers(code: int, kind: type[SourceError], said: str) -> None:
    answers = {"/x": status(code, Location="/y")}
    with http_server(answers) as http, pytest.raises(kind) as caught:
        live(http.url("/x", login="user:s3cR3t@"))
    assert said in str(caught.value)
    assert "s3cR3t" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("code", "kind"), [(401, SourceRefused), (404, SourceRefused), (503, SourceLost), (454, SourceRefused)]
)
def test_rtsp_answers(code: int, kind: type[SourceError]) -> None:
    with tcp_server(rtsp(code)) as server, pytest.raises(kind) as caught:
        live(f"rtsp://user:s3cR3t@127.0.0.1:{server.port}/x")
    assert "s3cR3t" not in str(caught.value)


@pytest.mark.parametrize("text", ["http://{}/x", "rtsp://{}/x", "rtmp://{}/x/y"])
def test_a_server_that_never_answers(text: str) -> None:
    with tcp_server(hold) as server, pytest.raises(SourceLost, match="nothing came in time") as caught:
        live(text.format(f"u:s3cR3t@127.0.0.1:{server.port}"), QUICK)
    assert "s3cR3t" not in str(caught.value)


@pytest.mark.parametrize("text", ["http://{}/x", "rtsp://{}/x", "rtmp://{}/x/y"])
def test_nobody_listens(text: str) -> None:
    with pytest.raises(SourceLost, match="nobody listens at the address") as caught:
        live(text.format(f"u:s3cR3t@127.0.0.1:{free_port()}"))
    assert "s3cR3t" not in str(caught.value)


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(SourceLost, match="may not resolve"):
        live("http://no-such-host.invalid/x")


def test_a_stream_that_stalls_gives_what_it_had_and_is_lost(tmp_path: Path) -> None:
    data, release = ts(tmp_path), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield data
        release.wait(100)

    with http_server({"/cam.ts": stream(pieces, "video/mp2t")}) as http:
        items, error = drain(live(http.url("/cam.ts"), FALLS_SILENT))
        release.set()
    assert sum(isinstance(i, VideoFrame) for i in items) >= 58
    assert isinstance(error, SourceLost)
    assert "nothing came in time" in str(error)


def test_bytes_without_frames_are_no_progress(tmp_path: Path) -> None:
    """The stream goes on with packets of the right programme in which nothing decodes."""
    data = ts(tmp_path, audio=None)
    release = threading.Event()
    junk = bytearray(data)
    for at in range(0, len(junk), 188):
        if junk[at + 1] & 0x1F or junk[at + 2] > 0x20:
            junk[at + 40 : at + 188] = b"\xaa" * 148

    def pieces() -> Iterator[bytes]:
        yield data
        while not release.wait(0.02):
            yield bytes(junk[188 * 40 : 188 * 80])

    with http_server({"/cam.ts": stream(pieces, "video/mp2t")}) as http:
        _, error = drain(live(http.url("/cam.ts"), FALLS_SILENT))
        release.set()
    assert isinstance(error, SourceLost)


def test_a_trickle_of_bytes_is_a_loss(tmp_path: Path) -> None:
    data, release = ts(tmp_path), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield data
        for at in range(1000):
            if release.wait(0.05):
                return
            yield data[at : at + 1]

    with http_server({"/cam.ts": stream(pieces, "video/mp2t")}) as http:
        items, error = drain(live(http.url("/cam.ts"), FALLS_SILENT))
        release.set()
    assert len(items) > 50
    assert isinstance(error, SourceLost)


def test_a_reset_connection(tmp_path: Path) -> None:
    data = ts(tmp_path)

    def talk(connection: socket.socket, _: Tcp) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with tcp_server(talk) as server:
        _, error = drain(live(f"http://127.0.0.1:{server.port}/x"))
    assert isinstance(error, SourceLost)


def test_mpegts_over_udp(tmp_path: Path) -> None:
    data = ts(tmp_path, seconds=4.0)
    port, stop = free_port(), threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.connect(("127.0.0.1", port))
            while not stop.wait(0.01):
                # What nobody reads is refused at the next call: the first may be one that came too early.
                with contextlib.suppress(ConnectionRefusedError):
                    out.send(NOTHING)
                    out.send(NOTHING)
                    break
            for at in range(0, len(data), 1316):
                if stop.wait(0.002):
                    return
                out.send(data[at : at + 1316])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        items, error = drain(live(f"udp://127.0.0.1:{port}", FALLS_SILENT))
    finally:
        stop.set()
        sender.join()
    assert sum(isinstance(i, VideoFrame) for i in items) > 80
    assert sum(len(i.samples) for i in items if isinstance(i, AudioChunk)) > 40_000
    assert isinstance(error, SourceLost)


def test_an_mjpeg_camera_is_as_old_as_its_arrival() -> None:
    """Multipart JPEG has no time stamps; FFmpeg would make up 25 frames a second."""
    clock = HandClock()

    parts: list[bytes] = []
    for index in range(40):
        picture = io.BytesIO()
        Image.fromarray(index_picture(index)).save(picture, "JPEG", quality=90)
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {picture.tell()}\r\n\r\n"
        parts.append(head.encode() + picture.getvalue() + b"\r\n")
    answer = stream(lambda: iter(parts), "multipart/x-mixed-replace; boundary=frame")
    with http_server({"/video": answer}) as http:
        decoder = live(http.url("/video"), clock=clock)
        frames: list[VideoFrame] = []
        try:
            for item in decoder:
                if isinstance(item, VideoFrame):
                    frames.append(item)
                clock.now_ns += 100 * MS
        except SourceLost:
            pass
        finally:
            decoder.close()
    assert decoder.info.container == "mpjpeg"
    indices = [read_index(f.render().planes[0]) for f in frames]
    assert indices == list(range(indices[0], 40))
    assert len(indices) > 30
    steps = np.diff([f.pts_ns for f in frames])
    assert set(steps[2:]) == {100 * MS}
    assert frames[-1].arrival_ns == frames[-1].pts_ns


def test_arrival_is_that_of_the_frames_own_packet(tmp_path: Path) -> None:
    """With B-frames a frame comes out packets later than it went in."""
    data = ts(tmp_path, b_frames=2, audio=None)
    clock = HandClock()
    with http_server({"/cam.ts": content(data)}) as http:
        decoder = live(http.url("/cam.ts"), clock=clock)
        seen: dict[int, int] = {}
        read = decoder._demuxer._read

        def stamped(item: Any) -> Iterator[Any]:
            for packet in read(item):
                clock.now_ns += MS
                seen[packet.packet.pts] = packet.arrival_ns
                yield packet

        decoder._demuxer._read = stamped  # type: ignore[method-assign]
        items, _ = drain(decoder)
    frames = [i for i in items if isinstance(i, VideoFrame)]
    assert [f.arrival_ns for f in frames] == [seen[pts] for pts in sorted(seen)]


def test_a_file_in_live_mode_ends_without_an_error(tmp_path: Path) -> None:
    path = Clip(seconds=0.5).write(tmp_path / "a.mp4")
    items, error = drain(live(str(path)))
    assert error is None
    assert isinstance(items[-1], TrackEnd)


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(SourceRefused, match="a source must exist"):
        live("/dev/video77")


def test_rtsp_that_plays_and_sends_nothing_is_lost() -> None:
    with tcp_server(rtsp()) as server, pytest.raises(SourceLost):
        drain_or_raise(f"rtsp://127.0.0.1:{server.port}/x")


def drain_or_raise(text: str) -> None:
    with live(text, QUICK) as decoder:
        list(decoder)
