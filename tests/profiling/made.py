"""A recording made by hand: answers whose ages are known, processes whose use is known."""

from __future__ import annotations

from collections.abc import Sequence

from streamfuse.profiling.environment import Environment
from streamfuse.profiling.floor import Floor
from streamfuse.profiling.recording import Recording
from streamfuse.profiling.report import build_report
from streamfuse.profiling.schema import Rate, Report
from streamfuse.trace import latency
from streamfuse.types import MS, NS, HeadLabel, Label, Stamp, TickHead, Trace
from streamfuse.wire.headers import Progress

HOP_NS = 100 * MS
BEGIN_NS = 1000 * NS

FLOOR = Floor(hop_ms=100, mean_wait_ms=50, window_ms=100, mfcc_window_ms=32, late_track_ms=None, heads=())
ENVIRONMENT = Environment(
    streamfuse="0", python="3", system="here", cpu="one", cores=2, cores_allowed=2, memory_bytes=1, gpu=None,
    gpu_driver=None, device="cpu", threads=1, clock="CLOCK_MONOTONIC", ffmpeg="FFmpeg", packages={},
    config_sha256="c" * 64, model="made", model_sha256="a" * 64, load_1min=0.5,
)  # fmt: skip


def made_label(
    tick: int, age_ns: int, *, source: str = "door", session: int = 0, dropped: int = 0, scene: str = "street"
) -> Label:
    """Tick `tick`, arrived on time, published age_ns later: 1/4 decoding, 1/4 on its way, 1/2 analysis."""
    arrival = BEGIN_NS + (tick + 1) * HOP_NS
    quarter = age_ns // 4
    stamps = (
        Stamp("decode_video", arrival, arrival, arrival + quarter),
        Stamp("decode", arrival, arrival, arrival + quarter),
        Stamp("analyze", arrival + 2 * quarter, arrival + 2 * quarter, arrival + age_ns),
        Stamp("publish", arrival + age_ns, arrival + age_ns, arrival + age_ns),
    )
    trace = Trace(arrival, arrival - 1, stamps)
    head = TickHead(source, session, tick, 0, HOP_NS, "ok", "ok", dropped=dropped, trace=trace)
    heads = {"scene": HeadLabel(scene, 0.9, None, ((scene, 0.9),))}
    return Label(head, heads, {"video": "ok", "audio": "ok"}, True, None, latency(head))


def progress(
    service: str, name: str, pid: int, cpu_s: float, *, state: str = "running", **counters: int
) -> Progress:
    gauges = {"cpu_ns": round(cpu_s * NS), "rss_bytes": 100_000_000, "waiting": 1, "under_way": 1}
    return Progress(
        v=1, source=name, seq=0, service=service, pid=pid, counter=1, allowance_ms=0,  # type: ignore[arg-type]
        state=state, counters=counters, gauges=gauges,  # type: ignore[arg-type]
    )  # fmt: skip


def made_recording(
    ages_ns: Sequence[int], *, sources: Sequence[str] = ("door",), cores: float = 0.5
) -> Recording:
    """Every source with these ages, one tick after the other, and three processes."""
    made = Recording()
    made.begin_ns, made.end_ns = BEGIN_NS, BEGIN_NS + len(ages_ns) * HOP_NS + NS
    for source in sources:
        for tick, age_ns in enumerate(ages_ns):
            made.on_label(made_label(tick, age_ns, source=source))
    half_seconds = 2 * (made.end_ns - made.begin_ns) // NS
    for i in range(half_seconds + 1):
        at_ns = BEGIN_NS + i * NS // 2
        made.on_progress(progress("analyze", "0", 11, i / 2 * cores), at_ns)
        made.on_progress(progress("publish", "publish", 12, 0.0), at_ns)
        for pid, source in enumerate(sources, start=20):
            made.on_progress(progress("decode", source, pid, i / 2 * 0.1), at_ns)
    return made


def made_report(recording: Recording, rate: Rate = "paced") -> Report:
    return build_report(
        recording,
        source="door.mp4",
        rate=rate,
        created="2026-01-02T03:04:05.678Z",
        warm_up_s=3.0,
        hop_ns=HOP_NS,
        floor=FLOOR,
        environment=ENVIRONMENT,
    )
