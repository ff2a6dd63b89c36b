"""Every query of the dashboard gives something of a real run, by a real Prometheus."""

from __future__ import annotations

from pathlib import Path

import yaml

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.integration.live import LiveRun
from tests.integration.prometheus import prometheus, queries
from tests.ports import free_port

DOOR = "lavfi:testsrc2=size=160x120:rate=10;sine=frequency=440"


def test_every_query_of_the_dashboard_gives_data(meter: Path, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/"
    settings = {
        "labels": {"smoothing_s": 0, "min_dwell_s": 0.2},
        "notify": {"targets": {"desk": {"kind": "webhook", "url": nobody}}, "rules": [{}]},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    options = ("-c", str(tmp_path / "run.yaml"))
    with (
        LiveRun({"door": DOOR}, *options, model=meter, metrics=True) as run,
        prometheus(tmp_path, run.port) as asked,
    ):
        run.until(lambda: run.labels("door"), "labels")
        run.until(lambda: asked.ready, "Prometheus is ready")
        begin_s = SYSTEM.wall_ns() / NS
        for panel, target in queries():

            def answered(query: str = target["expr"]) -> bool:
                found = asked.ask(query, begin_s, SYSTEM.wall_ns() / NS)
                return any(value != "NaN" for series in found for _, value in series["values"])

            # The drift of two clocks is told after a minute of both.
            run.until(answered, f"{panel['title']}: {target['expr']}", deadline_s=180)
