"""What can be wrong: one line with rule, value and place, the right exit code, nothing that looks whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import modes
from tests.cli.conftest import Ran, Run, lines_of
from tests.clips import Clip, corrupted, png_bomb, truncated


def assert_refused(ran: Ran, folder: Path, bad: Path | str, *words: str) -> None:
    """One line about this input, exit 1, and no output of it but perhaps `.part`."""
    (line,) = ran.complaints
    assert ran.code == 1
    assert str(bad) in line
    for word in words:
        assert re.search(word, line), f"{word!r} is not in {line!r}"
    stem = Path(bad).stem
    assert [path.name for path in folder.glob(f"{stem}.*") if not path.name.endswith(".part")] == []
    entry = next(
        e for e in json.loads((folder / "summary.json").read_text())["files"] if e["status"] == "failed"
    )
    assert f"streamfuse: {entry['error']}" == line


ACCEPTED = "a recording must be a video or audio file of an accepted format, "


def make_bad(kind: str, folder: Path, clip: Path) -> Path:
    path = folder / "bad.mp4"
    if kind == "name too long":
        path = folder / ("bad" * 100 + ".mp4")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "below a file":
        path = clip / "bad.mp4"
    elif kind == "folder without media":
        path = folder / "bad"
        path.mkdir()
        (path / "notes.txt").write_text("no media here")
    elif kind == "0 bytes":
        path.touch()
    elif kind == "text":
        path.write_text("this is a letter, not a film\n" * 200)
    elif kind == "random":
        path.write_bytes(np.random.default_rng(5).bytes(100_000))
    elif kind == "no moov":
        truncated(clip, path)
    elif kind == "ffconcat":
        path.write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    elif kind == "m3u8":
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{clip}\n#EXT-X-ENDLIST\n")
    elif kind == "huge png":
        path = folder / "bad.png"
        png_bomb(path)
    return path


KINDS = {
    "missing": "a source must exist, got No such file or directory",
    "name too long": "a source must exist, got File name too long",
    "link to itself": "a source must exist, got Too many levels of symbolic links",
    "below a file": "a source must exist, got Not a directory",
    "folder without media": "a folder must hold media files, got none",
    "0 bytes": ACCEPTED + "got an empty file",
    "text": ACCEPTED + "got Invalid data",
    "random": ACCEPTED + "got Invalid data",
    "no moov": r"an mp4 must have its index \(moov\), got none",
    "ffconcat": ACCEPTED + "got a playlist",
    "m3u8": ACCEPTED + "got a playlist",
    "huge png": ACCEPTED + "got a still image",
}


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_line_and_the_others_are_processed(
    process: Run, clip: Path, tmp_path: Path, kind: str
) -> None:
    bad = make_bad(kind, tmp_path, clip)
    ran = process(bad, clip)
    assert_refused(ran, tmp_path / "out", bad, KINDS[kind])
    assert len(lines_of(tmp_path / "out" / "clip.labels.jsonl")) == 20
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [entry["status"] for entry in summary["files"]] == ["failed", "done"]


def test_bad_inputs_of_every_kind_cost_a_good_one_nothing_over_processes(
    tiny_model: Path, clip: Path, tmp_path: Path
) -> None:
    """One run of the default kind: one line each, and nothing else; the good one is done."""
    expected = {}
    for number, (kind, words) in enumerate(KINDS.items()):
        (folder := tmp_path / str(number)).mkdir()
        expected[make_bad(kind, folder, clip)] = words
    locked = tmp_path / "locked.mp4"
    locked.write_bytes(clip.read_bytes())
    locked.chmod(0)
    expected[locked] = "a source must be readable, got Permission denied"
    out = tmp_path / "out"
    main = ("-m", "streamfuse.cli.main", "process", *expected, clip)
    done = subprocess.run(
        modes.python(*main, "-o", out, "--model", tiny_model, "--device", "cpu"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("streamfuse: ")]
    assert (done.returncode, len(told)) == (1, len(expected)), done.stderr
    for bad, words in expected.items():
        (line,) = [line for line in told if f"[{bad}]" in line]
        assert re.search(words, line), line
    assert len(lines_of(out / "clip.labels.jsonl")) == 20
    assert {path.name.partition(".")[0] for path in out.iterdir() if path.name[0] != "."} == {
        "clip",
        "summary",
    }


def test_cut_off_recording_is_labelled_to_the_cut_and_says_so(process: Run, tmp_path: Path) -> None:
    whole = Clip(seconds=4.0).write(tmp_path / "whole.mkv")
    cut = truncated(whole, tmp_path / "cut.mkv", 0.6)
    ran = process(cut)
    assert (ran.code, ran.complaints) == (0, [])
    assert "cut off" in ran.err
    (entry,) = json.loads((tmp_path / "out" / "summary.json").read_text())["files"]
    assert (entry["status"], entry["truncated"]) == ("done", True)
    assert 15 <= entry["ticks"] <= 32


def test_corrupt_packets_cost_packets_not_the_run(process: Run, tmp_path: Path) -> None:
    whole = Clip(seconds=4.0).write(tmp_path / "whole.mkv")
    bad = corrupted(whole, tmp_path / "bad.mkv", rate=0.002)
    ran = process(bad)
    assert (ran.code, ran.complaints) == (0, [])
    assert len(lines_of(tmp_path / "out" / "bad.labels.jsonl")) >= 20


def test_output_that_may_not_be_written_is_told_before_any_work(clip: Path, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir(mode=0o500)
    main = modes.python("-m", "streamfuse.cli.main", "process", clip, "-o", out)
    done = subprocess.run(main, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    rule = "the output folder must be one that can be written to, got errno 13 (Permission denied)"
    assert line == f"streamfuse: {rule} [{out}/summary.json]"


def test_output_where_nobody_may_write_is_told_before_any_work(run: Run, clip: Path) -> None:
    ran = run("process", clip, "-o", "/proc/nope")
    (line,) = ran.err.splitlines()
    assert ran.code == 1
    assert line.startswith("streamfuse: the output folder must be one that can be written to, got errno ")


def test_output_below_a_file_is_told_before_any_work(process: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    ran = process(clip)
    (line,) = ran.complaints
    assert (ran.code, ran.err) == (1, line + "\n")
    assert "the output folder must be a folder, got a file of that name" in line
    assert str(tmp_path / "out") in line


def test_full_disk_is_told_and_nothing_looks_whole(tiny_model: Path, clip: Path, tmp_path: Path) -> None:
    """A real process that may write no more than 2000 bytes to any file."""
    code = (
        "import resource, sys; from streamfuse.cli.main import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); sys.exit(main())"
    )
    arguments = ["process", str(clip), "-o", str(tmp_path / "out"), "--model", str(tiny_model), "--inline"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "clip.labels.jsonl").exists()
    kept = (tmp_path / "out" / "clip.labels.jsonl.part").read_bytes()
    assert kept.endswith(b"\n") and len(kept) <= 2000


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            ["--set", "labels.smoothin_s=1"],
            "unknown key `labels.smoothin_s` (did you mean `smoothing_s`?) [--set labels.smoothin_s]",
        ),
        (
            ["--set", "labels.enter=7"],
            "`labels.enter` must be less than or equal to 1, got 7 [--set labels.enter]",
        ),
        (["--from", "2", "--to", "1"], "--to must be after --from, got 1 s and 2 s"),
        (["--to", "soon"], "Invalid value for '--to': a time is seconds, m:s or h:m:s, got 'soon'"),
        (["--bogus"], "No such option '--bogus'"),
    ],
)
def test_usage_and_configuration_are_exit_2_in_one_line(
    process: Run, clip: Path, tmp_path: Path, settings: list[str], line: str
) -> None:
    ran = process(clip, *settings)
    assert ran.code == 2
    (told,) = ran.err.splitlines()
    assert told.startswith(f"streamfuse: {line}")
    assert not (tmp_path / "out").exists()


def test_unknown_key_in_the_file_names_its_line(process: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("decode:\n  thread: 2\n")
    ran = process(clip, "-c", tmp_path / "c.yaml")
    assert ran.code == 2
    assert ran.err == (
        f"streamfuse: unknown key `decode.thread` (did you mean `threads`?) [{tmp_path}/c.yaml:2]\n"
    )


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "clip", "other contract", "torchscript"])
def test_model_file_that_is_none_is_exit_3_in_one_line(
    run: Run, clip: Path, tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "model.ts"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "clip":
        path.write_bytes(clip.read_bytes())
    elif kind == "other contract":
        path.write_bytes(of_contract(tiny_model, 99))
    elif kind == "torchscript":
        import torch

        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    ran = run("process", clip, "-o", tmp_path / "out", "--model", path)
    assert ran.code == 3
    (line,) = ran.err.splitlines()
    assert line.startswith("streamfuse: ") and str(path) in line
    if kind == "other contract":
        assert "a model file must follow contract 1, got contract 99" in line
    assert not list((tmp_path / "out").glob("clip*"))


def of_contract(model: Path, contract: int) -> bytes:
    """The model file with another contract number of the same length in its description."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(out, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("extra/streamfuse.json"):
                spec = json.loads(data) | {"contract": contract}
                data = json.dumps(spec).encode()
            new.writestr(item.filename, data)
    return out.getvalue()


def test_sha256_of_another_model_is_exit_3(process: Run, clip: Path) -> None:
    ran = process(clip, "--set", f"model.sha256={'a' * 64}")
    assert ran.code == 3
    assert "the model file's sha256 must be aaaa" in ran.err


def test_device_that_is_not_there_is_one_line(run: Run, clip: Path, tiny_model: Path, tmp_path: Path) -> None:
    from streamfuse.kernels.backend import cuda_missing

    if cuda_missing() is None:
        pytest.skip("there is a GPU here")
    ran = run("process", clip, "-o", tmp_path / "out", "--model", tiny_model, "--device", "cuda")
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert line.startswith("streamfuse: device cuda is not usable")


def test_debug_shows_the_traceback_before_the_line(process: Run, tmp_path: Path) -> None:
    ran = process(tmp_path / "none.mp4", "--debug")
    assert "Traceback (most recent call last)" in ran.err
    assert len(ran.complaints) == 1


def test_slip_of_ours_in_one_file_does_not_cost_the_others(
    process: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamfuse.cli import inline

    real = inline.process_source

    def slip(source, *args, **settings):
        if source.path.stem == "other":
            raise ZeroDivisionError("a slip")
        return real(source, *args, **settings)

    monkeypatch.setattr(inline, "process_source", slip)
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    ran = process(other, clip)
    assert ran.code == 1
    assert ran.complaints == [f"streamfuse: ZeroDivisionError: a slip [{other}]"]
    assert (tmp_path / "out" / "clip.labels.jsonl").exists()
