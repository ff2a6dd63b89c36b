"""Prometheus metrics and health over HTTP, on loopback unless told otherwise.

    GET /metrics   the metrics below, text or OpenMetrics as asked
    GET /healthz   200 while the program lives
    GET /readyz    200 while a source delivers and labels come, else 503; the body is the state

Label values are ids only (source, stage, reason, head, label, process, target), never an address.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder

from streamfuse.errors import ConfigError
from streamfuse.types import NS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamfuse.types import Event, Label

RunState = Literal["starting", "running", "stopping"]

LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
"""Around one hop (100 ms), where a decision is made, and up to where a camera counts as stalled."""
SKEW_S = (-1.0, -0.5, -0.2, -0.1, -0.04, -0.02, 0.0, 0.02, 0.04, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """Every metric of a run, in a registry of its own; safe to call from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._state: RunState = "starting"
        self._ready = False
        by_source, by_stage = ["source"], ["stage", "source"]
        self._stage = self._histogram("stage_latency", "Time a stage worked on a tick", by_stage)
        self._wait = self._histogram("queue_wait", "Time a tick waited for a stage", by_stage)
        self._age = self._histogram(
            "e2e_latency", "Arrival of a label's last input to its publishing", by_source
        )
        self._input_age = self._histogram(
            "input_age",
            "Arrival of a label's last input of one modality to its publishing",
            ["source", "modality"],
        )
        self._part = self._histogram(
            "latency_part",
            "Share of the age by stage and part; all of them sum to it",
            ["stage", "part", "source"],
        )
        self._late = self._counter(
            "deadline_misses", "Labels later than one hop, and dropped ticks", by_source
        )
        self._sync = self._histogram("sync_wait", "Time the earlier track waited for the other", by_source)
        self._skew = self._histogram("av_skew", "How much later a moment's sound comes", by_source, SKEW_S)
        self._labels = self._counter("labels", "Labels published", by_source)
        self._partial = self._counter(
            "partial_labels", "Labels made without a track that was late", by_source
        )
        self._frames = self._counter("frames", "Items taken from a source", ["source", "track"])
        self._events = self._counter("events", "Events by kind", ["source", "head", "label", "kind"])
        self._dropped = self._counter(
            "dropped", "Ticks, frames, messages and lines dropped", ["source", "reason"]
        )
        self._reconnects = self._counter("reconnects", "Times a source was opened again", by_source)
        self._restarts = self._counter("process_restarts", "Times a process was started again", ["process"])
        self._up = self._gauge("source_up", "1 while a source delivers", by_source)
        self._lag = self._gauge("source_lag_seconds", "Wall clock minus a source's own time", by_source)
        self._drift = self._gauge("av_drift_ppm", "Picture's clock against the sound's", by_source)
        self._session = self._gauge("source_session", "Number of a source's session", by_source)
        self._depth = self._gauge("queue_depth", "Messages waiting in a queue", ["queue", "source"])
        self._notified = self._counter(
            "notify", "Notices of events by what became of them", ["target", "outcome"]
        )
        self._notify_waiting = self._gauge("notify_waiting", "Notices that wait for a receiver", ["target"])
        self._rss = self._gauge("process_resident_memory_bytes", "Resident memory", ["process"])
        self._build = Info("streamfuse_build", "What is running", registry=self.registry)
        self._totals: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def observe_label(self, label: Label) -> None:
        """Count a published label, its drops and, live, where its time went."""
        head = label.head
        source = head.source
        self._labels.labels(source).inc()
        if head.partial:
            self._partial.labels(source).inc()
        if head.dropped:
            self._dropped.labels(source, "overload").inc(head.dropped)
        if head.video != "missing" and head.audio != "missing":
            self._skew.labels(source).observe(head.skew_ns / NS)
        for stamp in head.trace.stamps:
            self._stage.labels(stamp.stage, source).observe((stamp.end_ns - stamp.start_ns) / NS)
            self._wait.labels(stamp.stage, source).observe(max(0, stamp.start_ns - stamp.enqueue_ns) / NS)
        self._session.labels(source).set(head.session)
        told = label.latency or {}
        self._late.labels(source).inc(head.dropped + (told.get("edge_age", 0) > head.hop_ns))
        self._observe_latency(source, told)

    def observe_event(self, event: Event) -> None:
        self._events.labels(event.source, event.head, event.label, event.kind).inc()

    def observe_stage(self, stage: str, source: str, compute_ns: int, wait_ns: int = 0) -> None:
        """A stage's work on one item, where no label carries its stamps."""
        self._stage.labels(stage, source).observe(compute_ns / NS)
        self._wait.labels(stage, source).observe(wait_ns / NS)

    def set_drift(self, source: str, ppb: int | None) -> None:
        """`ppb`: how much the picture's clock gains on the sound's, in billionths; None: not known now."""
        if ppb is not None:
            self._drift.labels(source).set(ppb / 1000)
            return
        with suppress(KeyError):
            self._drift.remove(source)

    def set_source(self, source: str, *, up: bool, lag_ns: int | None = None) -> None:
        self._up.labels(source).set(up)
        if lag_ns is not None:
            self._lag.labels(source).set(lag_ns / NS)
        # So that a rate() over them starts from a zero that was seen.
        self._reconnects.labels(source)
        self._partial.labels(source)
        self._dropped.labels(source, "overload")

    def forget_source(self, source: str) -> None:
        """Take a source that is gone for good out of the gauges; its counters stay."""
        for gauge in (self._up, self._lag, self._drift, self._session):
            with suppress(KeyError):
                gauge.remove(source)

    def count_frames(self, source: str, track: str, total: int) -> None:
        """Set how many items of a track have come since the source's process began."""
        self._raise_to(self._frames, ("frames", source, track), total)

    def count_dropped(self, source: str, reason: str, total: int) -> None:
        """Set how many were dropped for a reason other than overload (that comes with the labels)."""
        self._raise_to(self._dropped, ("dropped", source, reason), total)

    def count_reconnect(self, source: str) -> None:
        self._reconnects.labels(source).inc()

    def count_restarts(self, process: str, total: int, *, spare: bool = False) -> None:
        """Set how often a process, or its spare, was started again since the run began."""
        self._raise_to(self._restarts, ("spare restarts" if spare else "restarts", process), total)

    def set_queue_depth(self, queue: str, source: str, depth: int) -> None:
        self._depth.labels(queue, source).set(depth)

    def set_notices(self, target: str, counts: Mapping[str, int], waiting: int) -> None:
        """What became of a target's notices (sent, failed, dropped) since the run began."""
        for outcome, total in counts.items():
            self._raise_to(self._notified, ("notify", target, outcome), total)
        self._notify_waiting.labels(target).set(waiting)

    def set_rss(self, process: str, rss_bytes: int) -> None:
        self._rss.labels(process).set(rss_bytes)

    def forget_process(self, process: str) -> None:
        """Take a process that is away out of the gauges; its counters stay."""
        with suppress(KeyError):
            self._rss.remove(process)

    def set_build(self, facts: Mapping[str, str]) -> None:
        """Version, device, model name and such: short texts."""
        self._build.info(dict(facts))

    def set_state(self, state: RunState, *, ready: bool = False) -> None:
        """`ready`: a source delivers and labels come. Only a running program is ready."""
        with self._lock:
            self._state, self._ready = state, ready and state == "running"

    @property
    def state(self) -> tuple[RunState, bool]:
        with self._lock:
            return self._state, self._ready

    def _observe_latency(self, source: str, latency: Mapping[str, int]) -> None:
        for name, value in latency.items():
            if name in ("edge_age", "edge_age_ns"):
                self._age.labels(source).observe(value / NS)
            elif name in ("video_age", "video_age_ns"):
                self._input_age.labels(source, "video").observe(value / NS)
            elif name in ("audio_age", "audio_age_ns"):
                self._input_age.labels(source, "audio").observe(value / NS)
            elif name in ("sync_wait", "sync_wait_ns"):
                self._sync.labels(source).observe(value / NS)
            elif "." in name:
                stage, _, part = name.rpartition(".")
                self._part.labels(stage, part, source).observe(value / NS)

    def _raise_to(self, counter: Counter, key: tuple[str, ...], total: int) -> None:
        """Follow another process's counter, which begins at 0 again when it does. key: what, label values."""
        with self._lock:
            before = self._totals.get(key, 0)
            self._totals[key] = total
        counter.labels(*key[1:]).inc(total - before if total >= before else total)

    def _histogram(
        self, name: str, text: str, labels: list[str], buckets: tuple[float, ...] = LATENCY_S
    ) -> Histogram:
        return Histogram(f"streamfuse_{name}_seconds", text, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"streamfuse_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(f"streamfuse_{name}", text, labels, registry=self.registry)


class MetricsServer:
    """Serves a Metrics over HTTP from a thread of its own.

    port    0: any free one; `address` says which
    raises  ConfigError when the address cannot be bound
    """

    def __init__(self, metrics: Metrics, *, host: str = "127.0.0.1", port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                "the metrics address must be free and this machine's own",
                got=f"{host}:{port} ({getattr(error, 'strerror', None) or error})",
                hint="choose another metrics port",
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Read-only; says nothing on standard error, and its own name is all it tells about itself."""

    metrics: Metrics
    server_version = "streamfuse"
    sys_version = ""
    timeout = 10.0
    """A client that sends nothing does not hold its thread for ever."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept") or "")
            self._answer(HTTPStatus.OK, encode(self.metrics.registry), kind)
        elif path == "/healthz":
            self._answer(HTTPStatus.OK, b"ok\n")
        elif path == "/readyz":
            state, ready = self.metrics.state
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, f"{'ready' if ready else state}\n".encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"/metrics, /healthz or /readyz\n")

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is nothing to log."""

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
