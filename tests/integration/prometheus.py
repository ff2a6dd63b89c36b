"""Debian's Prometheus, scraping a run and answering the dashboard's queries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.ports import free_port

BOARD = Path(__file__).resolve().parents[2] / "dashboards" / "streamfuse.json"
Series = dict[str, Any]
"""Prometheus's own: {"metric": {label: value}, "values": [[time, "number"]]}."""


def queries() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every panel of the dashboard with each of its targets."""
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel, target


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, query: str, begin_s: float, end_s: float, step_s: float = 1) -> list[Series]:
        """A query of the dashboard over a time; its variables are replaced as Grafana does."""
        plain = query.replace("$__rate_interval", "15s").replace("$source", ".*")
        asked = urlencode({"query": plain, "start": begin_s, "end": end_s, "step": step_s})
        with urlopen(f"{self._url}/api/v1/query_range?{asked}", timeout=20) as answer:
            told = json.load(answer)
        found: list[Series] = told["data"]["result"]
        return found

    @property
    def ready(self) -> bool:
        try:
            with urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return int(answer.status) == 200
        except (URLError, ConnectionError):
            return False


@contextmanager
def prometheus(folder: Path, scraped_port: int) -> Iterator[Prometheus]:
    """Scrapes the run once a second. Skips, by name, where there is none."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no Prometheus here (Debian's package `prometheus`)")
    config = folder / "prometheus.yml"
    job = {"job_name": "streamfuse", "static_configs": [{"targets": [f"127.0.0.1:{scraped_port}"]}]}
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    port = free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)
