"""Each option does what it is there for: with it, and once without it.

FFmpeg ignores an option that it does not know, so a typing mistake would open the door without a word.
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import av.error
import pytest
from PIL import Image

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceRefused
from streamfuse.media.faults import source_error
from streamfuse.media.limits import (
    MAX_STREAMS,
    check_codec,
    check_picture,
    check_sound,
    decoder_options,
    open_options,
)
from streamfuse.media.source import parse_source
from streamfuse.types import Mode
from tests.clips import Clip, joined, wrapping_ts
from tests.media.servers import content, hold, http_server, rtsp, status, tcp_server
from tests.ports import free_port

SHORT = DecodeConfig(open_timeout_s=1, read_timeout_s=0.5)
PATIENT = DecodeConfig(open_timeout_s=30, read_timeout_s=30)
"""For what answers at once, also on a busy machine."""


def options(
    text: str, config: DecodeConfig | None = None, mode: Mode = "recorded", **changed: str | None
) -> dict[str, str]:
    """The options for a source, some of them changed or (None) left out."""
    source = parse_source(text, allow_hls=text.endswith(".m3u8"))
    made = {**open_options(source, config or DecodeConfig(), mode), **changed}
    return {name: value for name, value in made.items() if value is not None}


def opens(address: str, opts: dict[str, str], **more: Any) -> av.container.InputContainer:
    return av.open(address, options=opts, **more)


def test_format_whitelist_blocks_playlists_and_pictures(tmp_path: Path) -> None:
    Clip(seconds=0.2).write(tmp_path / "a.ts")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.ts\n")
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n"
    )
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    for name in ("list.mp4", "list.m3u8", "a.png"):
        address = f"file:{tmp_path / name}"
        opens(address, options("x.mp4", format_whitelist=None)).close()
        with pytest.raises(av.error.ArgumentError):
            opens(address, options("x.mp4"))


def test_protocol_whitelist_keeps_files_off_the_network() -> None:
    with http_server({"/a": content(b"x")}) as http:
        with pytest.raises(av.error.FFmpegError):
            opens(http.url("/a"), options("x.mp4", protocol_whitelist=None))
        assert http.paths == ["/a"]
        with pytest.raises(av.error.ArgumentError):
            opens(http.url("/a"), options("x.mp4"))
        assert http.paths == ["/a"]


NETWORKED = ("http://h/x", "http://h/x.m3u8", "rtsp://h/x", "rtmp://h/x", "udp://h:1")
UNNAMED = ("lavfi:sine", "/dev/video0")


@pytest.mark.parametrize("text", [*NETWORKED, *UNNAMED])
def test_format_whitelist_of_every_source_keeps_lists_of_files_out(text: str, tmp_path: Path) -> None:
    """Whatever an address answers with: a list that names further addresses is read by none."""
    Clip(seconds=0.2).write(tmp_path / "a.ts")
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile a.ts\n")
    address = f"file:{tmp_path / 'list'}"
    opens(address, options(text, protocol_whitelist=None, format_whitelist=None)).close()
    with pytest.raises(av.error.ArgumentError):
        opens(address, options(text, protocol_whitelist=None))


@pytest.mark.parametrize("text", [*NETWORKED, *UNNAMED])
def test_protocol_whitelist_keeps_the_network_off_files(text: str, tmp_path: Path) -> None:
    path = Clip(seconds=0.2).write(tmp_path / "a.ts")
    allowed = options(text, format_whitelist=None, protocol_whitelist=None)
    opens(f"file:{path}", allowed).close()
    with pytest.raises(av.error.ArgumentError):
        opens(f"file:{path}", options(text, format_whitelist=None))


def test_max_pixels_limits_probing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (400, 400)).save(path)
    config = DecodeConfig(max_pixels=100 * 100)
    found = []
    for change in ({}, {"max_pixels": None}):
        with opens(f"file:{path}", options("x.mp4", config, format_whitelist=None, **change)) as container:
            found.append(container.streams.video[0].codec_context.pix_fmt)
    assert found == [None, "gray"]


def test_max_pixels_limits_decoding(tmp_path: Path) -> None:
    """The container's option of the same name does not reach the decoder."""
    path = Clip(seconds=0.2, audio=None).write(tmp_path / "a.mp4")
    config = DecodeConfig(max_pixels=100 * 100)

    def decoded(extra: dict[str, str]) -> int:
        with opens(f"file:{path}", options("x.mp4", config)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = extra
            try:
                return sum(1 for _ in container.decode(stream))
            except av.error.FFmpegError:
                return 0

    assert decoded({}) == 6
    assert decoded(decoder_options(config)) == 0


def test_max_streams(tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(MAX_STREAMS + 1)]
        for stream in streams:
            frame = av.AudioFrame("s16", "mono", 80)
            frame.sample_rate, frame.pts = 8000, 0
            out.mux(stream.encode(frame))
    counts = []
    for change in ({}, {"max_streams": None}):
        with opens(f"file:{path}", options("x.mp4", **change)) as container:
            counts.append(len(container.streams))
    assert counts == [MAX_STREAMS, MAX_STREAMS + 1]


def test_demuxers_that_fail_at_the_limit_are_refused_in_words() -> None:
    error = source_error(
        av.error.MemoryError(12, "Cannot allocate memory"), parse_source("a.mp4"), live=False
    )
    assert isinstance(error, SourceRefused)
    assert "at most 64 streams" in str(error)


@pytest.mark.parametrize("name", ["probesize", "analyzeduration"])
def test_probing_is_bounded_and_long_enough(name: str, tmp_path: Path) -> None:
    """Sound that begins after four seconds is found, and with next to no probing it is not."""
    path = Clip(seconds=6, fps=10, audio_start=4, audio_seconds=2).write(tmp_path / "late.ts")
    rates = []
    for change in ({}, {name: "5000"}):
        with opens(f"file:{path}", options("x.mp4", **change)) as container:
            sound = [s.codec_context.sample_rate for s in container.streams.audio]
            rates.append(sound[0] if sound else 0)
    assert rates == [48_000, 0]


def test_correct_ts_overflow_is_off(tmp_path: Path) -> None:
    path = wrapping_ts(tmp_path / "w.ts", before=1.0, seconds=2.0)
    starts = []
    for change in ({}, {"correct_ts_overflow": None}):
        with opens(f"file:{path}", options("x.mp4", **change)) as container:
            starts.append(container.streams.video[0].start_time)
    assert starts == [(1 << 33) - 90_000, -90_000]


def test_merge_pmt_versions_keeps_the_streams(tmp_path: Path) -> None:
    first = Clip(seconds=1).write(tmp_path / "a.ts")
    moved = {
        "mpegts_start_pid": "600",
        "mpegts_flags": "+initial_discontinuity",
    }
    second = Clip(seconds=1, options={**moved, "tables_version": "7"}).write(tmp_path / "b.ts")
    path = joined(tmp_path / "c.ts", first, second)
    counts = []
    for change in ({}, {"merge_pmt_versions": None}):
        with opens(f"file:{path}", options("x.mp4", **change)) as container:
            counts.append(0)
            # Where a stream appeared late, PyAV's demux() ends with an IndexError (FAULTS F16).
            with suppress(IndexError):
                for packet in container.demux(container.streams.video[0]):
                    counts[-1] += packet.size > 0
    assert counts == [60, 30]


def test_redirects_are_not_followed() -> None:
    with http_server({"/from": status(302, Location="/to"), "/to": content(b"x")}) as http:
        for change in ({"max_redirects": None}, {}):
            with pytest.raises(av.error.FFmpegError):
                opens(http.url("/from"), options(http.url("/from"), **change), timeout=PATIENT.open_timeout_s)
        assert http.paths == ["/from", "/to", "/from"]


def test_http_says_who_asks_and_wants_no_titles() -> None:
    with http_server({"/a": content(b"x")}) as http:
        for change in ({}, {"user_agent": None, "icy": None}):
            with pytest.raises(av.error.FFmpegError):
                opens(http.url("/a"), options(http.url("/a"), **change), timeout=PATIENT.open_timeout_s)
        ours, plain = (headers for _, headers in http.hits)
    assert ours["User-Agent"] == "streamfuse"
    assert "Icy-MetaData" not in ours
    assert plain["User-Agent"].startswith("Lavf")
    assert plain["Icy-MetaData"] == "1"


@pytest.mark.parametrize("text", ["http://{}/x", "rtsp://{}/x", "rtmp://{}/x/y"])
@pytest.mark.timeout(90)
def test_a_silent_server_times_out_without_pyav_watching(text: str) -> None:
    """The protocol's own timeout; FFmpeg's default is to wait for ever."""
    with tcp_server(hold) as server:
        address = text.format(f"127.0.0.1:{server.port}")
        with pytest.raises((av.error.TimeoutError, av.error.InvalidDataError)):
            opens(address, options(address, SHORT, "live"))


@pytest.mark.timeout(90)
def test_a_silent_udp_port_times_out_without_pyav_watching() -> None:
    address = f"udp://127.0.0.1:{free_port()}"
    with pytest.raises(av.error.FFmpegError):
        opens(address, options(address, DecodeConfig(read_timeout_s=0.2), "live"), format="mpegts")


@pytest.mark.parametrize(("transport", "asked"), [("rtsp", b"RTP/AVP/TCP"), ("rtsp+udp", b"RTP/AVP/UDP")])
@pytest.mark.timeout(90)
def test_rtsp_transport_and_media_types(transport: str, asked: bytes) -> None:
    with tcp_server(rtsp(plays=False)) as server:
        source = parse_source(f"{transport}://127.0.0.1:{server.port}/x")
        patient = open_options(source, PATIENT, "live")
        with suppress(av.error.FFmpegError):  # it is hung up on
            opens(source.url, patient, timeout=PATIENT.open_timeout_s).close()  # type: ignore[attr-defined]
    setups = [request for request in server.received if request.startswith(b"SETUP")]
    assert [request.split()[1].rpartition(b"/")[2] for request in setups] == [b"video", b"audio"]
    assert all(asked in request for request in setups)


@pytest.mark.timeout(90)
def test_without_allowed_media_types_rtsp_sets_up_everything() -> None:
    with tcp_server(rtsp(plays=False)) as server:
        address = f"rtsp://127.0.0.1:{server.port}/x"
        patient = options(address, PATIENT, "live", allowed_media_types=None)
        with suppress(av.error.FFmpegError):
            opens(address, patient, timeout=PATIENT.open_timeout_s).close()
    assert sum(request.startswith(b"SETUP") for request in server.received) == 3


@pytest.mark.timeout(90)
def test_udp_overrun_is_not_fatal(tmp_path: Path) -> None:
    data = Clip(seconds=2).write(tmp_path / "a.ts").read_bytes()
    outcomes = []
    for change in ({}, {"overrun_nonfatal": None}):
        port, stop = free_port(), threading.Event()
        sender = threading.Thread(target=_send_ts, args=(data, port, stop))
        sender.start()
        address = f"udp://127.0.0.1:{port}"
        try:
            # A fifo of some packets, which the sender overruns while the first ones are looked at.
            opts = options(address, PATIENT, "live", fifo_size="40", **change)
            with opens(address, opts, format="mpegts", timeout=PATIENT.open_timeout_s) as container:
                outcomes.append(sum(1 for _, _ in zip(container.demux(), range(200), strict=False)))
        except av.error.FFmpegError:
            outcomes.append(-1)
        finally:
            stop.set()
            sender.join()
    assert outcomes == [200, -1]


def _send_ts(data: bytes, port: int, stop: threading.Event) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        while not stop.is_set():
            for at in range(0, len(data), 1316):
                out.sendto(data[at : at + 1316], ("127.0.0.1", port))
            stop.wait(0.01)


def test_every_option_is_one_that_ffmpeg_knows() -> None:
    """The names once more, against the list in this file: a new option needs a test of its effect."""
    tested = set(re.findall(r'"?(\w+)"?: None|(\w+)=None|name="(\w+)"', Path(__file__).read_text()))
    tested_names = {name for names in tested for name in names if name}
    tested_names |= {"probesize", "analyzeduration", "timeout", "rw_timeout", "rtsp_transport"}
    used: set[str] = set()
    for text in ("a.mp4", *NETWORKED, *UNNAMED):
        for mode in ("live", "recorded"):
            used |= set(options(text, mode=mode))  # type: ignore[arg-type]
    assert used <= tested_names


# -- our own checks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "prores", "aac", "opus", "pcm_s24le", "pcm_alaw"])
def test_accepted_codecs(codec: str) -> None:
    check_codec(codec, codec, parse_source("a.mp4"), DecodeConfig())


@pytest.mark.parametrize("codec", ["cinepak", "png", "bintext", "ansi", "rawvideo", "wmav2", "dts", "gif"])
def test_refused_codecs(codec: str) -> None:
    with pytest.raises(SourceRefused, match=f"got {codec}.*--allow-codec {codec} accepts it"):
        check_codec(codec, codec, parse_source("a.mp4"), DecodeConfig())
    check_codec(codec, codec, parse_source("a.mp4"), DecodeConfig(allow_codecs=(codec,)))


def test_a_codec_is_allowed_by_the_decoders_name_too() -> None:
    check_codec("dts", "dca", parse_source("a.mkv"), DecodeConfig(allow_codecs=("dca",)))


def test_raw_video_is_for_devices_and_patterns() -> None:
    for text in ("/dev/video0", "lavfi:testsrc2"):
        check_codec("rawvideo", "rawvideo", parse_source(text), DecodeConfig())


def test_picture_and_sound_limits() -> None:
    source, config = parse_source("a.mp4"), DecodeConfig()
    check_picture(4096, 2304, source, config)
    with pytest.raises(SourceRefused, match="got 16000x16000"):
        check_picture(16_000, 16_000, source, config)
    check_sound(192_000, 8, source)
    for rate, channels, message in ((4000, 1, "got 4000"), (200_000, 1, "got 200000"), (8000, 9, "got 9")):
        with pytest.raises(SourceRefused, match=message):
            check_sound(rate, channels, source)
