"""Which sources wait for their time, and which have an end: decided by what was opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamfuse.errors import SourceLost
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from tests.clips import Clip
from tests.media.servers import content, http_server, stream

SMALL = {"seconds": 1.0, "width": 160, "height": 120, "fps": 10}
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\npart.ts\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("http")
    film = Clip(**SMALL).write(folder / "film.mkv").read_bytes()
    part = Clip(**SMALL, container="mpegts").write(folder / "part.ts").read_bytes()
    answers = {
        "/film.mkv": content(film),
        "/part.ts": content(part),
        "/cam.ts": stream(lambda: iter([part]), "video/mp2t"),
        "/vod.m3u8": content(f"{PLAYLIST}#EXT-X-ENDLIST\n".encode(), "application/vnd.apple.mpegurl"),
    }
    with http_server(answers) as http:
        yield http.url("")


@pytest.mark.parametrize(
    ("path", "pacing", "ends"),
    [("/film.mkv", "sent", True), ("/cam.ts", "own", False), ("/vod.m3u8", "sent", True)],
)
def test_film_over_http_waits_and_ends_and_a_camera_does_neither(
    base: str, path: str, pacing: str, ends: bool
) -> None:
    source = parse_source(base + path, allow_hls=True)
    with open_decoder(source, mode="live", picture_side=64) as decoder:
        assert decoder.pacing == pacing
        if ends:
            assert len(list(decoder)) > 10
        else:
            with pytest.raises(SourceLost):
                list(decoder)


def test_file_and_pattern_are_read(tmp_path: Path) -> None:
    clip = Clip(**SMALL).write(tmp_path / "film.mkv")
    for text in (str(clip), "lavfi:testsrc2=size=160x120:rate=10"):
        with open_decoder(parse_source(text), mode="live", picture_side=64) as decoder:
            assert decoder.pacing == "read"
