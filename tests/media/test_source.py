"""Source strings: what they become, what is refused, and that no secret in them comes out again."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfuse.errors import SourceRefused
from streamfuse.media.probe import probe
from streamfuse.media.source import (
    DeviceSource,
    FileSource,
    HlsSource,
    HttpSource,
    LavfiSource,
    RtmpSource,
    RtspSource,
    Source,
    UdpSource,
    parse_source,
)
from tests.clips import Clip

SECRET = "s3cR3t"

# Every way in which people and cameras put a credential into an address.
SHAPES = [
    f"rtsp://user:{SECRET}@host/stream",
    f"rtsp://my.user:{SECRET}@host:554/stream",
    f"rtsp://us-er_1:{SECRET}@host/stream",
    f"rtsp://user%40home:{SECRET}@host/stream",
    f"rtsp://:{SECRET}@host/stream",
    f"rtsp://{SECRET}@host/stream",
    f"rtsp://{SECRET}:@host/stream",
    f"rtsps://user:{SECRET}@host:322/stream",
    f"rtsp+udp://user:{SECRET}@host/stream",
    f"RTSP://user:{SECRET}@HOST/stream",
    f"rtsp://user:a@{SECRET}@host/stream",
    f"rtsp://user:{SECRET}%40x@host/stream",
    f"rtsp://user:%23{SECRET}%2F@host/stream",
    f"rtsp://user:{SECRET} x@host/stream",
    f"rtsp://user:pw!$&'()*+,;={SECRET}@host/stream",
    f"rtsp://user:{SECRET}@[2001:db8::1]:554/stream",
    f"rtsp://user:{SECRET}@192.168.0.2/cam/realmonitor?channel=1&subtype=0",
    f"rtsp://192.168.0.2:554/user=admin&password={SECRET}&channel=1&stream=0.sdp",
    f"rtsp://192.168.0.2:554/user=admin_password={SECRET}_channel=1_stream=0.sdp",
    f"rtsp://user:1/2/{SECRET}@host/stream",
    f"rtsp://user:12/{SECRET}@host/stream",
    f"http://host/video?token={SECRET}",
    f"http://host/video?a=1&auth={SECRET}&fps=10",
    f"http://host/video?{SECRET}",
    f"http://host/video?user=admin&pwd={SECRET}#top",
    f"https://user:{SECRET}@host/clip.mp4?x=1",
    f"https://host/clip.mp4?X-Amz-Signature={SECRET}&X-Amz-Expires=3600",
    f"http://host/video?next=http://u:{SECRET}@other/",
    f"http://host/video;sessionid={SECRET}",
    f"rtmp://host/live/{SECRET}",
    f"rtmps://host:443/app/{SECRET}",
    f"rtmp://user:{SECRET}@host/live/stream",
    f"rtmp://host/live/stream?key={SECRET}",
    f"udp://user:{SECRET}@239.0.0.1:1234",
]


def spellings(text: str) -> list[str]:
    """What a library might say about `text`."""
    return [
        f"[Errno 111] Connection refused: '{text}'",
        f"Failed to resolve {text.partition('://')[2]}",
        f"password {SECRET} rejected",
        text,
    ]


@pytest.mark.parametrize("text", SHAPES)
def test_no_spelling_of_a_source_lets_its_secret_out(text: str) -> None:
    try:
        source = parse_source(text)
    except SourceRefused as error:
        assert SECRET not in str(error) + repr(error)
        assert "%2F" in str(error)  # and it says what to do
        return
    shown = [repr(source), str(source), source.display, f"{source}", repr(source.secrets)]
    shown += [source.redact(said) for said in spellings(text)]
    for text_out in shown:
        assert SECRET not in text_out
        assert "host" in text_out.lower() or "1" in text_out or "***" in text_out


def test_redact_finds_the_encoded_and_the_decoded_password() -> None:
    source = parse_source("rtsp://user:p%40ss%2Fword@host/s")
    assert source.redact("said p@ss/word") == "said ***"
    assert source.redact("said p%40ss%2Fword") == "said ***"
    assert source.redact("Authorization: Basic dXNlcjpwQHNzL3dvcmQ=") == "Authorization: Basic ***"


def test_redact_leaves_the_rest_of_a_message() -> None:
    source = parse_source(f"rtsp://user:{SECRET}@host:554/stream1")
    said = f"[Errno 111] Connection refused: 'rtsp://user:{SECRET}@host:554/stream1'"
    assert source.redact(said) == "[Errno 111] Connection refused: 'rtsp://***@host:554/stream1'"


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=4, max_size=12))
def test_redact_of_any_password(password: str) -> None:
    source = parse_source(f"rtsp://u:{password}@example/s")
    assert password not in source.redact(f"rtsp://u:{password}@example/s and {password}").replace(
        "example", ""
    )


def test_a_copy_of_a_source_is_whole() -> None:
    source = parse_source(f"rtsp://user:{SECRET}@host/s")
    again = copy.deepcopy(source)
    assert again == source
    assert again.url == f"rtsp://user:{SECRET}@host/s"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rtsp://h/s", RtspSource),
        ("rtsps://h/s", RtspSource),
        ("rtmp://h/a/b", RtmpSource),
        ("http://h/x.mjpg", HttpSource),
        ("HTTPS://h/x", HttpSource),
        ("udp://239.0.0.1:1234", UdpSource),
        ("udp://@:1234", UdpSource),
        ("lavfi:testsrc2", LavfiSource),
        ("/dev/video0", DeviceSource),
        ("alsa:default", DeviceSource),
        ("clip.mp4", FileSource),
        ("file:clip.mp4", FileSource),
        ("file:///tmp/a b.mp4", FileSource),
    ],
)
def test_parse_source_kinds(text: str, kind: type[Source]) -> None:
    assert type(parse_source(text)) is kind


def test_parse_rtsp_transport() -> None:
    udp = parse_source("rtsp+udp://h/s")
    assert isinstance(udp, RtspSource)
    assert (udp.transport, udp.url) == ("udp", "rtsp://h/s")
    assert parse_source("rtsp://h/s").transport == "tcp"  # type: ignore[attr-defined]


def test_parse_camera_with_microphone() -> None:
    source = parse_source("v4l2:/dev/video2?video_size=1280x720&framerate=30;alsa:hw:1,0")
    assert isinstance(source, DeviceSource)
    assert (source.video, source.audio) == ("/dev/video2", "hw:1,0")
    assert dict(source.video_options) == {"video_size": "1280x720", "framerate": "30"}


def test_parse_pattern_with_sound() -> None:
    source = parse_source("lavfi:testsrc2=size=640x360:rate=30,hue=s=0;sine=frequency=440")
    assert isinstance(source, LavfiSource)
    assert source.video == "testsrc2=size=640x360:rate=30,hue=s=0"
    assert source.audio == "sine=frequency=440"
    assert parse_source("lavfi:sine").video is None  # type: ignore[attr-defined]


def test_only_files_patterns_and_playlists_are_not_paced() -> None:
    assert not parse_source("http://h/live.m3u8", allow_hls=True).paced
    assert not parse_source("http://h/live.m3u8", allow_hls=True).ends
    assert not parse_source("a.mp4").paced
    assert not parse_source("lavfi:testsrc2").paced
    assert parse_source("rtsp://h/s").paced
    assert parse_source("alsa:default").paced


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a source must be a file, a URL"),
        ("a\nb", "printable characters"),
        ("ftp://h/x", "a URL's scheme must be rtsp"),
        ("gopher://h/x", "got 'gopher'"),
        ("concat:a.ts|b.ts", "got 'concat:'"),
        ("subfile,,start,0,end,9,,:a.ts", "got 'subfile,'"),
        ("pipe:0", "got 'pipe:'"),
        ("data:video/mp4;base64,AAAA", "got 'data:'"),
        ("rtsp://", "a URL must be scheme://"),
        ("rtsp://host:port/x", "a URL must be scheme://"),
        ("rtsp+sctp://h/x", "an RTSP transport must be"),
        ("http+udp://h/x", "only RTSP takes a transport"),
        ("http://h/list.m3u8", "HLS playlists are opened only when allowed"),
        ("lavfi:movie=/etc/passwd", "got 'movie'"),
        ("lavfi:testsrc2,drawtext=textfile=/etc/passwd", "got 'drawtext'"),
        ("lavfi:testsrc2;testsrc2", "one picture and one sound"),
        ("lavfi:testsrc2[a];[a]movie=x", "must be plain filters"),
        ("lavfi:sine,aresample=filter_type='x',amovie=f", "got 'amovie'"),
        ("v4l2:/dev/video0;v4l2:/dev/video1", "one camera and one microphone"),
        ("v4l2:/dev/video0?list_formats=all", "got 'list_formats'"),
        ("v4l2:/dev/video0;hw:0", "a device must be"),
    ],
)
def test_parse_source_refuses(text: str, message: str) -> None:
    with pytest.raises(SourceRefused) as caught:
        parse_source(text)
    assert message in str(caught.value)


def test_hls_is_opened_when_allowed() -> None:
    assert isinstance(parse_source("https://h/live.m3u8?t=1", allow_hls=True), HlsSource)


NAMES = {
    "concat:a.mp4": "concat:a.mp4",
    "lavfi:sine.mp4": "lavfi:sine.mp4",
    " a b .mp4 ": " a b .mp4 ",
    "Screen Recording 9.41.00\u202fAM.mov": "Screen Recording 9.41.00\u202fAM.mov",
    "no\u00a0break.mp4": "no\u00a0break.mp4",
    "zwei\nZeilen.mp4": r"zwei\nZeilen.mp4",
    "esc\x1b[31m.mp4": r"esc\x1b[31m.mp4",
    "rechts\u202egpj.mp4": r"rechts\u202egpj.mp4",
    "latin\udce9.mp4": r"latin\udce9.mp4",
    "~nobody-here.mp4": "~nobody-here.mp4",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_be_called_anything(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Clip(seconds=0.2, audio=None).write(tmp_path / "plain.mp4").rename(name)
    source = parse_source(name)
    assert isinstance(source, FileSource)
    assert source.path == Path(name)
    assert source.display == NAMES[name]
    source.display.encode()
    assert probe(source).track("video") is not None


@pytest.mark.parametrize("text", ["~nobody-here/a.mp4", "x" * 5000, "a\0b"])
def test_names_that_no_file_can_have_are_refused_in_words(text: str) -> None:
    with pytest.raises(SourceRefused, match="must"):
        probe(parse_source(text))
