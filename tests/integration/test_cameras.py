"""Two real RTSP cameras, one of them behind a network that breaks in every way; the other must not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streamfuse.cli.measure import Plan, measure
from streamfuse.clock import SYSTEM
from streamfuse.config import AppConfig, ModelConfig
from streamfuse.trace import latency_parts
from streamfuse.types import NS
from tests.integration.conftest import Camera, StartCamera
from tests.integration.live import Line, LiveRun, check_order
from tests.integration.proxy import Proxy

OPTIONS = ("--set", "decode.open_timeout_s=2", "--set", "decode.read_timeout_s=2")
VIDEO = ("--fps", "15", "--size", "320x240")
SOURCES = ("steady", "shaky", "datagrams")


@dataclass
class Scene:
    """The run, what stands between it and its second camera, and how long each return took."""

    run: LiveRun
    proxy: Proxy
    start_camera: StartCamera
    camera: Camera
    reconnects: dict[str, float]
    """Before anything was done to them: a busy machine may need a second try to begin."""
    times: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scene(start_camera: StartCamera, meter: Path) -> Iterator[Scene]:
    steady, shaky = start_camera(*VIDEO), start_camera(*VIDEO)
    with Proxy(shaky.port) as proxy:
        sources = {
            "steady": steady.url,
            "shaky": f"rtsp://127.0.0.1:{proxy.port}/cam",
            "datagrams": steady.url.replace("rtsp:", "rtsp+udp:"),
        }
        with LiveRun(sources, *OPTIONS, model=meter, metrics=True) as run:
            for name in sources:
                run.until(lambda n=name: len(run.labels(n)) > 5, f"labels of {name}")
            reconnects = {
                name: run.metric("streamfuse_reconnects_total", source=name) or 0 for name in sources
            }
            yield Scene(run, proxy, start_camera, shaky, reconnects)


def test_cameras_are_seen_and_heard(scene: Scene) -> None:
    def both(line: Line) -> bool:
        return line["modalities"] == {"video": "ok", "audio": "ok"}

    for name in SOURCES:
        scene.run.until(lambda n=name: any(map(both, scene.run.labels(n))), f"picture and sound of {name}")
    assert scene.run.get("/readyz") == (200, "ready\n")


def test_senders_clock_gives_transport_beside_the_age(start_camera: StartCamera, meter: Path) -> None:
    """RTCP sender reports say when a picture was sent: told apart, and no part of any age."""
    plan = Plan(start_camera(*VIDEO).url, 6 * NS, NS)
    measured = measure(plan, AppConfig(model=ModelConfig(path=str(meter), device="cpu")))
    (stream,) = measured.report.streams
    assert stream.transport_ms is not None and stream.transport_ms.n > 0
    assert stream.transport_ms.min > 0, "one machine, one clock: nothing arrives before it was sent"
    for answer in measured.recording.answers[stream.source]:
        parts = latency_parts(answer.head.trace, answer.publish_ns)
        assert sum(parts.values()) == answer.edge_age_ns == answer.publish_ns - answer.arrival_ns
        assert not any("transport" in name for name in parts)


def pull_the_plug(scene: Scene) -> None:
    scene.camera.kill()


def plug_in_again(scene: Scene) -> None:
    port = str(scene.camera.port)
    scene.camera = scene.start_camera(*VIDEO, "--port", port)


FAULTS: dict[str, tuple[Callable[[Scene], None], Callable[[Scene], None]]] = {
    "stalled": (lambda s: s.proxy.stall(), lambda s: s.proxy.heal()),
    "trickling": (lambda s: s.proxy.trickle(5), lambda s: s.proxy.heal()),
    "cut": (lambda s: s.proxy.cut(), lambda s: s.proxy.heal()),
    "reset": (lambda s: s.proxy.reset(), lambda s: s.proxy.heal()),
    "switched off": (pull_the_plug, plug_in_again),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_camera_comes_back_in_a_new_session(scene: Scene, fault: str) -> None:
    run, (break_it, heal_it) = scene.run, FAULTS[fault]
    session, reconnects = run.session("shaky"), run.metric("streamfuse_reconnects_total", source="shaky")
    assert reconnects is not None
    break_it(scene)
    run.until(lambda: run.metric("streamfuse_source_up", source="shaky") == 0, "the loss is noticed")
    heal_it(scene)
    mark, healed_ns = len(run.lines), SYSTEM.monotonic_ns()
    back_ns = run.until(lambda: run.first_label_ns("shaky", mark, session), "labels again")
    scene.times[fault] = (back_ns - healed_ns) / NS
    run.until(
        lambda: (run.metric("streamfuse_reconnects_total", source="shaky") or 0) > reconnects,
        "the reconnect is counted",
    )
    run.until(lambda: run.metric("streamfuse_source_up", source="shaky") == 1, "the source is up")


def test_other_cameras_have_not_noticed_and_every_tick_is_accounted_for(scene: Scene) -> None:
    """The last of this module: it ends the run."""
    run = scene.run
    assert run.stop() == 0, run.said()
    print("seconds to the first label again:", {k: round(v, 2) for k, v in scene.times.items()})
    for name in SOURCES:
        check_order(run.labels(name))
    for name in set(SOURCES) - {"shaky"}:
        assert len({line["session"] for line in run.labels(name)}) == 1
        assert run.counters("decode", name).get("reconnects", 0) == scene.reconnects[name]
    done = 0
    for name in SOURCES:
        link = run.counters("decode", name)
        assert link["ticks"] == link["link_produced"]
        assert link["link_produced"] == link["link_done"] + link["link_dropped"] + link["link_lost"]
        # The last drops may have had no label after them to tell of them.
        told = sum(line["dropped"] for line in run.labels(name))
        assert link["link_done"] == len(run.labels(name))
        assert told <= link["link_dropped"]
        done += link["link_done"]
    analyzed = run.counters("analyze")
    assert analyzed["analysed"] == done == analyzed["link_produced"]
    assert analyzed["link_produced"] == (
        analyzed["link_done"] + analyzed["link_dropped"] + analyzed["link_lost"]
    )
    assert run.counters("publish")["labels"] == analyzed["link_done"]
    # Each loss is told once, in one line, and nothing else is said.
    assert all("decode shaky" in line for line in run.complaints()), run.complaints()
