"""The verb `run` before it starts anything: its sources, their names, lengths of time, and what is refused.

What it does once it runs is in tests/integration.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from streamfuse.cli.launch import roles, run_config
from streamfuse.cli.run import named_sources
from streamfuse.config import AppConfig, SourceConfig
from streamfuse.errors import ConfigError
from tests.cli.conftest import Run


def names(*inputs: str) -> dict[str, str]:
    made = named_sources(inputs, loop=False, allow_hls=False)
    return {name: source.input for name, source in made.items()}


def test_name_stands_before_the_address() -> None:
    assert names("door=rtsp://10.0.0.2/a?x=1") == {"door": "rtsp://10.0.0.2/a?x=1"}
    assert names("back yard=lavfi:testsrc2=size=64x64") == {"back yard": "lavfi:testsrc2=size=64x64"}


def test_bare_source_gets_a_name_without_its_secrets() -> None:
    (name,) = names("rtsp://user:s3cret@10.0.0.2:8554/cam1?token=abc")
    assert "s3cret" not in name and "abc" not in name and "user" not in name


def test_file_with_an_equals_sign_in_its_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("take=2.mp4").touch()
    assert names("take=2.mp4") == {"take=2": "take=2.mp4"}


def test_realtime_says_what_run_does_anyway(run: Run) -> None:
    ran = run("run", "--realtime", "--help")
    assert ran.code == 0
    assert "--realtime" in ran.out and "Play a file at its own pace" in ran.out
    ran = run("run", "--realtime")
    assert ran.complaints[0].startswith("streamfuse: a run needs at least one source")


def test_name_used_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"each source has a name of its own, got door twice"):
        names("door=/dev/video0", "door=/dev/video1")


def test_nothing_to_watch_is_refused(run: Run) -> None:
    ran = run("run")
    assert ran.code == 2
    assert ran.complaints == [
        "streamfuse: a run needs at least one source, got none; "
        "name some (streamfuse run door=rtsp://...), or a file with -c"
    ]


@pytest.mark.parametrize("text", ["0", "0s", "-1s", "soon", "1d", "1e3", "s"])
def test_length_of_time_that_is_none_is_refused(run: Run, text: str) -> None:
    ran = run("run", "a=/dev/video0", f"--for={text}")
    assert ran.code == 2
    assert "is not a length of time such as 60s, 5m or 2h" in ran.err


def test_unknown_scheme_of_a_bare_source_is_refused_without_its_password(run: Run) -> None:
    ran = run("run", "gopher://user:s3cret@10.0.0.2/")
    assert ran.code == 1
    assert "a URL's scheme must be" in ran.err
    assert "s3cret" not in ran.err


def test_missing_model_is_told_before_anything_starts(run: Run, tmp_path: Path) -> None:
    ran = run("run", "a=/dev/video0", "--model", tmp_path / "no.ts", "--run-dir", tmp_path / "r", "--json")
    assert ran.code == 3
    assert "a model must be a file, got nothing there" in ran.err
    assert not list((tmp_path / "r").glob("*.sock"))


def test_run_directory_that_others_may_read_is_refused(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    ran = run("run", "a=/dev/video0", "--model", tiny_model, "--run-dir", folder)
    assert ran.code == 2
    assert "a run directory must be its owner's alone (0700), got mode 0755" in ran.err


def test_same_sources_have_the_same_run_directory() -> None:
    door, yard = SourceConfig(input="rtsp://a/1"), SourceConfig(input="rtsp://a/2")
    one = run_config(AppConfig(), {"door": door, "yard": yard}, "live").run_dir
    assert one == run_config(AppConfig(), {"yard": yard, "door": door}, "live").run_dir
    assert one != run_config(AppConfig(), {"door": door}, "live").run_dir


def test_each_source_and_each_analyzer_has_its_process(tmp_path: Path) -> None:
    sources = {
        "a": SourceConfig(input="rtsp://user:s3cret@h/1"),
        "b": SourceConfig(input="rtsp://h/2", analyzer="second"),
    }
    config = run_config(AppConfig(run_dir=str(tmp_path)), sources, "live")
    table = roles(config, tmp_path / "run.json")
    assert [(role.service, role.name, role.spare) for role in table] == [
        ("publish", "publish", False),
        ("analyze", "0", False),
        ("analyze", "0", True),
        ("analyze", "second", False),
        ("analyze", "second", True),
        ("decode", "a", False),
        ("decode", "b", False),
    ]
    assert all(role.limits.outside == (role.service == "decode") for role in table)
    assert "s3cret" not in str([role.argv for role in table])


def test_spare_can_be_done_without(tmp_path: Path) -> None:
    made = AppConfig.model_validate({"run_dir": str(tmp_path), "live": {"spare": False}})
    table = roles(run_config(made, {"a": SourceConfig(input="rtsp://h/1")}, "live"), tmp_path / "run.json")
    assert [(role.service, role.spare) for role in table] == [
        ("publish", False), ("analyze", False), ("decode", False)
    ]  # fmt: skip


def test_output_folder_that_cannot_be_made_is_refused_before_anything_starts(
    run: Run, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "file").touch()
    options = ("--model", tiny_model, "--run-dir", tmp_path / "r", "-o", tmp_path / "file" / "out")
    ran = run("run", "a=/dev/video0", *options)
    assert ran.code == 1
    (line,) = ran.complaints
    assert str(tmp_path / "file") in line
    assert not (tmp_path / "r").exists()
