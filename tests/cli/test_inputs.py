"""Files, folders and addresses become jobs with names of their own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from streamfuse.cli.inputs import Job, find_jobs
from streamfuse.media.source import FileSource
from tests.modes import modes_bind


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def stems(jobs: list[Job]) -> list[str]:
    return [job.stem for job in jobs]


def digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:8]


def test_file_gets_its_name_without_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "a.b.mp4")
    (job,) = find_jobs([str(tmp_path / "a.b.mp4")], tmp_path / "out")
    assert (job.stem, job.name, job.error) == ("a.b", "a.b", None)


def test_folder_keeps_relative_paths_in_order(tmp_path: Path) -> None:
    touch(
        *(
            tmp_path / name
            for name in ("z.mp4", "b/c.MKV", "b/a.wav", "notes.txt", ".hidden.mp4", ".git/x.mp4")
        )
    )
    jobs = find_jobs([str(tmp_path)], tmp_path / "out")
    assert stems(jobs) == ["z", "b/a", "b/c"]
    assert [job.name for job in jobs] == ["z", "a", "c"]


def test_own_output_is_no_input(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "out" / "a.overlay.mp4", tmp_path / "deep" / "out2" / "b.mp4")
    assert stems(find_jobs([str(tmp_path)], tmp_path / "out")) == ["a", "deep/out2/b"]


def test_folder_may_be_its_own_output(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "a.overlay.mp4", tmp_path / "b" / "c.mp4")
    assert stems(find_jobs([str(tmp_path)], tmp_path)) == ["a", "b/c"]


@pytest.mark.parametrize("order", [1, -1])
def test_clash_is_solved_the_same_way_in_any_order(tmp_path: Path, order: int) -> None:
    files = [tmp_path / "x" / "a.mp4", tmp_path / "y" / "a.mp4", tmp_path / "x" / "b.mp4"]
    touch(*files)
    jobs = find_jobs([str(file) for file in files[::order]], tmp_path / "out")
    expected = [f"a-{digest(files[0])}", f"a-{digest(files[1])}", "b"]
    assert stems(jobs) == expected[::order]


def test_same_stem_of_two_kinds_clashes(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "A.wav")
    one, two = find_jobs([str(tmp_path)], tmp_path / "out")
    assert (one.stem, two.stem) == (f"A-{digest(tmp_path / 'A.wav')}", f"a-{digest(tmp_path / 'a.mp4')}")


def test_file_given_twice_is_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in" / "a.mp4")
    monkeypatch.chdir(tmp_path)
    assert stems(find_jobs(["in/a.mp4", "./in/../in/a.mp4", "in"], tmp_path / "out")) == ["a"]


def test_folder_without_media_is_told(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "notes.txt")
    (job,) = find_jobs([str(tmp_path / "in")], tmp_path / "out")
    assert str(job.error) == f"a folder must hold media files, got none [{tmp_path / 'in'}]"


def test_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.mp4", tmp_path / "in" / "locked" / "b.mp4")
    (tmp_path / "in" / "locked").chmod(0)
    with modes_bind():
        jobs = find_jobs([str(tmp_path / "in")], tmp_path / "out")
    (tmp_path / "in" / "locked").chmod(0o700)
    assert [str(job.error) for job in jobs if job.error] == [
        f"a folder must be readable, got Permission denied [{tmp_path / 'in' / 'locked'}]"
    ]
    assert "a" in stems(jobs)


def test_name_that_no_file_can_have_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    (job,) = find_jobs(["a" * 300 + ".mp4"], tmp_path / "out")
    assert isinstance(job.source, FileSource)


@pytest.mark.parametrize("text", ["rtsp://user:hunter2@camera/1", "udp://239.0.0.1:1234", "/dev/video0"])
def test_live_source_is_sent_to_run(tmp_path: Path, text: str) -> None:
    (job,) = find_jobs([text], tmp_path / "out")
    assert str(job.error).startswith("process takes recordings, got ")
    assert str(job.error).endswith("; for a live source: `streamfuse run`")
    assert "hunter2" not in f"{job}{job.error}"


def test_refused_address_names_the_rule_and_keeps_its_password(tmp_path: Path) -> None:
    jobs = find_jobs(["gopher://user:hunter2@host", "rtsp://u:hunter2@", "concat:a|b"], tmp_path / "out")
    assert all(job.error is not None for job in jobs)
    assert "hunter2" not in "".join(f"{job}{job.error}{job.name}" for job in jobs)


def test_test_pattern_and_web_address_are_recordings(tmp_path: Path) -> None:
    jobs = find_jobs(["lavfi:testsrc2=duration=1", "https://user:pw@host/clips/walk.mp4"], tmp_path / "out")
    assert stems(jobs) == ["lavfi", "walk"]
    assert [job.error for job in jobs] == [None, None]
    assert "pw" not in repr(jobs)


def test_folder_takes_files_of_any_name(tmp_path: Path) -> None:
    macos = "Screen Recording at 9.41.00\u202fAM.mov"
    names = ["lavfi:x.mp4", "new\nline.mp4", " lead.mp4", "~nobody.mp4", macos, os.fsdecode(b"lat\xe9in.mp4")]
    touch(*(tmp_path / name for name in names))
    jobs = {job.stem: job for job in find_jobs([str(tmp_path)], tmp_path / "out")}
    assert set(jobs) == {Path(name).stem for name in names}
    for job in jobs.values():
        assert job.error is None
        # Safe to print in one line, and to send as UTF-8.
        assert "\n" not in job.given + job.name
        (job.given + job.name).encode()
        assert isinstance(job.source, FileSource) and job.source.path.is_file()
