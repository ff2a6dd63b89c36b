"""What /readyz and the metrics say of a run whose processes fall silent, with a clock that the test moves."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamfuse.config import RunConfig
from streamfuse.config_live import LiveOutputConfig
from streamfuse.services.status import AWAY_NS, DROPS, UNWRITTEN, Status
from streamfuse.types import MS, NS, SessionStart
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.codec import Message
from streamfuse.wire.headers import Progress
from tests.ports import free_port
from tests.sinks.made import make_label

REPORT_NS = 500 * MS


class Desk:
    """A Status, the reports that it will find, and its clock."""

    def __init__(self) -> None:
        self.now_ns, self.port = 1000 * NS, free_port()
        self._reports: list[Progress] = []
        config = RunConfig(mode="live", run_dir="/r", live=LiveOutputConfig(metrics_port=self.port))
        self.status = Status(config, cast(Subscriber, self), model="meter", clock=cast(Any, self))

    def monotonic_ns(self) -> int:
        return self.now_ns

    def receive(self) -> Message | None:
        return Message("x", 0, self._reports.pop(0)) if self._reports else None

    def report(self, service: str, name: str, state: str = "running", **fields: Any) -> None:
        told = {"pid": 1, "counter": 1, "allowance_ms": 0, "counters": {}, "gauges": {}} | fields
        self._reports.append(Progress(source=name, service=service, state=state, **told))  # type: ignore[arg-type]

    def spend(self, duration_ns: int, *, decode: str | None = None, labels: bool = False) -> None:
        """Half seconds pass, in which a decode process of that source reports, or labels come of `door`."""
        for _ in range(duration_ns // REPORT_NS):
            self.now_ns += REPORT_NS
            if decode is not None:
                self.report("decode", decode, gauges={"source_up": 1, "rss_bytes": 7})
            if labels:
                self.status.told(make_label(source="door"))
            self.status.turn()

    def ready(self) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return answer.status, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode().strip()

    def metric(self, name: str, **labels: str) -> float | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        for sample in (one for family in families for one in family.samples):
            if sample.name == f"streamfuse_{name}" and labels.items() <= sample.labels.items():
                return float(sample.value)
        return None


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.status.close()


def test_run_is_ready_while_a_source_delivers_and_labels_come(desk: Desk) -> None:
    desk.status.turn()
    assert desk.ready() == (503, "starting")
    desk.spend(NS, decode="door")
    assert desk.ready() == (503, "starting")
    desk.spend(NS, decode="door", labels=True)
    assert desk.ready() == (200, "ready")
    desk.status.stop()
    desk.status.turn()
    assert desk.ready() == (503, "stopping")


def test_source_whose_process_is_gone_is_away_though_nobody_says_so(desk: Desk) -> None:
    desk.spend(NS, decode="door", labels=True)
    desk.spend(AWAY_NS)
    assert (desk.metric("source_up", source="door"), desk.ready()[0]) == (1, 200)
    desk.spend(REPORT_NS)
    assert desk.metric("source_up", source="door") == 0
    assert desk.metric("process_resident_memory_bytes", process="decode door") is None
    assert desk.ready() == (503, "running")
    desk.spend(NS, decode="door", labels=True)
    assert (desk.metric("source_up", source="door"), desk.ready()[0]) == (1, 200)


def test_run_without_labels_is_not_ready_though_its_source_delivers(desk: Desk) -> None:
    """The analyzer is away. Another source's labels help where that one delivers, and only there."""
    desk.spend(NS, decode="door", labels=True)
    desk.spend(AWAY_NS + REPORT_NS, decode="door")
    assert (desk.metric("source_up", source="door"), desk.ready()) == (1, (503, "running"))
    desk.spend(AWAY_NS + REPORT_NS, decode="yard", labels=True)
    assert (desk.metric("source_up", source="door"), desk.ready()) == (0, (503, "running"))


def test_source_that_says_it_is_away_is_away_at_once(desk: Desk) -> None:
    desk.spend(NS, decode="door", labels=True)
    desk.report("decode", "door", "waiting", gauges={"source_up": 0})
    desk.status.turn()
    assert (desk.metric("source_up", source="door"), desk.ready()[0]) == (0, 503)


def test_source_that_has_ended_leaves_and_does_not_come_back(desk: Desk) -> None:
    desk.status.session("door", SessionStart(0, 0, 0, frozenset({"video"})))
    desk.spend(NS, decode="door", labels=True)
    desk.report("decode", "door", "done")
    desk.spend(AWAY_NS + REPORT_NS)
    assert (desk.metric("source_up", source="door"), desk.ready()[0]) == (None, 503)


def test_restarts_are_counted_as_the_supervisor_tells_them(desk: Desk) -> None:
    """Also those of before this publish process, its own among them."""
    desk.report("publish", "publish", restarts=1)
    for restarts, spare in ((0, False), (0, True), (1, False), (0, True), (1, True)):
        desk.report("analyze", "0", restarts=restarts, spare=spare)
    desk.status.turn()
    assert desk.metric("process_restarts_total", process="publish publish") == 1
    assert desk.metric("process_restarts_total", process="analyze 0") == 2


def test_memory_of_the_spare_stands_beside_that_of_the_analyzer(desk: Desk) -> None:
    def memory(name: str) -> float | None:
        return desk.metric("process_resident_memory_bytes", process=name)

    desk.report("analyze", "0", gauges={"rss_bytes": 100})
    desk.report("analyze", "0", "starting", spare=True, gauges={"rss_bytes": 1})
    desk.report("analyze", "0", "standby", spare=True, gauges={"rss_bytes": 30})
    desk.status.turn()
    assert (memory("analyze 0"), memory("analyze 0 (spare)")) == (100, 30)
    desk.now_ns += AWAY_NS + 1
    desk.report("analyze", "0", spare=True, gauges={"rss_bytes": 90})  # it has taken over
    desk.status.turn()
    assert (memory("analyze 0"), memory("analyze 0 (spare)")) == (90, None)


def test_drift_is_told_while_it_is_known(desk: Desk) -> None:
    for ppb, ppm in ((42_500, 42.5), (None, None), (-7_000, -7)):
        gauges = {"source_up": 1} | ({} if ppb is None else {"av_drift_ppb": ppb})
        desk.report("decode", "door", gauges=gauges)
        desk.status.turn()
        assert desk.metric("av_drift_ppm", source="door") == ppm
    desk.spend(AWAY_NS + REPORT_NS)
    assert desk.metric("av_drift_ppm", source="door") is None


def test_every_reason_of_a_drop_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    table = page.partition("| reason |")[2].partition("\n\n")[0]
    described = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert described == {"overload", UNWRITTEN, *DROPS.values()}


def test_lines_that_a_full_disk_took_are_counted_also_after_the_source_came_back(desk: Desk) -> None:
    for total in (0, 3, 0, 2):  # it ended, and began to count again
        desk.status.unwritten("door", total)
    assert desk.metric("dropped_total", source="door", reason=UNWRITTEN) == 5


def test_build_says_what_is_running_and_where(desk: Desk) -> None:
    assert desk.metric("build_info", mode="live", model="meter", device="") == 1
    desk.report("analyze", "0", device="cuda:0")
    desk.status.turn()
    assert desk.metric("build_info", mode="live", model="meter", device="cuda:0") == 1
    desk.report("analyze", "b", device="cuda:1")
    desk.report("analyze", "0", device="cuda:0")
    desk.status.turn()
    assert desk.metric("build_info", mode="live", model="meter", device="cuda:0, cuda:1") == 1
