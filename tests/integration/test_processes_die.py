"""Processes of a run that are killed, stopped or hang: noticed, replaced, and felt by nobody else."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.integration.live import DEADLINE_S, LiveRun, check_order

SOURCES = {
    "left": "lavfi:testsrc2=size=160x120:rate=10;sine=frequency=440",
    "right": "lavfi:smptebars=size=160x120:rate=10;sine=frequency=880",
}
AILMENTS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "hung": signal.SIGUSR1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels")


@pytest.fixture(scope="module")
def run(meter: Path, folder: Path) -> Iterator[LiveRun]:
    with LiveRun(SOURCES, "-o", str(folder), model=meter, metrics=True) as running:
        for name in SOURCES:
            running.until(lambda n=name: len(running.labels(n)) > 5, f"labels of {name}")
        yield running


def test_metrics_health_and_readiness(run: LiveRun) -> None:
    assert run.get("/healthz") == (200, "ok\n")
    assert run.get("/readyz") == (200, "ready\n")
    for name in SOURCES:
        run.until(lambda n=name: run.metric("streamfuse_labels_total", source=n), f"labels of {name} counted")
        assert run.metric("streamfuse_source_up", source=name) == 1
    assert run.get("/elsewhere")[0] == 404


@pytest.mark.parametrize("ailment", AILMENTS)
def test_decode_process_is_replaced_and_the_other_source_goes_on(run: LiveRun, ailment: str) -> None:
    session, mark, began_ns = run.session("left"), len(run.lines), SYSTEM.monotonic_ns()
    other = run.session("right")
    patient = run.child("decode", "left")
    patient.send_signal(AILMENTS[ailment])
    back_ns = run.until(lambda: run.first_label_ns("left", mark, session), "labels of left again")
    print(f"decode {ailment}: labels again after {(back_ns - began_ns) / NS:.2f} s")
    assert not patient.is_running()
    run.until(lambda: len(run.labels("right", after=mark)) > 3, "labels of right")
    assert run.session("right") == other


@pytest.mark.parametrize("ailment", AILMENTS)
@pytest.mark.parametrize("service", ["analyze", "publish"])
def test_shared_process_is_replaced_and_every_source_goes_on(
    run: LiveRun, service: str, ailment: str
) -> None:
    sessions, mark, began_ns = {n: run.session(n) for n in SOURCES}, len(run.lines), SYSTEM.monotonic_ns()
    patient, readers = run.child(service), {name: run.child("decode", name) for name in SOURCES}
    patient.send_signal(AILMENTS[ailment])
    for name in SOURCES:
        back_ns = run.until(
            lambda n=name: run.first_label_ns(n, mark, sessions[n]), f"labels of {name} again"
        )
        print(f"{service} {ailment}: labels of {name} again after {(back_ns - began_ns) / NS:.2f} s")
    assert not patient.is_running()
    assert all(reader.is_running() for reader in readers.values())


def test_nothing_was_written_twice_and_time_never_fell_back(run: LiveRun, folder: Path) -> None:
    """In the files: a screen may miss labels until it has found the publisher that follows one that died."""
    for name in SOURCES:
        seen = len(run.labels(name))
        lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        labels = [line for line in lines if line["schema"].startswith("streamfuse.label/")]
        assert len(labels) >= seen > 0
        check_order(labels)


def test_supervisor_killed_takes_its_children_along_and_the_next_run_goes_on(
    run: LiveRun, meter: Path
) -> None:
    """The last of this module: it ends the run."""
    children, sessions = run.children(), {name: run.session(name) for name in SOURCES}
    assert len(children) >= 4
    run.process.kill()
    _, left = psutil.wait_procs(children, timeout=DEADLINE_S)
    assert not left
    sockets = list(run.run_dir.glob("*.sock"))
    assert sockets  # nobody was there to remove them
    with LiveRun(SOURCES, model=meter, run_dir=run.run_dir) as again:
        for name in SOURCES:
            again.until(lambda n=name: len(again.labels(n)) > 3, f"labels of {name}")
            assert min(line["session"] for line in again.labels(name)) > sessions[name]
        assert again.stop() == 0, again.said()
        assert again.complaints() == []
