"""Metrics of the whole run, kept by publish: from its own labels, and from what every process reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from streamfuse.config import RunConfig
from streamfuse.sinks.metrics import Metrics, MetricsServer
from streamfuse.types import Event, Label, SessionStart
from streamfuse.wire.broadcast import Subscriber
from streamfuse.wire.headers import Progress
from streamfuse.wire.transport import Socket

DROPS = {
    # Counter of a process -> the reason it is shown as.
    "late_frames": "late_frame",
    "reordered_frames": "reordered_frame",
    "early_frames": "early_frame",
    "ahead_items": "ahead",
    "corrupt_packets": "corrupt_packet",
    "decode_errors": "decode_error",
    "bad_frames": "bad_frame",
    "link_lost": "lost_in_restart",
}


class Status:
    """What /metrics, /healthz and /readyz say. Without a metrics port it only keeps the reports flowing."""

    def __init__(self, config: RunConfig, reports: Subscriber) -> None:
        self._reports = reports
        self._listeners: list[Callable[[Progress], None]] = []
        self._metrics: Metrics | None = None
        self._server: MetricsServer | None = None
        self._reconnects: Counter[str] = Counter()
        self._delivering: set[str] = set()
        """Sources that have had a label since they were last away."""
        port = config.live.metrics_port
        if port is not None:
            self._metrics = Metrics()
            self._metrics.set_build({"version": version("streamfuse"), "mode": config.mode})
            self._metrics.set_state("running")
            self._server = MetricsServer(self._metrics, host=config.live.metrics_host, port=port)

    def ports(self) -> Sequence[Socket]:
        return [self._reports.socket]

    def listen(self, listener: Callable[[Progress], None]) -> None:
        """Hand every report on."""
        self._listeners.append(listener)

    def turn(self) -> None:
        while (message := self._reports.receive()) is not None:
            if not isinstance(message.body, Progress):
                continue
            for listener in self._listeners:
                listener(message.body)
            if self._metrics is not None:
                self._take_in(self._metrics, message.body)

    def told(self, told: Label | Event) -> None:
        if self._metrics is None:
            return
        if isinstance(told, Label):
            self._metrics.observe_label(told)
            self._note(self._metrics, told.head.source, up=True)
        else:
            self._metrics.observe_event(told)

    def session(self, source: str, start: SessionStart) -> None:
        if self._metrics is not None:
            self._metrics.set_source(source, up=bool(start.tracks))

    def ended(self, source: str) -> None:
        if self._metrics is not None:
            self._metrics.forget_source(source)
            self._note(self._metrics, source, up=False)

    def _note(self, metrics: Metrics, source: str, *, up: bool) -> None:
        """Ready is who gives labels: with every source away, nobody should be sent here."""
        if up == (source in self._delivering):
            return
        (self._delivering.add if up else self._delivering.discard)(source)
        metrics.set_state("running", ready=bool(self._delivering))

    def notified(self, target: str, counts: Mapping[str, int], waiting: int) -> None:
        if self._metrics is not None:
            self._metrics.set_notices(target, counts, waiting)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _take_in(self, metrics: Metrics, report: Progress) -> None:
        name, counters = report.source, report.counters
        metrics.set_rss(f"{report.service} {name}", report.gauges.get("rss_bytes", 0))
        if "waiting" in report.gauges:
            metrics.set_queue_depth(report.service, name, report.gauges["waiting"])
        if report.service != "decode":
            return
        if report.state == "done":  # it ended, was removed or paused; its last report may follow its end
            self.ended(name)
            return
        up = bool(report.gauges.get("source_up"))
        metrics.set_source(name, up=up, lag_ns=report.gauges.get("transport_ns"))
        if not up:
            self._note(metrics, name, up=False)
        for counter, reason in DROPS.items():
            if counter in counters:
                metrics.count_dropped(name, reason, counters[counter])
        for track in ("video", "audio"):
            metrics.count_frames(name, track, counters.get(f"{track}_frames", 0))
        reconnects = counters.get("reconnects", 0)
        for _ in range(max(0, reconnects - self._reconnects[name])):
            metrics.count_reconnect(name)
        self._reconnects[name] = reconnects
