"""The page of a real run, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.integration.browser import PHONE, Tab, chromium
from tests.integration.conftest import StartCamera
from tests.integration.live import LiveRun, ctl
from tests.ports import free_port

SOURCES = {
    "door": "lavfi:testsrc2=size=320x240:rate=25;sine=frequency=440",
    "yard": "lavfi:mandelbrot=size=320x240:rate=12",
    "back <b>room": "lavfi:testsrc=size=640x360:rate=15;sine=frequency=880",
}
SECRET = "hunter2-of-the-gate"
GONE = {"gate": f"rtsp://viewer:{SECRET}@127.0.0.1:9/stream"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def watched(browser: Any, tiny_model: Path) -> Iterator[tuple[LiveRun, str]]:
    port = free_port()
    config = tiny_model.with_name("three.yaml")  # a name with `<` has no place on a command line
    config.write_text(
        "sources:\n"
        + "".join(f"  {name!r}: {{input: {text!r}}}\n" for name, text in {**SOURCES, **GONE}.items())
    )
    with LiveRun({}, "-c", str(config), "--view", f"127.0.0.1:{port}", model=tiny_model) as run:
        run.until(lambda: all(run.labels(name) for name in SOURCES), "labels of all")
        yield run, f"http://127.0.0.1:{port}/"


def card(name: str, more: str = "") -> str:
    return f'document.querySelector(`article[data-source="{name}"]{more}`)'


def test_run_says_where_its_page_is(watched: tuple[LiveRun, str]) -> None:
    run, url = watched
    assert f"streamfuse: watch it at {url}" in run.complaints()


def test_wall_shows_every_source_and_its_pictures_move(browser: Any, watched: tuple[LiveRun, str]) -> None:
    _, url = watched
    with Tab(browser, url) as tab:
        for name in SOURCES:
            tab.until(card(name, "[data-state=live]") + " !== null", f"{name} is live")
            canvas = card(name) + ".querySelector('.screen canvas')"
            tab.until(f"Number({canvas}.dataset.count) >= 1", f"a picture of {name}")
            first = tab.page.evaluate(f"{canvas}.toDataURL()")
            tab.until(f"{canvas}.toDataURL() !== {first!r}", f"{name} moves")
            assert tab.page.locator("article h2", has_text=name).inner_text() == name, "text, not markup"
        assert tab.page.locator("article h2 b").count() == 0
        tab.until("document.querySelector('#summary').textContent === '3 of 4 live'", "one is away")
        tab.until(card("gate", "[data-state=reconnecting]") + " !== null", "which is tried again")
        why = card("gate") + ".querySelector('.trouble').textContent"
        tab.until(f"{why}.includes('Connection refused')", "and why it is away is told")
        assert tab.complaints == []
        assert all(asked.startswith((url, "ws" + url[4:], "blob:")) for asked in tab.asked), tab.asked


def test_no_credentials_are_told(watched: tuple[LiveRun, str]) -> None:
    _, url = watched
    with connect(url.replace("http", "ws") + "news", max_size=1 << 26, open_timeout=20) as news:
        told = [news.recv(20) for _ in range(40)]
    assert any("gate" in text for text in told if isinstance(text, str))
    assert not any(SECRET in text or "viewer" in text for text in told if isinstance(text, str))
    assert not any(SECRET.encode() in data for data in told if isinstance(data, bytes))


def test_labels_are_on_the_screen_within_a_second_of_their_tick(
    browser: Any, watched: tuple[LiveRun, str]
) -> None:
    _, url = watched
    with Tab(browser, url) as tab:
        tab.until("globalThis.streamfuseShown?.().delays.length >= 90", "three seconds of labels")
        late = "streamfuseShown().delays.slice(-60).filter((one) => one[1] >= 1000).length"
        tab.until(f"{late} <= 3", "95 of 100 within a second")


def test_one_source_large_has_its_answers_and_timelines(browser: Any, watched: tuple[LiveRun, str]) -> None:
    _, url = watched
    with Tab(browser, url) as tab:
        tab.page.get_by_role("link", name="door").first.click()
        tab.page.wait_for_selector(".detail[data-source=door]")
        tab.until("document.querySelectorAll('.answers li:not([hidden])').length >= 6", "bars of every head")
        tab.until("Number(document.querySelector('.large canvas').dataset.count) >= 2", "its picture moves")
        ink = "document.querySelector('.timeline canvas').toDataURL().length"
        before = tab.page.evaluate(ink)
        tab.until(f"{ink} !== {before}", "the timeline moves")
        facts = tab.page.locator(".now .facts").inner_text()
        for word in ("age p50 / p99", "frames/s", "dropped", "reconnects", "video, audio"):
            assert word in facts
        tab.page.get_by_role("link", name="All sources").click()
        tab.page.wait_for_selector(".wall")
        assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_page_is_usable_for_everyone(browser: Any, watched: tuple[LiveRun, str], scheme: str) -> None:
    _, url = watched
    for address in (url, url + "#/source/door"):
        with Tab(browser, address, scheme=scheme) as tab:
            tab.until("document.querySelectorAll('[data-state=live]').length >= 3", "it shows")
            assert tab.violations() == []


@pytest.mark.parametrize("address", ["", "#/source/yard"])
def test_page_fits_a_telephone(browser: Any, watched: tuple[LiveRun, str], address: str) -> None:
    _, url = watched
    with Tab(browser, url + address, size=PHONE) as tab:
        tab.until("document.querySelectorAll('[data-state=live]').length >= 1", "it shows")
        assert tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_colours_follow_the_switch_and_are_kept(browser: Any, watched: tuple[LiveRun, str]) -> None:
    _, url = watched
    ground = "getComputedStyle(document.body).backgroundColor"
    with Tab(browser, url, scheme="light") as tab:
        light = tab.page.evaluate(ground)
        tab.page.click("#theme")
        dark = tab.page.evaluate(ground)
        assert dark != light
        tab.page.reload()
        assert tab.page.evaluate(ground) == dark


def test_hung_source_shows_as_such_and_comes_back(browser: Any, watched: tuple[LiveRun, str]) -> None:
    run, url = watched
    with Tab(browser, url) as tab:
        tab.until(card("yard", "[data-state=live]") + " !== null", "yard is live")
        before = int(tab.page.evaluate(card("yard") + ".dataset.session"))
        others = run.session("door")
        run.child("decode", "yard").suspend()  # one that dies is back sooner than the page looks
        tab.until(card("yard", ":not([data-state=live])") + " !== null", "yard is away")
        assert not tab.page.evaluate(card("yard") + ".querySelector('.trouble').hidden")
        tab.until(card("yard", "[data-state=live]") + " !== null", "yard is back")
        tab.until(f"Number({card('yard')}.dataset.session) > {before}", "in a new session")
        assert run.session("door") == others, "the others go on"
        assert tab.complaints == []


def test_camera_that_is_killed_shows_as_such_and_comes_back(
    browser: Any, watched: tuple[LiveRun, str], start_camera: StartCamera
) -> None:
    run, url = watched
    camera = start_camera("--fps", "10", "--size", "320x240")
    with Tab(browser, url) as tab:
        assert ctl(run, "add", f"lane={camera.url}")[0] == 0
        tab.until(card("lane", "[data-state=live]") + " !== null", "lane is live")
        before = int(tab.page.evaluate(card("lane") + ".dataset.session"))
        camera.kill()
        tab.until(card("lane", "[data-state=reconnecting]") + " !== null", "lane is away")
        why = card("lane") + ".querySelector('.trouble')"
        tab.until(f"!{why}.hidden && {why}.textContent.includes('rtsp://')", "and why it is away is told")
        start_camera("--fps", "10", "--size", "320x240", "--port", str(camera.port))
        tab.until(card("lane", "[data-state=live]") + " !== null", "lane is back")
        tab.until(f"Number({card('lane')}.dataset.session) > {before}", "in a new session")
        assert tab.complaints == []
    assert ctl(run, "remove", "lane")[0] == 0


def test_paused_source_says_so_and_what_it_said_last_is_not_said_now(
    browser: Any, watched: tuple[LiveRun, str]
) -> None:
    run, url = watched
    weight = "Number(getComputedStyle(" + card("yard") + ".querySelector('.head strong')).fontWeight)"
    with Tab(browser, url) as tab:
        tab.until(card("yard", "[data-state=live]") + " !== null", "yard is live")
        assert tab.page.evaluate(weight) > 600
        assert ctl(run, "pause", "yard") == (0, "paused yard")
        tab.until(card("yard", "[data-state=paused]") + " !== null", "yard is paused")
        assert tab.page.evaluate(weight) < 500
        assert tab.violations() == []
        assert ctl(run, "resume", "yard") == (0, "yard goes on")
        tab.until(card("yard", "[data-state=live]") + " !== null", "yard is back")
        assert tab.complaints == []


def test_sources_come_to_the_wall_and_leave_it(browser: Any, watched: tuple[LiveRun, str]) -> None:
    run, url = watched
    with Tab(browser, url) as tab:
        tab.until(card("gate") + " !== null", "the wall is there")
        assert ctl(run, "add", f"shed={GONE['gate']}")[0] == 0
        tab.until(card("shed", "[data-state=reconnecting]") + " !== null", "it is shown though it is away")
        assert ctl(run, "remove", "shed") == (0, "removed shed")
        tab.until(card("shed") + " === null", "it has left")
        assert ctl(run, "remove", "gate")[0] == 0
        tab.until(card("gate") + " === null", "so has one that was there from the start")
        tab.until("document.querySelector('#summary').textContent.startsWith('3 of 3')", "it is not counted")
        for name in SOURCES:
            tab.until(card(name, "[data-state=live]") + " !== null", f"{name} is live")
        assert tab.complaints == []


def test_page_finds_a_new_publisher_by_itself(browser: Any, watched: tuple[LiveRun, str]) -> None:
    run, url = watched
    with Tab(browser, url) as tab:
        tab.until(card("door", "[data-state=live]") + " !== null", "door is live")
        run.child("publish").kill()
        tab.until("document.body.dataset.link !== 'connected'", "the page sees it")
        tab.until("document.body.dataset.link === 'connected'", "and is back")
        tab.until(card("door", "[data-state=live]") + " !== null", "door is live again")
        assert [text for text in tab.complaints if "net::ERR" not in text and "WebSocket" not in text] == []
