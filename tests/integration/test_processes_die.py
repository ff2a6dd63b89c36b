"""Processes of a run that are killed, stopped or hang: noticed, replaced, and felt by nobody else."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamfuse.clock import SYSTEM
from streamfuse.types import NS
from tests.faults.killer import wait_until_dead
from tests.integration.live import Line, LiveRun, check_order

SOURCES = {
    "left": "lavfi:testsrc2=size=160x120:rate=10;sine=frequency=440",
    "right": "lavfi:smptebars=size=160x120:rate=10;sine=frequency=880",
}
CHILDREN_GONE_S = 5.0
"""The kernel ends them with their parent, within a second; the rest is for a machine with other work."""
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
    for name in SOURCES:  # long enough for an event to begin
        run.until(lambda n=name: run.labels(n)[-1]["tick"] > 10, f"a second of {name}")
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


def test_restarts_are_counted_also_those_before_the_last_publish(run: LiveRun) -> None:
    def counted(process: str) -> bool:
        count = run.metric("streamfuse_process_restarts_total", process=process)
        return count is not None and count >= len(AILMENTS)

    for process in ("decode left", "analyze 0", "publish publish"):
        run.until(lambda p=process: counted(p), f"the restarts of {process}")


def written(folder: Path, name: str, kind: str) -> list[Line]:
    """The lines of a source's file that are labels, or events."""
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [line for line in lines if line["schema"].startswith(f"streamfuse.{kind}/")]


def test_nothing_was_written_twice_and_time_never_fell_back(run: LiveRun, folder: Path) -> None:
    for name in SOURCES:
        shown = len(run.labels(name))  # before the file is read: the run goes on
        labels = written(folder, name, "label")
        assert len(labels) >= shown > 0
        check_order(labels)


def test_screen_showed_every_label_or_said_how_many_it_missed(run: LiveRun, folder: Path) -> None:
    """It loses those that came before it was connected to a new publisher, which it tells, and those that
    the old one took with it unsent: the last of their session."""
    told = Counter[str]()
    for line in run.complaints():
        if (match := re.fullmatch(r"streamfuse: (\w+): (\d+) labels? not shown here: .*", line)) is not None:
            told[match[1]] += int(match[2])
    for name in SOURCES:
        shown = [(line["session"], line["tick"]) for line in run.labels(name)]
        assert shown == sorted(set(shown))
        last = dict(shown)
        mark = shown[-1]
        all_of_them = [(line["session"], line["tick"]) for line in written(folder, name, "label")]
        assert set(shown) <= set(all_of_them)
        missed = [place for place in all_of_them if place not in set(shown) and place < mark]
        tails = [(session, tick) for session, tick in missed if tick > last.get(session, -1)]
        assert len(missed) - len(tails) <= told[name] <= len(missed), (missed, tails, run.complaints())


def reserves(run: LiveRun) -> list[psutil.Process]:
    return run.named("streamfuse.services.reserve")


@pytest.mark.parametrize(("service", "name"), [("decode", "left"), ("publish", "")])
def test_reserve_takes_the_place_of_one_that_dies_and_another_stands_by(
    run: LiveRun, service: str, name: str
) -> None:
    (reserve,) = run.until(lambda: reserves(run), "a reserve")
    for source in SOURCES:
        run.until(lambda n=source: run.labels(n)[-1]["tick"] > 10, f"a second of {source}")
    session, mark, began_ns = run.session("left"), len(run.lines), SYSTEM.monotonic_ns()
    run.child(service, name).kill()
    others = {} if service == "decode" else {"right": run.session("right")}
    back_ns = run.until(lambda: run.first_label_ns("left", mark, session), "labels of left again")
    print(f"{service} killed: labels again after {(back_ns - began_ns) / NS:.2f} s, from the reserve")
    for other, before in others.items():
        run.until(lambda n=other, s=before: run.first_label_ns(n, mark, s), f"labels of {other} again")
    assert run.child(service, name).pid == reserve.pid
    assert all(reserve.pid != other.pid for other in run.until(lambda: reserves(run), "another reserve"))


def test_one_from_the_reserve_is_as_one_that_was_started(run: LiveRun) -> None:
    """What the kernel shows of it: the other decode process was started as any."""
    ours, other = (Path(f"/proc/{run.child('decode', name).pid}") for name in ("left", "right"))
    for name in ("comm", "limits"):
        lines = [
            [x for x in (proc / name).read_text().splitlines() if "cpu time" not in x]
            for proc in (ours, other)
        ]
        assert lines[0] == lines[1]
    assert (ours / "fd/0").readlink() == (other / "fd/0").readlink() == Path("/dev/null")
    # 1 and 2 belong to logs of their own; 2 is a pipe to the guard over it.
    assert (ours / "fd/1").readlink() == run.run_dir / "logs" / "decode-left.log"
    status = [dict(x.split(":", 1) for x in (p / "status").read_text().splitlines()) for p in (ours, other)]
    for name in ("Umask", "NoNewPrivs", "SigIgn", "SigCgt", "SigBlk"):
        assert status[0][name] == status[1][name], name
    words = [(proc / "cmdline").read_text().replace("\0", " ").strip() for proc in (ours, other)]
    assert words[0] == words[1].replace("--source right", "--source left")


def test_every_event_that_began_has_ended_or_goes_on(run: LiveRun, folder: Path) -> None:
    """Also those that were open when publish died; the meter model always says something."""
    for name in SOURCES:
        going_on: dict[tuple[str, str], int] = {}
        events = written(folder, name, "event")
        assert len({event["session"] for event in events}) > len(AILMENTS)
        for event in events:
            place = (event["head"], event["label"])
            if event["kind"] == "new":
                assert place not in going_on, (event, "began twice")
                going_on[place] = event["session"]
            else:
                assert going_on.pop(place) == event["session"], event
                assert event["end_s"] > event["start_s"]
        assert set(going_on.values()) <= {run.session(name)}, "what is open began in the session that goes on"


def test_child_that_is_still_loading_dies_with_its_supervisor(meter: Path) -> None:
    """It is stopped between two of its imports, so that it cannot end by itself."""
    with LiveRun({"left": SOURCES["left"]}, model=meter) as early:

        def loading() -> psutil.Process | None:
            for child in early.children():
                maps = Path(f"/proc/{child.pid}/maps")
                if "streamfuse.services.analyze" in " ".join(child.cmdline()) and "numpy" in maps.read_text():
                    return child
            return None

        child = early.until(loading, "an analyze process that has begun to load")
        child.suspend()
        early.process.kill()
        assert not wait_until_dead([child], CHILDREN_GONE_S)


def test_supervisor_killed_takes_its_children_along_and_the_next_run_goes_on(
    run: LiveRun, meter: Path
) -> None:
    """The last of this module: it ends the run."""
    children, sessions = run.children(), {name: run.session(name) for name in SOURCES}
    assert len(children) >= 4
    began_ns = SYSTEM.monotonic_ns()
    run.process.kill()
    assert not wait_until_dead(children, CHILDREN_GONE_S), f"still there after {CHILDREN_GONE_S} s"
    print(f"supervisor killed: its children are gone after {(SYSTEM.monotonic_ns() - began_ns) / NS:.2f} s")
    sockets = list(run.run_dir.glob("*.sock"))
    assert sockets  # nobody was there to remove them
    with LiveRun(SOURCES, model=meter, run_dir=run.run_dir) as again:
        for name in SOURCES:
            again.until(lambda n=name: len(again.labels(n)) > 3, f"labels of {name}")
            assert min(line["session"] for line in again.labels(name)) > sessions[name]
        assert again.stop() == 0, again.said()
        assert again.complaints() == []
