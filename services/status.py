"""Metrics of the whole run, kept by publish: from its own labels, and from what every process reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import RunConfig
from streamfuse.sinks.metrics import Metrics, MetricsServer, RunState
from streamfuse.types import NS, Event, Label, SessionStart
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
UNWRITTEN = "unwritten_line"

AWAY_NS = 3 * NS
"""A process that has said nothing for so long is away, as for the supervisor; a report is due every 0.5 s."""


class Status:
    """What /metrics, /healthz and /readyz say. Without a metrics port it only keeps the reports flowing.

    model  the name of the run's model
    """

    def __init__(
        self, config: RunConfig, reports: Subscriber, *, model: str = "", clock: Clock = SYSTEM
    ) -> None:
        self._reports, self._clock = reports, clock
        self._listeners: list[Callable[[Progress], None]] = []
        self._metrics: Metrics | None = None
        self._server: MetricsServer | None = None
        self._reconnects: Counter[str] = Counter()
        self._up_ns: dict[str, int] = {}
        """Sources that deliver, and when they last said so."""
        self._label_ns: dict[str, int] = {}
        """When the last label of each source came."""
        self._heard_ns: dict[str, int] = {}
        """When each process was last heard of."""
        self._begun = self._stopping = False
        """The first label has come; nothing new is taken in."""
        self._build = {"version": version("streamfuse"), "mode": config.mode, "model": model, "device": ""}
        self._devices: dict[str, str] = {}
        port = config.live.metrics_port
        if port is not None:
            self._metrics = Metrics()
            self._metrics.set_build(self._build)
            self._server = MetricsServer(self._metrics, host=config.live.metrics_host, port=port)

    def ports(self) -> Sequence[Socket]:
        return [self._reports.socket]

    def listen(self, listener: Callable[[Progress], None]) -> None:
        """Hand every report on."""
        self._listeners.append(listener)

    def turn(self) -> None:
        now_ns = self._clock.monotonic_ns()
        while (message := self._reports.receive()) is not None:
            if not isinstance(message.body, Progress):
                continue
            for listener in self._listeners:
                listener(message.body)
            if self._metrics is not None:
                self._take_in(self._metrics, message.body, now_ns)
        if self._metrics is not None:
            self._look(self._metrics, now_ns)

    def told(self, told: Label | Event) -> None:
        if self._metrics is None:
            return
        if isinstance(told, Label):
            self._metrics.observe_label(told)
            self._label_ns[told.head.source] = self._clock.monotonic_ns()
            self._begun = True
        else:
            self._metrics.observe_event(told)

    def session(self, source: str, start: SessionStart) -> None:
        if self._metrics is not None:
            self._set_source(self._metrics, source, up=bool(start.tracks))

    def ended(self, source: str) -> None:
        if self._metrics is not None:
            self._metrics.forget_source(source)
            self._up_ns.pop(source, None)
            self._label_ns.pop(source, None)

    def unwritten(self, source: str, total: int) -> None:
        """So many lines of a source could not be written to its file since it began."""
        if self._metrics is not None:
            self._metrics.count_dropped(source, UNWRITTEN, total)

    def notified(self, target: str, counts: Mapping[str, int], waiting: int) -> None:
        if self._metrics is not None:
            self._metrics.set_notices(target, counts, waiting)

    def stop(self) -> None:
        """The run drains: nobody should be sent here any more."""
        self._stopping = True

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _look(self, metrics: Metrics, now_ns: int) -> None:
        """Who has fallen silent is away. Ready is a run of which a source delivers, and has labels."""
        for source in _silent(self._up_ns, now_ns):
            self._set_source(metrics, source, up=False)
            metrics.set_drift(source, None)
        for process in _silent(self._heard_ns, now_ns):
            del self._heard_ns[process]
            metrics.forget_process(process)
        silent = _silent(self._label_ns, now_ns)
        ready = any(source in self._label_ns and source not in silent for source in self._up_ns)
        state: RunState = "stopping" if self._stopping else "running" if self._begun else "starting"
        metrics.set_state(state, ready=ready)

    def _set_source(self, metrics: Metrics, source: str, *, up: bool, lag_ns: int | None = None) -> None:
        if up:
            self._up_ns[source] = self._clock.monotonic_ns()
        else:
            self._up_ns.pop(source, None)
        metrics.set_source(source, up=up, lag_ns=lag_ns)

    def _take_in(self, metrics: Metrics, report: Progress, now_ns: int) -> None:
        self._take_process(metrics, report, now_ns)
        if report.service == "analyze" and report.device:
            self._set_device(metrics, report)
        if report.service == "decode" and report.state == "done":
            self.ended(report.source)  # it ended, was removed or paused; its last report may follow its end
        elif report.service == "decode":
            self._take_source(metrics, report)

    def _set_device(self, metrics: Metrics, report: Progress) -> None:
        """Each analyzer may have one of its own."""
        self._devices[report.source] = report.device
        said = ", ".join(sorted(set(self._devices.values())))
        if said != self._build["device"]:
            self._build["device"] = said
            metrics.set_build(self._build)

    def _take_process(self, metrics: Metrics, report: Progress, now_ns: int) -> None:
        process = f"{report.service} {report.source}"
        metrics.count_restarts(process, report.restarts, spare=report.spare)
        if "waiting" in report.gauges:
            metrics.set_queue_depth(report.service, report.source, report.gauges["waiting"])
        if report.state == "starting":  # of an analyzer, it is not known yet whether it will stand by
            return
        process += " (spare)" if report.state == "standby" else ""
        self._heard_ns[process] = now_ns
        metrics.set_rss(process, report.gauges.get("rss_bytes", 0))

    def _take_source(self, metrics: Metrics, report: Progress) -> None:
        name, counters = report.source, report.counters
        up = bool(report.gauges.get("source_up"))
        self._set_source(metrics, name, up=up, lag_ns=report.gauges.get("transport_ns"))
        metrics.set_drift(name, report.gauges.get("av_drift_ppb"))
        for counter, reason in DROPS.items():
            if counter in counters:
                metrics.count_dropped(name, reason, counters[counter])
        for track in ("video", "audio"):
            metrics.count_frames(name, track, counters.get(f"{track}_frames", 0))
        reconnects = counters.get("reconnects", 0)
        for _ in range(max(0, reconnects - self._reconnects[name])):
            metrics.count_reconnect(name)
        self._reconnects[name] = reconnects


def _silent(last_ns: Mapping[str, int], now_ns: int) -> list[str]:
    """Those of whom nothing has come for AWAY_NS."""
    return [name for name, at_ns in last_ns.items() if now_ns - at_ns > AWAY_NS]
