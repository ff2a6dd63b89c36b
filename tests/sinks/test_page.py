from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from streamfuse.sinks.page import (
    PALETTE,
    PageFacts,
    TimelinePage,
    clock_text,
    colours_of,
    length_text,
    media_link,
)
from streamfuse.types import NS, Event, HeadLabel, Label
from tests.sinks.made import make_event, make_label, said, said_many, walk

CHROMIUM = shutil.which("chromium")
EVIL = "<script>document.title='owned'</script>\"'></script><!--<img src=x onerror=alert(1)>"


class Outline(HTMLParser):
    """What a browser would see: scripts, links out, and the text of table rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.rows: list[list[str]] = []
        self.cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data-src")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data


def written(path: Path, items: Sequence[Label | Event], facts: PageFacts | None = None) -> str:
    sink = TimelinePage(path, facts or PageFacts(path.stem))
    for item in items:
        if isinstance(item, Label):
            sink.write_label(item)
        else:
            sink.write_event(item)
    sink.close(complete=True)
    return path.read_text()


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def rendered(page: Path) -> str:
    """The page's elements after its script ran in a real browser."""
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    flags += " disable-component-update disable-sync virtual-time-budget=3000 dump-dom"
    command = [str(CHROMIUM), *(f"--{flag}" for flag in flags.split()), page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return run.stdout


def test_page_holds_heads_times_and_tables(tmp_path: Path) -> None:
    labels: list[Label] = [
        make_label(tick, scene=said("sea" if tick < 30 else "street", 0.5 + tick / 200)) for tick in range(50)
    ]
    events = [make_event("sea", 0, 3, peak=0.64), make_event("street", 3, 5, peak=0.74)]
    page = written(tmp_path / "clip.html", [*labels, *events], PageFacts("clip.mp4", "base 0.1"))
    data = data_of(page)
    assert (data["duration"], data["cell"], data["cells"]) == (5.0, 0.1, 50)
    scene, emotion = data["heads"]
    assert (scene["name"], scene["labels"], emotion["name"]) == ("scene", ["sea", "street"], "emotion")
    assert base64.b64decode(scene["codes"]) == bytes([0] * 30 + [1] * 20)
    assert base64.b64decode(scene["levels"])[:2] == bytes([125, 126])
    rows = Outline(page).rows
    assert ["sea", "", "60.0 %"] in rows
    assert ["0:00.0", "sea", "3.0 s", "0.58"] in rows
    strongest = [row for row in rows if row[-1] in ("0.74", "0.64")]
    assert strongest == [["0:03.0", "street", "2.0 s", "0.74"], ["0:00.0", "sea", "3.0 s", "0.64"]]
    assert "<title>clip.mp4 – streamfuse timeline</title>" in page


def test_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    page = written(tmp_path / "clip.html", list(walk(300)))
    outline = Outline(page)
    assert outline.links == []
    assert outline.handlers == []
    assert re.findall(r"https?://[^\s\"']+|@import|url\(", page) == []
    assert "default-src 'none'" in page


def test_page_names_from_outside_are_text(tmp_path: Path) -> None:
    label = make_label(source=EVIL, scene=said(EVIL, 0.7), sound=said_many((EVIL, 0.9)))
    label.heads[EVIL] = said(EVIL, 0.5)
    event = make_event(EVIL, 0, 1, head=EVIL)
    page = written(
        tmp_path / "x.html", [label, event, make_event(EVIL, 0, 1)], PageFacts(EVIL, EVIL, Path(EVIL))
    )
    outline = Outline(page)
    assert outline.scripts == [{"type": "application/json", "id": "data"}, {}]
    assert outline.handlers == []
    assert "<img" not in page
    assert data_of(page)["heads"][0]["labels"] == [EVIL]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (bash tests/system-packages.sh)")
def test_page_runs_in_a_browser_and_names_stay_text(tmp_path: Path) -> None:
    label = make_label(source=EVIL, scene=said(EVIL, 0.7), sound=said_many((EVIL, 0.9)))
    written(tmp_path / "x.html", [*walk(200), label, make_event(EVIL, 0, 1)], PageFacts(EVIL))
    dom = rendered(tmp_path / "x.html")
    assert 'data-ready="true"' in dom
    assert "<title>&lt;script&gt;document.title=" in dom
    assert dom.count("<script") == 2
    assert "<img" not in dom
    assert 'style="width: ' in dom  # the panel of the current labels was filled in


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (bash tests/system-packages.sh)")
def test_page_without_a_tick_runs_in_a_browser(tmp_path: Path) -> None:
    written(tmp_path / "x.html", [])
    assert "This recording gave no ticks" in rendered(tmp_path / "x.html")


def test_page_of_two_hours_is_below_two_megabytes(tmp_path: Path) -> None:
    page = written(tmp_path / "long.html", list(walk(72_000)))
    assert 100_000 < len(page.encode()) < 2_000_000
    assert data_of(page)["cell"] == 0.2
    assert data_of(page)["duration"] == 7200.0


def test_page_of_flicker_and_many_labels_is_below_two_megabytes(tmp_path: Path) -> None:
    sink = TimelinePage(tmp_path / "x.html", PageFacts("x"))
    for tick in range(20_000):
        many = said_many(*((f"sound {(tick * 7 + n) % 90}", 0.9) for n in range(6)))
        label = make_label(tick, scene=said(f"scene {tick % 300}", 0.5), sound=many)
        for number in range(12):
            label.heads[f"head {number}"] = many
        sink.write_label(label)
    sink.close(complete=True)
    page = (tmp_path / "x.html").read_text()
    assert len(page.encode()) < 2_000_000
    assert len(data_of(page)["heads"][2]["lanes"]) == 24


def test_page_of_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    # What a resumed run reads back from the lines has four decimals; the page must not tell.
    def rounded(said: HeadLabel) -> HeadLabel:
        labels = said.labels and tuple((name, round(score, 4)) for name, score in said.labels)
        return HeadLabel(said.label, said.score and round(said.score, 4), labels, said.top)

    items = list(walk(3000))
    again = [
        Label(i.head, {n: rounded(h) for n, h in i.heads.items()}, i.modalities, i.warm)
        if isinstance(i, Label)
        else i
        for i in items
    ]
    first, second = tmp_path / "a" / "x.html", tmp_path / "b" / "x.html"
    assert written(first, items) == written(second, again)


def test_page_sessions_are_marked(tmp_path: Path) -> None:
    labels: list[Label] = [make_label(tick) for tick in range(5)]
    labels += [make_label(tick, session=1, offset_ns=7 * NS) for tick in range(5)]
    page = written(tmp_path / "x.html", labels)
    assert data_of(page)["sessions"] == [[0.0, 0], [7.0, 1]]
    codes = base64.b64decode(data_of(page)["heads"][0]["codes"])
    assert codes == bytes([0] * 5 + [255] * 65 + [0] * 5)


def test_page_aborted_leaves_the_part_only(tmp_path: Path) -> None:
    sink = TimelinePage(tmp_path / "x.html", PageFacts("x"))
    sink.write_label(make_label())
    sink.close(complete=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x.html.part"]


def test_media_link_is_relative_and_quoted(tmp_path: Path) -> None:
    page = tmp_path / "out" / "clip.html"
    assert media_link(tmp_path / "out" / "a b#?.mp4", page) == "a%20b%23%3F.mp4"
    assert media_link(tmp_path / "clip.mp4", page) == "../clip.mp4"
    assert media_link(tmp_path / "videos" / "clip.mp4", page) == "../videos/clip.mp4"
    assert media_link(tmp_path.parent / "clip.mp4", page) is None


def test_colours_of_emotions_are_the_usual_ones() -> None:
    colours = colours_of(["angry", "sea", "happy", "unknown", "none"])
    assert colours == {"angry": "c3", "sea": "c0", "happy": "c10", "unknown": "unknown", "none": "none"}
    many = colours_of([f"label {n}" for n in range(30)])
    assert list(many.values())[:12] == list(PALETTE)


def test_times_as_people_write_them() -> None:
    assert clock_text(3_723_400_000_000) == "1:02:03.4"
    assert clock_text(59_999_999_999) == "0:59.9"
    assert length_text(4_200_000_000) == "4.2 s"
    assert length_text(185 * NS) == "3 min 05 s"
    assert length_text(7500 * NS) == "2 h 05 min"
