"""F35: what names further addresses is refused before any of them is asked: the canary hears nothing.

Each trap is tried as a file, from a server, and by its own scheme; the canary is an HTTP server, a TCP port
and a UDP port on the loopback, and a file that must not be read.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceError, SourceRefused
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from tests.clips import Clip
from tests.media.servers import Http, content, http_server, status

QUICK = DecodeConfig(open_timeout_s=2, read_timeout_s=1)


@dataclass
class Canary:
    """Places that nothing may ask."""

    http: Http
    tcp: socket.socket
    udp: socket.socket
    file: Path

    def heard(self) -> list[str]:
        found = list(self.http.paths)
        for kind, ear in (("tcp", self.tcp), ("udp", self.udp)):
            try:
                found.append(f"{kind} {(ear.accept() if kind == 'tcp' else ear.recv(100))!r}")
            except BlockingIOError:
                continue
        return found

    @property
    def addresses(self) -> dict[str, str]:
        return {
            "http": self.http.url("/segment.ts"),
            "tcp": f"tcp://127.0.0.1:{self.tcp.getsockname()[1]}",
            "udp": f"udp://127.0.0.1:{self.udp.getsockname()[1]}",
            "file": f"file://{self.file}",
            "path": str(self.file),
            "neighbour": self.file.name,
            "above": f"../{self.file.parent.name}/{self.file.name}",
            "concat": f"concat:{self.file}|{self.file}",
            "subfile": f"subfile,,start,0,end,0,,:{self.file}",
            "crypto": f"crypto+file://{self.file}",
            "data": "data:video/mp2t;base64,R0==",
        }


@contextmanager
def _canary(folder: Path) -> Iterator[Canary]:
    file = Clip(seconds=0.3, width=64, height=48).write(folder / "segment.ts")
    with (
        http_server({"/segment.ts": content(file.read_bytes())}) as http,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        for ear in (tcp, udp):
            ear.setblocking(False)
        yield Canary(http, tcp, udp, file)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    with _canary(tmp_path) as one:
        yield one
        assert one.heard() == []


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
TRAPS = {
    "hls": HLS,
    "hls that is live": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n",
    "hls of hls": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n",
    "hls with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:9,\na.ts\n',
    "hls with a map": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MAP:URI="{}"\n#EXTINF:9,\na.mp4\n',
    "hls with sound": '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="{}"\n'
    '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\n{}\n',
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n# {}\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "smil": '<smil><body><video src="{}"/></body></smil>',
    "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "ram": "{}\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
    "<Id>{}</Id></CompositionPlaylist>",
}


def refused(text: str) -> str:
    with pytest.raises(SourceError) as caught:
        open_decoder(parse_source(text), decode=QUICK, mode="recorded", picture_side=192).close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ts"])
@pytest.mark.parametrize("trap", TRAPS)
def test_f35_a_list_in_a_file_opens_nothing(trap: str, suffix: str, canary: Canary, tmp_path: Path) -> None:
    for name, address in canary.addresses.items():
        path = tmp_path / f"trap-{name}{suffix}"
        path.write_text(TRAPS[trap].replace("{}", address))
        refused(str(path))


@pytest.mark.parametrize("trap", TRAPS)
def test_f35_a_list_from_a_server_opens_nothing(trap: str, canary: Canary) -> None:
    lists = {
        f"/{name}.mp4": content(TRAPS[trap].replace("{}", address).encode())
        for name, address in canary.addresses.items()
    }
    with http_server(lists) as http:
        for path in lists:
            refused(http.url(path))
        assert set(http.paths) == set(lists)


def test_f35_a_redirect_is_not_followed(canary: Canary) -> None:
    answers = {
        f"/{code}-{name}": status(code, Location=address)
        for name, address in canary.addresses.items()
        for code in (301, 302, 303, 307, 308)
    }
    with http_server(answers) as http:
        for path in answers:
            refused(http.url(path))
        assert http.paths == list(answers)


def test_f35_an_address_that_is_no_source_is_no_file_either(canary: Canary) -> None:
    for name in ("tcp", "concat", "subfile", "crypto", "data"):
        said = refused(canary.addresses[name])
        assert said.startswith(("a source must be a file, rtsp://", "a URL's scheme must be"))
    for wrapper in ("hls:", "hls+http:", "async:", "cache:", "tee:", "ffrtmphttp:", "pipe:0#", "fd:"):
        refused(f"{wrapper}{canary.addresses['http']}")


def test_f35_a_pattern_reads_no_file(canary: Canary) -> None:
    for graph in ("movie={}", "amovie={}", "testsrc2,drawtext=textfile={}", "testsrc2,subtitles={}",
                  "testsrc2,lut3d=file={}", "sine;amovie={}", "testsrc2[a];[a]overlay"):  # fmt: skip
        with pytest.raises(SourceRefused):
            parse_source("lavfi:" + graph.replace("{}", str(canary.file)))


@pytest.mark.timeout(60)
def test_f35_a_list_of_a_million_entries_is_refused_unread(canary: Canary, tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    entry = f"#EXTINF:1,\n{canary.addresses['http']}\n"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + entry * 1_000_000)
    assert "got a playlist" in refused(str(path))


def test_f35_an_allowed_list_still_opens_no_file(canary: Canary) -> None:
    """--allow-hls trusts a server with addresses on the network, not with our files."""
    for name in ("file", "path", "above", "concat", "subfile", "crypto"):
        text = HLS.format(canary.addresses[name])
        with http_server({"/a.m3u8": content(text.encode(), "application/vnd.apple.mpegurl")}) as http:
            source = parse_source(http.url("/a.m3u8"), allow_hls=True)
            with pytest.raises(SourceError):
                open_decoder(source, decode=QUICK, mode="recorded", picture_side=192).close()


def test_f35_the_canary_sings(tmp_path: Path) -> None:
    """Without our options FFmpeg walks into the traps: what above hears nothing can hear."""
    with _canary(tmp_path) as canary:
        path = tmp_path / "trap.m3u8"
        path.write_text(HLS.format(canary.file.name))
        av.open(str(path)).close()
        with http_server({"/a.m3u8": content(HLS.format(canary.addresses["http"]).encode())}) as http:
            av.open(http.url("/a.m3u8")).close()
        assert canary.heard() == ["/segment.ts"]
        for kind in ("tcp", "udp"):
            with pytest.raises(av.error.FFmpegError):
                av.open(canary.addresses[kind], timeout=0.3, format="mpegts", options={"timeout": "200000"})
        assert [word.partition(" ")[0] for word in canary.heard()] == ["/segment.ts", "tcp"]
