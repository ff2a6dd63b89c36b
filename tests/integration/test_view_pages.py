"""The page with made-up sources in a real browser: a recording that seeks, sixteen sources, the token."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from streamfuse.clock import SYSTEM, utc_iso
from streamfuse.config import ViewConfig
from streamfuse.types import MS, Face, Label
from streamfuse.view.app import live_app
from streamfuse.view.history import Report
from streamfuse.view.hub import Hub
from streamfuse.view.server import ViewServer
from tests.clips import Clip
from tests.integration.browser import DEADLINE_MS, PHONE, Tab, chromium
from tests.view.made import HEADS, a_label, a_still
from tests.view.test_recording import written

TOKEN = "correct-horse-battery"
SOURCES = 16


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as made:
        yield made


# -- a recording -----------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`streamfuse view` as its user has it."""
    folder = tmp_path_factory.mktemp("recording")
    # VP9, which every Chromium has; its key frames are near each other, so that it goes where it is told.
    Clip(seconds=10, video="libvpx-vp9", audio=None, gop=10, fps=10).write(folder / "door.webm")
    labels = written(folder, count=100, faces=range(50, 100))
    process = subprocess.Popen(
        [sys.executable, "-m", "streamfuse.cli.main", "view", str(labels), "--address", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "door: 100 labels, with door.webm\n"
    line = process.stderr.readline()
    assert line.startswith("look at it at http://127.0.0.1:"), line
    yield line.split()[4]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_recording_seeks_where_the_timeline_is_clicked(browser: Any, recording: str) -> None:
    with Tab(browser, recording) as tab:
        tab.until("document.querySelector('video')?.readyState >= 2", "the video is there")
        canvas = tab.page.locator(".timeline canvas")
        box = canvas.bounding_box()
        canvas.click(position={"x": box["width"] * 0.7, "y": 40})
        tab.until("Math.abs(document.querySelector('video').currentTime - 7) < 0.2", "it is at 7 s")
        tab.until(
            "Math.abs(document.querySelector('[data-position]').dataset.position - 7) < 0.2", "and says so"
        )
        canvas.press("Home")
        tab.until("document.querySelector('video').currentTime === 0", "the keyboard does it too")
        canvas.press("ArrowRight")
        tab.until("document.querySelector('video').currentTime === 1", "a second further")
        assert canvas.get_attribute("aria-valuenow") == "1.0"
        tab.page.get_by_role("button", name="street").click()
        tab.until("document.querySelector('video').currentTime === 1", "where the event began")
        assert tab.complaints == []


FACE_AND_PICTURE = """(() => {
  const [face, video] = ["i.face", "video"].map((name) => document.querySelector(name));
  const at = ({ left, top, width, height }) => [left, top, width, height];
  if (face.hidden) return null;
  const ratio = video.videoWidth / video.videoHeight;
  return [at(face.getBoundingClientRect()), at(video.getBoundingClientRect()), ratio];
})()"""


def test_recording_frames_the_face_that_was_read(browser: Any, recording: str) -> None:
    with Tab(browser, recording) as tab:
        tab.until("document.querySelector('video')?.readyState >= 2", "the video is there")
        assert tab.page.evaluate(FACE_AND_PICTURE) is None, "nobody is seen in the first five seconds"
        tab.page.locator(".timeline canvas").press("End")
        face, (left, top, width, height), ratio = tab.until(FACE_AND_PICTURE, "a frame")
        wide, high = min(width, height * ratio), min(height, width / ratio)
        left, top = left + (width - wide) / 2, top + (height - high) / 2
        assert face == pytest.approx([left + 0.1 * wide, top + 0.2 * high, 0.25 * wide, 0.5 * high], abs=1)
        assert tab.complaints == []


def test_timeline_goes_with_the_video(browser: Any, recording: str) -> None:
    with Tab(browser, recording) as tab:
        tab.until("document.querySelector('video')?.readyState >= 2", "the video is there")
        tab.page.evaluate("document.querySelector('video').muted = true")
        tab.page.evaluate("document.querySelector('video').play()")
        tab.until("document.querySelector('[data-position]').dataset.position > 0.5", "the position moves")
        assert tab.page.locator(".answers strong").first.inner_text() == "street"


def test_recording_is_usable_for_everyone_and_fits_a_telephone(browser: Any, recording: str) -> None:
    for scheme in ("dark", "light"):
        with Tab(browser, recording, size=PHONE, scheme=scheme) as tab:
            tab.until("document.querySelector('[data-position]') !== null", "it shows")
            assert tab.violations() == []
            assert tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_timeline_can_be_looked_at_closer(browser: Any, recording: str) -> None:
    with Tab(browser, recording) as tab:
        tab.until("document.querySelector('[data-position]') !== null", "it shows")
        picture = "document.querySelector('.timeline canvas').toDataURL()"
        whole = tab.page.evaluate(picture)
        tab.page.get_by_role("button", name="Show it closer").click()
        tab.until(f"{picture} !== {json.dumps(whole)}", "closer")
        tab.page.get_by_role("button", name="Show all of it").click()
        tab.until(f"{picture} === {json.dumps(whole)}", "all again")


# -- sixteen sources -------------------------------------------------------------


class Feed:
    """Sixteen sources, each with ten labels and two pictures a second, as publish would offer them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._stopped = threading.Event()
        self.jpegs = [self._jpeg(shade) for shade in (0, 120)]
        self.offered = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    @staticmethod
    def _jpeg(shade: int) -> bytes:
        out = io.BytesIO()
        Image.effect_noise((640, 360), 60).point(lambda v: (v + shade) % 256).convert("RGB").save(
            out, "JPEG", quality=60
        )
        return out.getvalue()

    def _label(self, source: int) -> Label:
        wall_ns = SYSTEM.wall_ns() - 40 * MS
        label = a_label(self.offered, f"camera {source}", age_ms=40)
        return replace(label, time=utc_iso(wall_ns), face=Face((0.25, 0.25, 0.25, 0.5), 0.9))

    def _run(self) -> None:
        while not self._stopped.wait(0.1):
            for source in range(SOURCES):
                self._hub.offer(self._label(source))
                if (self.offered + source) % 5 == 0:
                    still = a_still(self.offered / 10, f"camera {source}", self.jpegs[self.offered % 2])
                    self._hub.offer(still)
                if self.offered % 5 == 0:
                    frames = {"video_frames": self.offered * 2}
                    self._hub.offer(Report(f"camera {source}", "running", frames))
            self.offered += 1


@contextmanager
def fed(**options: object) -> Iterator[tuple[str, Feed]]:
    config = ViewConfig.model_validate({"address": "127.0.0.1:0", **options})
    hub = Hub(config, HEADS, [f"camera {n}" for n in range(SOURCES)], "tiny", SYSTEM)
    server = ViewServer(live_app(hub, config), config, background=hub.run())
    feed = Feed(hub)
    try:
        yield server.url, feed
    finally:
        feed.stop()
        server.close(within_s=10)


def test_sixteen_sources_are_kept_up_with(browser: Any) -> None:
    with fed() as (url, feed), Tab(browser, url) as tab:
        tab.until("globalThis.streamfuseShown?.().delays.length >= 1600", "ten seconds of labels")
        # A browser that stands still for a moment falls behind: it has to come back to now, with little lost.
        end_ns = SYSTEM.monotonic_ns() + DEADLINE_MS * MS
        while feed.offered - int(tab.page.evaluate("document.querySelector('article').dataset.tick")) > 10:
            assert SYSTEM.monotonic_ns() < end_ns, "never less than a second behind"
            tab.page.wait_for_timeout(50)
        assert tab.page.evaluate("streamfuseShown()")["missed"] <= 10 * SOURCES
        moved = "[...document.querySelectorAll('article .screen canvas')].filter((c) => c.dataset.count >= 2)"
        tab.until(f"{moved}.length >= 6", "the pictures in sight move")
        assert tab.complaints == []


HIDING = """
const real = globalThis.requestAnimationFrame, held = [];
globalThis.hideTab = (hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  globalThis.requestAnimationFrame = (call) => (hidden ? held.push(call) : real(call));
  document.dispatchEvent(new Event("visibilitychange"));
  if (!hidden) held.splice(0).forEach((call) => real(call));
};
"""
"""A tab in the background as Chromium has it: hidden, and nothing is painted."""


def test_hidden_tab_keeps_nothing_to_paint_and_begins_afresh_when_it_is_looked_at(browser: Any) -> None:
    with fed() as (url, feed), Tab(browser, "about:blank") as tab:
        heard: list[str] = []
        tab.page.add_init_script(HIDING)
        tab.page.on(
            "websocket", lambda line: line.on("framereceived", lambda text: heard.append(str(text)[:40]))
        )
        tab.page.goto(url)
        tab.until("globalThis.streamfuseShown?.().delays.length >= 16", "it shows")
        tab.page.evaluate("hideTab(true)")
        asleep = len(heard)
        while sum('"news"' in text for text in heard[asleep:]) < 5:  # state still comes
            tab.page.wait_for_timeout(50)
        assert tab.page.evaluate("streamfuseShown().unpainted") == 0
        assert not any('"hello"' in text for text in heard[asleep:])
        before = feed.offered
        tab.page.evaluate("hideTab(false)")
        tab.until(f"document.querySelector('article').dataset.tick >= {before}", "what is now")
        assert sum('"hello"' in text for text in heard[asleep:]) == 1, "with what was said meanwhile"
        assert tab.complaints == []


CLOCK_SET_BACK = """
(async () => {
  const { Columns } = await import("/static/columns.js");
  const columns = new Columns([{ name: "scene", kind: "softmax", labels: ["street"] }]);
  const push = (time) => columns.push(time, 0, {}, [[[0], [0, 750]]]);
  for (const time of [100000, 100100, 100200, 100100]) push(time);
  const late = [...columns.times];
  for (const time of [60000, 60100]) push(time);
  return [late, columns.times, columns.top[0].length];
})()
"""


def test_timelines_go_on_when_the_clock_is_set_back(browser: Any, recording: str) -> None:
    with Tab(browser, recording) as tab:
        late, times, answers = tab.page.evaluate(CLOCK_SET_BACK)
        assert late == [100000, 100100, 100200], "told again, or out of order: not taken"
        assert (times, answers) == ([60000, 60100], 2)


def test_face_is_framed_in_the_picture(browser: Any) -> None:
    """The frame's colour stands where the face is said to be, and not in its middle."""
    with fed() as (url, _), Tab(browser, url + "#/source/camera%203") as tab:
        pixel = (
            "(() => { const c = document.querySelector('.large canvas'), p = c.getContext('2d');"
            " const at = (x, y) => [...p.getImageData(c.width * x, c.height * y, 1, 1).data].slice(0, 3);"
            " return [at(0.25, 0.5), at(0.375, 0.5)]; })()"
        )
        yellow = "((p) => p[0] > 200 && p[1] > 170 && p[2] < 140)"
        tab.until(f"document.querySelector('.large canvas') && {yellow}({pixel}[0])", "a frame")
        assert not tab.page.evaluate(f"{yellow}({pixel}[1])")


def test_token_is_asked_for_once(browser: Any) -> None:
    with fed(token=TOKEN) as (url, _), Tab(browser, url, size=PHONE, scheme="light") as tab:
        assert tab.page.url == url + "login"
        assert tab.violations() == []
        tab.page.fill("#token", TOKEN + "x")
        tab.page.press("#token", "Enter")
        tab.page.get_by_role("alert").wait_for()
        tab.page.fill("#token", TOKEN)
        tab.page.get_by_role("button", name="Show the cameras").click()
        tab.until("document.querySelectorAll('[data-state=live]').length >= 16", "the cameras are shown")
        tab.page.goto(url)
        tab.until("document.querySelectorAll('[data-state=live]').length >= 16", "and again without asking")
