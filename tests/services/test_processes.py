"""The three services as real processes over real sockets."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from streamfuse.config import DecodeConfig, LabelConfig, SourceConfig
from streamfuse.labels.lines import label_line
from streamfuse.media.source import parse_source
from streamfuse.model.runtime import load_model
from streamfuse.pipeline.recorded import process_source
from streamfuse.services.process import DECODE_MEMORY
from streamfuse.sinks import open_file_sinks
from streamfuse.types import Label
from tests.clips import Clip
from tests.services.run import Run, a_run

SUFFIXES = (".labels.jsonl", ".events.jsonl", ".vtt")
LIVELY = LabelConfig(enter=0.34, leave=0.2, min_dwell_s=0.2)
"""Thresholds at which an untrained network's scores make events."""
PATTERN = "lavfi:testsrc2=size=320x240:rate=25;sine=frequency=440"


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "plain": Clip(seconds=3.0).write(folder / "plain.mp4"),
        "silent": Clip(seconds=2.0, audio=None, fps=12).write(folder / "silent.mkv"),
        "late": Clip(seconds=3.0, audio_start=1.3, container="mpegts").write(folder / "late.ts"),
    }


def inline(path: Path, name: str, model: Path, base: Path, run: Run) -> None:
    """The same recording in this process, as `--inline` does it."""
    source = parse_source(str(path))
    loaded = load_model(model, device="cpu")
    config = run.config.of(name)
    sinks = open_file_sinks(config, base, source=source, model=loaded.spec)
    with process_source(source, loaded, config, name=name) as processing:
        for told in processing:
            for sink in sinks:
                if isinstance(told, Label):
                    sink.write_label(told)
                else:
                    sink.write_event(told)
    for sink in sinks:
        sink.close(complete=True)


def test_recordings_through_the_processes_give_the_bytes_of_inline(
    clips: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    sources = {
        name: SourceConfig(input=str(path), output=str(tmp_path / "out" / name))
        for name, path in clips.items()
    }
    own = LabelConfig(smoothing_s=0, raw=True, min_dwell_s=0)
    sources["silent"] = sources["silent"].model_copy(update={"labels": own})
    with a_run("recorded", tiny_model, sources, labels=LIVELY) as run:
        run.start_all()
        assert run.code("publish") == 0, run.said()
        for name in clips:
            assert run.code(f"decode {name}") == 0, run.said()
        run.processes["analyze 0"].send_signal(signal.SIGTERM)
        assert run.code("analyze 0") == 0
        for name, path in clips.items():
            inline(path, name, tiny_model, tmp_path / "inline" / name, run)
            for suffix in SUFFIXES:
                ours = (tmp_path / "out" / f"{name}{suffix}").read_bytes()
                assert ours == (tmp_path / "inline" / f"{name}{suffix}").read_bytes(), f"{name}{suffix}"
                assert ours
            result = run.result(name)
            assert (result["status"], result["result"]["truncated"]) == ("done", False)
            assert result["outputs"] == [f"{name}{suffix}" for suffix in SUFFIXES]
            lines = (tmp_path / "out" / f"{name}.labels.jsonl").read_text().splitlines()
            assert result["result"]["ticks"] == len(lines)
            assert all(('"raw":' in line) == (name == "silent") for line in lines), name


def test_recording_begins_anew_after_its_analyzer_was_killed(tiny_model: Path, tmp_path: Path) -> None:
    path = Clip(seconds=24.0, fps=10).write(tmp_path / "long.mp4")
    sources = {"long": SourceConfig(input=str(path), output=str(tmp_path / "out" / "long"))}
    with a_run("recorded", tiny_model, sources, labels=LIVELY) as run:
        run.start_all()
        run.until(lambda: len(run.labels) > 20, "labels come")
        run.kill("analyze 0")
        run.start("analyze", "0")
        assert run.code("decode long") == 1
        assert "one analyzer must see a recording through" in run.error("decode long")
        run.start("decode", "long")
        assert run.code("publish") == 0
        inline(path, "long", tiny_model, tmp_path / "inline" / "long", run)
        for suffix in SUFFIXES:
            ours = (tmp_path / "out" / f"long{suffix}").read_bytes()
            assert ours == (tmp_path / "inline" / f"long{suffix}").read_bytes(), suffix


def test_recording_that_cannot_be_read_is_refused_and_the_others_are_done(
    clips: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("this is no film")
    sources = {
        "text": SourceConfig(input=str(tmp_path / "text.mp4"), output=str(tmp_path / "text")),
        "silent": SourceConfig(input=str(clips["silent"]), output=str(tmp_path / "silent")),
    }
    with a_run("recorded", tiny_model, sources) as run:
        run.start_all()
        assert run.code("decode text") == 4
        assert run.code("decode silent") == 0
        assert run.code("publish") == 0
        assert run.result("text")["status"] == "failed"
        assert run.result("silent")["status"] == "done"
        assert run.reports["decode text"].state == "refused"
        (line,) = [x for x in run.error("decode text").splitlines() if x.startswith("streamfuse: ")]
        assert run.reports["decode text"].error in line
        assert not (tmp_path / "text.labels.jsonl").exists()


def test_live_labels_count_on_without_a_gap_and_carry_their_age(tiny_model: Path) -> None:
    with a_run("live", tiny_model, {"cam": SourceConfig(input=PATTERN)}) as run:
        run.start_all()
        run.until(lambda: len(run.labels) >= 30, "labels come")
        for title in ("decode cam", "analyze 0", "publish"):
            run.processes[title].send_signal(signal.SIGTERM)
        for title in ("decode cam", "analyze 0", "publish"):
            assert run.code(title) == 0, run.said()
        run.until(lambda: {r.state for r in run.reports.values()} == {"done"}, "the last reports come")
    heads = [label.head for label in run.labels]
    for before, after in pairwise(heads):
        assert after.session == before.session
        assert after.index == before.index + 1 + after.dropped
    for label in run.labels:
        assert label.time is not None
        assert label.latency is not None
        parts = [v for k, v in label.latency.items() if "." in k]
        assert sum(parts) == label.latency["edge_age"]
        assert label.latency["edge_age"] > 0
    report = run.reports["decode cam"]
    c = report.counters
    assert c["link_produced"] == c["ticks"]
    assert c["link_produced"] == c["link_done"] + c["link_dropped"] + c["link_lost"]
    analysed = run.reports["analyze 0"].counters
    assert analysed["analysed"] == c["link_done"] == run.reports["publish"].counters["labels"]
    assert report.state == "done"


@pytest.fixture(scope="module")
def live(tiny_model: Path) -> Iterator[Run]:
    """A run of one camera that the tests below hurt in turn; each leaves it running."""
    with a_run("live", tiny_model, {"cam": SourceConfig(input=PATTERN)}) as run:
        run.start_all()
        yield run


def goes_on(run: Run, count: int = 5) -> int:
    """Wait for more labels; return the session of the last."""
    run.labels.clear()
    run.until(lambda: len(run.labels) >= count, "labels come")
    return run.labels[-1].head.session


def test_live_run_goes_on_in_a_new_session_when_the_warm_spare_takes_over(live: Run) -> None:
    first = goes_on(live)
    live.start("analyze", "0", standby=True)
    live.until(lambda: live.state("analyze 0") == "standby", "the spare is warm")
    before_ns = live.labels[-1].head.start_ns
    live.kill("analyze 0")
    live.until(lambda: live.labels[-1].head.session > first, "labels go on")
    later = next(label.head for label in live.labels if label.head.session > first)
    assert later.index == 0
    assert later.start_ns > before_ns
    assert later.dropped > 0
    assert live.processes["decode cam"].poll() is None


def test_live_run_goes_on_in_a_new_session_after_its_publisher_was_killed(live: Run) -> None:
    first = goes_on(live)
    live.kill("publish")
    live.start("publish")
    live.until(lambda: live.labels[-1].head.session > first, "labels go on")
    assert live.processes["decode cam"].poll() is None
    assert live.processes["analyze 0 spare"].poll() is None


def test_session_numbers_rise_over_restarts_of_the_decoder(live: Run) -> None:
    sessions = [goes_on(live)]
    for _ in range(3):
        live.kill("decode cam")
        live.look()
        live.start("decode", "cam")
        sessions.append(goes_on(live))
    assert sessions == sorted(set(sessions))


def test_source_that_begins_anew_has_its_labels_made_as_it_is_configured_now(live: Run) -> None:
    """Also where the process that read it was killed, so that it could not say that it ends."""
    first = goes_on(live)
    assert '"raw":' not in live.lines("cam")[-1]
    live.kill("decode cam")
    own = {"cam": SourceConfig(input=PATTERN, labels=LabelConfig(raw=True))}
    file, was = live.folder / "run.json", live.config.model_dump_json()
    file.write_text(live.config.model_copy(update={"sources": own}).model_dump_json())
    live.start("decode", "cam")
    live.until(lambda: live.labels[-1].head.session > first, "labels go on")
    again = [label_line(label) for label in live.labels if label.head.session > first]
    assert again
    assert all('"raw":' in line for line in again)
    file.write_text(was)


@pytest.mark.parametrize(("service", "name"), [("publish", ""), ("analyze", "0"), ("decode", "cam")])
def test_second_process_for_the_same_place_is_refused_at_once(live: Run, service: str, name: str) -> None:
    goes_on(live)
    title = f"{service} {name}".strip()
    first = live.processes[title]
    second = live.start(service, name)
    assert live.code(title) == 5, live.said()
    assert "one process at a time may bind an address" in live.error(title)
    live.processes[title], live.processes[f"second {title}"] = first, second
    goes_on(live)


def test_decode_process_is_confined_and_the_run_directory_is_its_owners_alone(live: Run) -> None:
    goes_on(live)
    proc = Path(f"/proc/{live.processes['decode cam'].pid}")
    assert "NoNewPrivs:\t1" in (proc / "status").read_text()
    limits = {line[:26].strip(): line[26:].split() for line in (proc / "limits").read_text().splitlines()}
    assert limits["Max open files"][:2] == ["256", "256"]
    assert limits["Max core file size"][:2] == ["0", "0"]
    assert int(limits["Max address space"][0]) <= 4 << 30
    assert "libtorch" not in (proc / "maps").read_text()
    for path in live.folder.rglob("*"):
        assert not stat.S_IMODE(path.lstat().st_mode) & 0o077, path


@pytest.mark.parametrize("hwaccel", ["none", "cuda"])
@pytest.mark.parametrize("mode", ["recorded", "live"])
def test_addresses_are_limited_but_for_a_process_that_decodes_on_a_gpu(
    clips: dict[str, Path], tiny_model: Path, tmp_path: Path, mode: str, hwaccel: str
) -> None:
    """CUDA reserves more of them than the GPU has memory; every other limit stays."""
    own = DecodeConfig(hwaccel=hwaccel, hwaccel_fallback=True)
    path, output = (PATTERN, None) if mode == "live" else (str(clips["plain"]), str(tmp_path / "cam"))
    with a_run(mode, tiny_model, {"cam": SourceConfig(input=path, output=output, decode=own)}) as run:
        run.start("decode", "cam")
        proc = Path(f"/proc/{run.processes['decode cam'].pid}")
        run.until(lambda: run.state("decode cam") not in ("", "starting"), "it has begun")
        limits = {line[:26].strip(): line[26:].split() for line in (proc / "limits").read_text().splitlines()}
        assert limits["Max address space"][0] == ("unlimited" if hwaccel == "cuda" else str(DECODE_MEMORY))
        assert limits["Max open files"][:2] == ["256", "256"]
        assert limits["Max core file size"][:2] == ["0", "0"]
        assert limits["Max cpu time"][0] != "unlimited"
        assert "NoNewPrivs:\t1" in (proc / "status").read_text()


def test_services_die_with_their_supervisor(live: Run) -> None:
    """The one that starts it is killed; nothing asks the service to end but the kernel."""
    code = (
        "import subprocess, sys; from streamfuse.services.process import command, environment;"
        "from pathlib import Path;"
        "p = subprocess.Popen(command('analyze', Path(sys.argv[1]), '0', standby=True), env=environment(),"
        "start_new_session=True); print(p.pid, flush=True); p.wait()"
    )
    argv = [sys.executable, "-c", code, str(live.folder / "run.json")]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    service = os.pidfd_open(int(parent.stdout.readline()))
    live.until(lambda: live.state("analyze 0") == "standby", "the service has begun")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    live.until(lambda: select.select([service], [], [], 0)[0], "the service is dead")
    os.close(service)


@pytest.mark.parametrize("service", ["publish", "analyze", "decode"])
def test_model_that_is_none_is_exit_3(service: str, tmp_path: Path) -> None:
    (tmp_path / "bad.ts").write_bytes(b"no model")
    with a_run("live", tmp_path / "bad.ts", {"cam": SourceConfig(input=PATTERN)}) as run:
        name = {"publish": "", "analyze": "0", "decode": "cam"}[service]
        run.start(service, name)
        title = f"{service} {name}".strip()
        assert run.code(title) == 3, run.said()


def test_config_that_is_none_is_exit_2_and_quotes_no_value(tiny_model: Path) -> None:
    with a_run("live", tiny_model, {"cam": SourceConfig(input=PATTERN)}) as run:
        path = run.folder / "run.json"
        path.write_text(path.read_text().replace('"loop":false', '"loop":"s3cret"'))
        run.start("decode", "cam")
        assert run.code("decode cam") == 2
        error = run.error("decode cam")
        assert "sources.cam.loop" in error
        assert "s3cret" not in error
        assert "Traceback" not in error
