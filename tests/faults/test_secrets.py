"""Credentials in addresses: 32 shapes through every log, label, metric, error, `ps` and crash path; 0 leaks.

That a secret is found where it does leak is shown for each place in turn.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamfuse.cli.main import main
from streamfuse.config import DecodeConfig
from streamfuse.errors import StreamfuseError
from streamfuse.media.decode import open_decoder
from streamfuse.media.redact import Discreet, redact_known
from streamfuse.media.source import parse_source
from tests.faults.addresses import SHAPES, address, leaks, secret_of
from tests.integration.live import LiveRun
from tests.ports import free_port

QUICK = DecodeConfig(open_timeout_s=1, read_timeout_s=0.5)


@pytest.fixture(scope="module")
def host() -> str:
    """Where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def test_every_shape_has_a_secret_of_its_own(host: str) -> None:
    assert len({secret_of(shape) for shape in SHAPES}) == len(SHAPES) >= 30
    for shape in SHAPES:
        assert leaks(address(shape, host)) == [shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_errors_and_tracebacks_tell_nothing(shape: str, host: str) -> None:
    with pytest.raises(StreamfuseError) as caught:
        source = parse_source(address(shape, host), allow_hls=True)
        open_decoder(source, decode=QUICK, mode="live", picture_side=192)
    error = caught.value
    said = [str(error), repr(error), *map(str, error.args), f"{error.where}", f"{error.got}"]
    said += traceback.format_exception_only(error)
    assert [one for one in said if leaks(one)] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_library_says_is_masked_in_any_crash(shape: str, host: str) -> None:
    """An exception that nobody foresaw, with the address in it: on stderr, in a log, in a traceback."""
    text = address(shape, host)
    with contextlib.suppress(StreamfuseError):
        parse_source(text)
    out = io.StringIO()
    stream = Discreet(out)
    handler = logging.StreamHandler(stream)  # type: ignore[arg-type]
    try:
        raise RuntimeError(f"[Errno 5] cannot open '{text}'")
    except RuntimeError as error:
        handler.emit(logging.LogRecord("x", 40, "x.py", 1, "of %s", (text,), sys.exc_info()))
        stream.writelines(traceback.format_exception(error))
    print(text, file=stream)  # type: ignore[call-overload]
    assert "RuntimeError" in out.getvalue()
    assert leaks(out.getvalue()) == []


def test_masking_leaves_ordinary_words_alone() -> None:
    parse_source("rtmp://host/live/stream")
    parse_source("rtsp://u:a@host/s")
    assert redact_known("streamfuse: a stream of data") == "streamfuse: a *** of data"


@pytest.mark.parametrize("shape", SHAPES)
def test_verbs_tell_nothing(shape: str, host: str, tmp_path: Path, tiny_model: Path,
                            capsys: pytest.CaptureFixture[str],
                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)  # an address may be taken for a path
    text = address(shape, host)
    config = tmp_path / "live.yaml"
    config.write_text(json.dumps({"sources": {"door": {"input": text, "loop": "perhaps"}}}))
    quick = ("--set", "decode.open_timeout_s=1", "--set", "decode.read_timeout_s=0.5")
    common = ("-o", str(tmp_path / "out"), "--model", str(tiny_model), "--device", "cpu", "--inline", *quick)
    for arguments in (
        ["probe", text, "--debug"],
        ["probe", text, text],
        ["process", text, *common, "--debug"],
        ["run", "--for", text],
        ["run", f"door={text}", f"door={text}"],
        ["validate", str(config), "--debug"],
        ["validate", text],
        [text],
    ):
        code = main(arguments)
        said = capsys.readouterr()
        assert code != 0, arguments
        assert leaks(said.out + said.err) == [], arguments[0]
        assert said.err
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path != config)
    assert leaks(written + "".join(map(str, tmp_path.rglob("*")))) == []


def test_command_line_is_hidden_from_ps(host: str) -> None:
    """A verb that goes on for long enough to be looked at, with every shape on its command line."""
    code = "import sys; from streamfuse.cli.main import main; main(sys.argv[1:]); print('done', flush=True)"
    code += "; input()"
    words = [f"s{number}={address(shape, host)}" for number, shape in enumerate(SHAPES)]
    argv = [sys.executable, "-c", code, "run", *words, f"again={words[0]}", "again=x"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        shown = subprocess.run(
            ["ps", "-ww", "-o", "args=", "-p", str(process.pid)], capture_output=True, text=True
        )
        cmdline = Path(f"/proc/{process.pid}/cmdline").read_text()
        process.communicate("\n")
    for text in (shown.stdout, cmdline):
        assert "s0=rtsp://***@127.0.0.1" in text
        assert leaks(text) == []
    assert len(cmdline.split("\0")) == len(argv) + 1  # nothing else was written over


# -- a whole run ---------------------------------------------------------------------------------------

CRASH = """
import av, os
if "CRASH_IN_OPEN" in os.environ:
    real = av.open
    def crash(address, *more, **options):
        if "127.0.0.1" in address:
            raise RuntimeError("an accident with " + address)
        return real(address, *more, **options)
    av.open = crash
"""


@pytest.fixture(scope="module")
def run(tiny_model: Path, host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    """Every shape at once, and a source that works; the addresses come in by a file, as they should."""
    folder = tmp_path_factory.mktemp("secrets")
    sources = {f"s{number}": {"input": address(shape, host)} for number, shape in enumerate(SHAPES)}
    sources["good"] = {"input": "lavfi:testsrc2=size=64x48:rate=10"}
    file = folder / "live.yaml"
    file.write_text(json.dumps({"sources": sources}))
    options = ["-c", str(file), "-o", str(folder / "out")]
    options += ["--set", "decode.open_timeout_s=1", "--set", "decode.read_timeout_s=0.5"]
    with LiveRun({}, *options, model=tiny_model, metrics=True) as running:
        # Beside it, every other source's reader begins on the same processors.
        running.until(lambda: running.labels("good"), "labels of good", 200)
        yield running


def places(run: LiveRun) -> dict[str, str]:
    """Everything that others can see of a run, by where it is."""
    found = {
        "metrics": run.get("/metrics")[1],
        "stdout": json.dumps(run.lines),
        "stderr": run.stderr.read_text(),
    }
    for process in [run.process, *run.children()]:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(process.pid)
            found[f"argv of {process.pid}"] = " ".join(process.cmdline())
            found[f"environment of {process.pid}"] = repr(process.environ())
    output = Path(run.argv[run.argv.index("-o") + 1])
    for path in [*run.folder.rglob("*"), *output.rglob("*")]:
        found[f"name {path}"] = str(path)
        if path.is_file() and path.name != "run.json":  # what the processes are told: its owner's alone
            found[str(path)] = path.read_text(errors="replace")
    return found


@pytest.mark.timeout(240)
def test_a_run_tells_nothing_anywhere(run: LiveRun) -> None:
    names = {f"s{number}" for number in range(len(SHAPES))}

    def tried() -> bool:
        refused = {line.split("decode ")[1].split(":")[0] for line in run.complaints() if "decode " in line}
        lost = {n for n in names - refused if run.metric("streamfuse_reconnects_total", source=n)}
        return refused | lost >= names

    run.until(tried, "every source was refused, or lost and tried again", 200)
    seen = places(run)
    assert {place: leaks(text) for place, text in seen.items() if leaks(text)} == {}
    assert len(seen) > 60
    assert (run.run_dir / "run.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_a_crash_tells_nothing(run: LiveRun, number: int) -> None:
    good = run.named("--source good")
    victim = next(process for process in run.named("services.decode") if process not in good)
    core = Path("core").exists()
    victim.send_signal(number)
    run.until(lambda: not victim.is_running(), "the process dies")
    run.until(lambda: any(line for line in run.complaints() if "killed" in line or "ended" in line) or
              number == signal.SIGTERM, "the supervisor says so")  # fmt: skip
    assert {place: leaks(text) for place, text in places(run).items() if leaks(text)} == {}
    assert Path("core").exists() == core


def test_a_run_that_ends_tells_nothing(run: LiveRun) -> None:
    """The last of this module's run: it ends it."""
    assert run.stop() == 0, run.said()
    assert {place: leaks(text) for place, text in places(run).items() if leaks(text)} == {}


def test_an_accident_in_the_library_tells_nothing_in_the_logs(
    tiny_model: Path, host: str, tmp_path: Path
) -> None:
    """An exception of a kind that nobody catches, raised where the address is known."""
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    shapes = ["plain", "token", "stream key"]
    file = tmp_path / "live.yaml"
    file.write_text(json.dumps({"sources": {s: {"input": address(s, host)} for s in shapes}}))
    env = {"PYTHONPATH": str(tmp_path), "CRASH_IN_OPEN": "1"}
    with LiveRun(
        {"good": "lavfi:testsrc2=size=64x48:rate=10"}, "-c", str(file), model=tiny_model, env=env
    ) as run:
        logs = run.run_dir / "logs"

        def crashed() -> bool:
            return all(
                "an accident with" in (logs / f"decode-{s.replace(' ', '_')}.log").read_text() for s in shapes
            )

        run.until(
            lambda: logs.exists() and len(list(logs.glob("decode-*"))) == 4 and crashed(), "the accidents"
        )
        text = "".join(path.read_text() for path in logs.iterdir()) + run.stderr.read_text()
        assert "Traceback" in text
        assert leaks(text) == []
