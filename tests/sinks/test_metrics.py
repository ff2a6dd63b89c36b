from __future__ import annotations

import dataclasses
import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamfuse.errors import ConfigError
from streamfuse.sinks.metrics import Metrics, MetricsServer
from streamfuse.types import MS, Stamp, Trace
from tests.sinks.made import make_event, make_label


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(metrics: Metrics) -> Iterator[MetricsServer]:
    server = MetricsServer(metrics)
    yield server
    server.close()


def get(server: MetricsServer, path: str, **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.getheader("Content-Type", "")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def traced(**changes: Any) -> Any:
    latency = {"edge_age": 62 * MS, "audio_age": 80 * MS, "sync_wait": 7 * MS}
    label = make_label(source="door", latency=latency)
    stamps = (Stamp("analyze", 100 * MS, 103 * MS, 110 * MS), Stamp("publish", 110 * MS, 111 * MS, 111 * MS))
    head = dataclasses.replace(label.head, trace=Trace(0, 0, stamps), skew_ns=-30 * MS, **changes)
    return dataclasses.replace(label, head=head)


def test_metrics_label_counts_and_latencies(metrics: Metrics) -> None:
    metrics.observe_label(traced(dropped=3, partial=True))
    metrics.observe_label(traced())
    assert value(metrics, "streamfuse_labels_total", source="door") == 2
    assert value(metrics, "streamfuse_partial_labels_total", source="door") == 1
    assert value(metrics, "streamfuse_dropped_total", source="door", reason="overload") == 3
    stage = {"stage": "analyze", "source": "door"}
    assert value(metrics, "streamfuse_stage_latency_seconds_sum", **stage) == pytest.approx(0.014)
    assert value(metrics, "streamfuse_queue_wait_seconds_sum", **stage) == pytest.approx(0.006)
    assert value(metrics, "streamfuse_e2e_latency_seconds_bucket", source="door", le="0.075") == 2
    assert value(metrics, "streamfuse_e2e_latency_seconds_bucket", source="door", le="0.05") == 0
    assert value(metrics, "streamfuse_input_age_seconds_sum", source="door", modality="audio") == 0.16
    assert value(metrics, "streamfuse_sync_wait_seconds_count", source="door") == 2
    assert value(metrics, "streamfuse_av_skew_seconds_bucket", source="door", le="-0.02") == 2
    assert value(metrics, "streamfuse_av_skew_seconds_bucket", source="door", le="-0.04") == 0


def test_metrics_skew_needs_both_tracks(metrics: Metrics) -> None:
    metrics.observe_label(traced(video="missing"))
    assert value(metrics, "streamfuse_av_skew_seconds_count", source="door") is None


def test_metrics_counters_of_a_restarted_process_only_rise(metrics: Metrics) -> None:
    for total in (5, 9, 9, 2, 4):
        metrics.count_frames("door", "video", total)
        metrics.count_dropped("door", "late_audio", total)
    assert value(metrics, "streamfuse_frames_total", source="door", track="video") == 13
    assert value(metrics, "streamfuse_dropped_total", source="door", reason="late_audio") == 13


def test_metrics_source_gauges_come_and_go(metrics: Metrics) -> None:
    metrics.set_source("door", up=True, lag_ns=250 * MS)
    metrics.observe_label(traced())
    metrics.count_reconnect("door")
    for total, spare in ((0, False), (1, False), (1, True), (1, False), (2, True)):
        metrics.count_restarts("analyze 0", total, spare=spare)
    metrics.set_queue_depth("ticks", "door", 4)
    metrics.set_rss("analyze", 123_456)
    metrics.observe_event(make_event(source="door"))
    metrics.observe_stage("decode", "door", 5 * MS, 1 * MS)
    assert value(metrics, "streamfuse_source_up", source="door") == 1
    assert value(metrics, "streamfuse_source_lag_seconds", source="door") == 0.25
    assert value(metrics, "streamfuse_reconnects_total", source="door") == 1
    assert value(metrics, "streamfuse_process_restarts_total", process="analyze 0") == 3
    assert value(metrics, "streamfuse_queue_depth", queue="ticks", source="door") == 4
    assert value(metrics, "streamfuse_process_resident_memory_bytes", process="analyze") == 123_456
    event = {"source": "door", "head": "scene", "label": "street", "kind": "end"}
    assert value(metrics, "streamfuse_events_total", **event) == 1
    assert value(metrics, "streamfuse_queue_wait_seconds_sum", stage="decode", source="door") == 0.001
    metrics.forget_process("analyze")
    metrics.forget_process("never seen")
    assert value(metrics, "streamfuse_process_resident_memory_bytes", process="analyze") is None
    metrics.forget_source("door")
    metrics.forget_source("never seen")
    assert value(metrics, "streamfuse_source_up", source="door") is None
    assert value(metrics, "streamfuse_labels_total", source="door") == 1


def test_metrics_page_is_read_by_prometheus_own_parser(metrics: Metrics, server: MetricsServer) -> None:
    metrics.set_build({"version": "0.1.0", "device": "cpu"})
    metrics.set_source('do"or\n', up=False)
    metrics.observe_label(traced())
    status, text, kind = get(server, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name in (
        *("stage_latency_seconds", "queue_wait_seconds", "e2e_latency_seconds", "av_skew_seconds"),
        *("source_lag_seconds", "frames", "dropped", "reconnects", "queue_depth", "source_up", "build_info"),
    ):
        assert f"streamfuse_{name}" in families
    assert families["streamfuse_source_up"].samples[0].labels == {"source": 'do"or\n'}
    assert families["streamfuse_build_info"].samples[0].labels == {"version": "0.1.0", "device": "cpu"}


def test_metrics_openmetrics_when_asked(server: MetricsServer) -> None:
    _, text, kind = get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_health_ready_only_when_running_and_ready(metrics: Metrics, server: MetricsServer) -> None:
    assert get(server, "/healthz")[:2] == (200, "ok\n")
    assert get(server, "/readyz")[:2] == (503, "starting\n")
    metrics.set_state("running")
    assert get(server, "/readyz")[:2] == (503, "running\n")
    metrics.set_state("running", ready=True)
    assert get(server, "/readyz?x=1")[:2] == (200, "ready\n")
    metrics.set_state("stopping", ready=True)
    assert get(server, "/readyz")[:2] == (503, "stopping\n")


def test_server_other_paths_and_silence(server: MetricsServer, capfd: pytest.CaptureFixture[str]) -> None:
    assert get(server, "/")[0] == 404
    assert get(server, "/../etc/passwd")[0] == 404
    assert capfd.readouterr() == ("", "")


def test_server_is_on_loopback_and_gives_its_port_back(metrics: Metrics) -> None:
    first = MetricsServer(metrics)
    host, port = first.address
    assert host == "127.0.0.1"
    with pytest.raises(ConfigError, match=rf"the metrics address must be free .* got 127\.0\.0\.1:{port} \("):
        MetricsServer(metrics, port=port)
    first.close()
    second = MetricsServer(metrics, port=port)
    second.close()


def test_server_port_out_of_range(metrics: Metrics) -> None:
    with pytest.raises(ConfigError, match="the metrics address must be free"):
        MetricsServer(metrics, port=70_000)


def test_metrics_are_all_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    described = set(re.findall(r"^\| `(streamfuse_\w+)`", page, re.MULTILINE))
    suffix = {"counter": "_total", "info": "_info"}
    collected = {f"{family.name}{suffix.get(family.type, '')}" for family in Metrics().registry.collect()}
    assert collected == described
