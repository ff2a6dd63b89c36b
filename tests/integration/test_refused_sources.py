"""Sources that will never work are told once, in one line, without their password; the others go on."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import StartCamera
from tests.integration.live import LiveRun
from tests.ports import free_port

SECRETS = ("s3cr%40t-word", "s3cr@t-word", "tok3n-of-mine")
"""As it stands in the URL, and as it is."""
GOOD = "lavfi:testsrc2=size=160x120:rate=10"


@pytest.fixture(scope="module")
def run(
    start_camera: StartCamera, meter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveRun]:
    """Every bad source beside a good one; the passwords come in by a file, as they should."""
    camera = start_camera("--fps", "10", "--size", "160x120", "--user", "admin", "--password", "right")
    password = SECRETS[0]
    sources = {
        "good": GOOD,
        "welcome": f"rtsp://admin:right@127.0.0.1:{camera.port}/cam",
        "password": f"rtsp://admin:{password}@127.0.0.1:{camera.port}/cam",
        "scheme": f"gopher://admin:{password}@127.0.0.1/cam",
        "away": f"rtsp://admin:{password}@127.0.0.1:{free_port()}/cam?token={SECRETS[2]}",
        "file": "/nonexistent/film.mp4",
    }
    folder = tmp_path_factory.mktemp("config")
    file = folder / "live.yaml"
    text = json.dumps({"sources": {name: {"input": source} for name, source in sources.items()}})
    file.write_text(text)
    options = ("-c", str(file), "-o", str(folder / "out"), "--set", "decode.open_timeout_s=3")
    with LiveRun({}, *options, model=meter, metrics=True) as running:
        running.until(lambda: running.labels("good"), "labels of good")
        running.until(lambda: running.labels("welcome"), "labels of welcome")
        yield running


REFUSED = {
    "password": "the server must accept our user and password",
    "scheme": "a URL's scheme must be",
    "file": "a source must exist",
}


@pytest.mark.parametrize("name", REFUSED)
def test_source_that_will_never_work_is_told_once(run: LiveRun, name: str) -> None:
    def told() -> list[str]:
        return [line for line in run.complaints() if f"decode {name}: " in line]

    run.until(told, f"the refusal of {name}")
    mark = len(run.lines)
    run.until(lambda: len(run.labels("good", after=mark)) > 10, "the good one goes on")
    (line,) = told()
    assert REFUSED[name] in line
    assert not run.named(f"--source {name}")


def test_camera_that_is_away_is_tried_again(run: LiveRun) -> None:
    run.until(lambda: (run.metric("streamfuse_reconnects_total", source="away") or 0) >= 2, "two more tries")
    assert run.metric("streamfuse_source_up", source="away") == 0
    assert run.child("decode", "away").is_running()


def test_no_password_is_anywhere(run: LiveRun) -> None:
    """The last of this module: it ends the run."""
    _, page = run.get("/metrics")
    argv, environment = [], []
    for child in run.children():
        with suppress(psutil.Error):  # one that is just ending shows nothing
            argv.append(" ".join(child.cmdline()))
            environment.append("\n".join(f"{k}={v}" for k, v in child.environ().items()))
    assert len(environment) > 3
    assert run.stop() == 0
    places = {"metrics": page, "argv": "\n".join(argv), "environment": "\n".join(environment)}
    places["stdout"] = json.dumps(run.lines)
    files = [p for p in [*run.folder.rglob("*"), *_output(run).rglob("*")] if p.is_file()]
    for path in files:
        if path.name != "run.json":  # what the processes are told: its owner's alone
            places[str(path)] = path.read_text(errors="replace")
    assert len(files) > 10
    for place, text in places.items():
        for secret in (*SECRETS, "admin:right"):
            assert secret not in text, f"{place} tells {secret}"
    assert os.stat(run.run_dir / "run.json").st_mode & 0o077 == 0  # noqa: PTH116


def _output(run: LiveRun) -> Path:
    return Path(run.argv[run.argv.index("-o") + 1])


def test_run_of_bad_sources_alone_ends_with_1(meter: Path) -> None:
    with LiveRun({"film": "/nonexistent/film.mp4"}, model=meter) as run:
        assert run.wait() == 1
        (line,) = run.complaints()
        assert "decode film: a source must exist" in line
        assert run.lines == []


def test_run_on_a_device_that_is_not_there_ends_with_1_and_one_line(meter: Path) -> None:
    with LiveRun({"good": GOOD}, "--device", "cuda:99", model=meter) as run:
        assert run.wait() == 1
        (line,) = run.complaints()
        assert "device cuda:99" in line
        assert "is running" not in run.stderr.read_text()


def test_camera_that_never_answers_is_told_once_and_tried_again(meter: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = f"rtsp://viewer:{SECRETS[0]}@127.0.0.1:{listener.getsockname()[1]}/cam"
        options = ("--set", "decode.open_timeout_s=1")
        with LiveRun({"good": GOOD, "silent": silent}, *options, model=meter, metrics=True) as run:
            run.until(
                lambda: (run.metric("streamfuse_reconnects_total", source="silent") or 0) >= 2,
                "two more tries",
            )
            run.until(lambda: run.labels("good"), "labels of good")
            assert run.stop() == 0
            (line,) = run.complaints()
            assert "decode silent: nothing came in time" in line
            assert line.endswith("it is tried again") and SECRETS[0] not in line
