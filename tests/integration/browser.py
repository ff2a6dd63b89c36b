"""Debian's Chromium, driven by Playwright: pages that report what they complain of and whom they ask."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streamfuse.clock import SYSTEM
from streamfuse.types import NS

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}
DEADLINE_MS = 60_000


def chromium_path() -> str:
    """Skip, by name, where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip("no Chromium here (bash tests/system-packages.sh)")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    path = chromium_path()
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (extra `dev`)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """An open page; `complaints` are its errors, `asked` the addresses of all its requests."""

    def __init__(self, browser: Any, url: str, *, size: dict[str, int] = DESK, scheme: str = "dark") -> None:
        self.context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.page.set_default_timeout(DEADLINE_MS)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on(
            "console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text)
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def until(self, script: str, what: str) -> Any:
        """Wait until a script's value is true; return it."""
        end_ns = SYSTEM.monotonic_ns() + DEADLINE_MS * NS // 1000
        while not (value := self.page.evaluate(script)):
            if SYSTEM.monotonic_ns() > end_ns:
                pytest.fail(
                    f"{what}: not within {DEADLINE_MS} ms; {self.complaints}; {self.page.inner_text('body')}"
                )
            self.page.wait_for_timeout(50)
        return value

    def violations(self) -> list[str]:
        """What axe finds wrong for people who cannot see or point well."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe (extra `dev`)")
        found = axe.Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in found]
