from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamfuse.errors import OutputError, StageError
from streamfuse.sinks import durable
from streamfuse.sinks.durable import PartFile, write_whole
from streamfuse.sinks.seal import Seal, Sealer

LIMITED = """
import resource, sys
from pathlib import Path
from streamfuse.errors import OutputError
from streamfuse.sinks.durable import PartFile
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
file = PartFile(Path(sys.argv[1]))
lines = 0
try:
    while True:
        file.write_line("x" * 122)
        lines += 1
except OutputError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write_line("room again")
file.close(complete=True)
print(lines)
"""


def sealed(text: str) -> Seal:
    sealer = Sealer()
    sealer.push(text.encode())
    return sealer.seal()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_part_file_gets_its_name_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "clip.labels.jsonl"
    file = PartFile(path)
    file.write_line("one")
    assert names(path.parent) == ["clip.labels.jsonl.part"]
    file.close(complete=True)
    assert names(path.parent) == ["clip.labels.jsonl"]
    assert path.read_bytes() == b"one\n"


def test_part_file_aborted_leaves_the_part_and_the_older_output(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text("older\n")
    file = PartFile(path)
    file.write_line("newer")
    assert path.read_text() == "older\n"
    file.close(complete=False)
    file.close(complete=True)
    assert path.read_text() == "older\n"
    assert (tmp_path / "clip.csv.part").read_text() == "newer\n"
    with pytest.raises(StageError, match=r"nothing may be written to a closed output \[.*clip\.csv\]"):
        file.write_line("late")


def test_part_file_replaces_the_older_output_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    path.write_text("older\n")
    write_whole(path, "newer\n")
    assert path.read_text() == "newer\n"
    assert names(tmp_path) == ["clip.csv"]


def test_part_file_begins_anew_over_an_abandoned_part(tmp_path: Path) -> None:
    (tmp_path / "clip.csv.part").write_text("a much longer left-over of a killed run\n")
    write_whole(tmp_path / "clip.csv", "short\n")
    assert (tmp_path / "clip.csv").read_text() == "short\n"


def test_part_file_full_disk_keeps_whole_lines_and_may_be_tried_again(tmp_path: Path) -> None:
    # A real short write: the kernel takes 16 of 123 bytes, then refuses.
    path = tmp_path / "clip.labels.jsonl"
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    message, lines = run.stdout.splitlines()
    assert message == f"an output must be written whole, got errno 27 (File too large) [{path}]"
    assert lines == "8"
    assert path.read_text() == ("x" * 122 + "\n") * 8 + "room again\n"


def test_part_file_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    write_whole(tmp_path / "clip.csv", "a line of several writes\n")
    assert (tmp_path / "clip.csv").read_text() == "a line of several writes\n"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_part_file_write_error_names_path_and_errno(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    file = PartFile(tmp_path / "clip.csv")

    def refuse(fd: int, data: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(OutputError) as caught:
            file.write_line("lost")
    assert str(caught.value) == (
        f"an output must be written whole, got errno {code} ({os.strerror(code)}) [{tmp_path / 'clip.csv'}]"
    )
    file.close(complete=False)


def test_part_file_failed_sync_is_told_and_leaves_only_the_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = PartFile(tmp_path / "clip.csv")
    file.write_line("x")

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"errno 5 \(Input/output error\)"):
        file.close(complete=True)
    assert names(tmp_path) == ["clip.csv.part"]


def test_part_file_refuses_a_folder_it_cannot_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError) as caught:
        PartFile(tmp_path / "clip.csv")
    assert str(caught.value) == (
        "the output folder must be one that can be written to, "
        f"got errno 13 (Permission denied) [{tmp_path / 'clip.csv'}]"
    )
    assert names(tmp_path) == []


def test_part_file_refuses_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match=r"folder must be a folder, got a file of that name \[.*/out\]"):
        PartFile(tmp_path / "out" / "clip.csv")


def test_part_file_refuses_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "clip.csv").mkdir()
    with pytest.raises(OutputError, match="an output must be a file, got a folder of that name"):
        PartFile(tmp_path / "clip.csv")


def test_part_file_does_not_follow_a_link_out_of_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep me\n")
    (tmp_path / "clip.csv.part").symlink_to(target)
    with pytest.raises(OutputError, match=f"errno {errno.ELOOP}"):
        PartFile(tmp_path / "clip.csv")
    assert target.read_text() == "keep me\n"


def test_part_file_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "LOCK_NS", 0)
    file = PartFile(tmp_path / "clip.csv")
    file.write_line("mine")
    with pytest.raises(OutputError, match="an output must be written by one run only"):
        PartFile(tmp_path / "clip.csv")
    file.close(complete=True)
    assert (tmp_path / "clip.csv").read_text() == "mine\n"


def test_part_file_resume_cuts_to_the_checkpoint_and_keeps_what_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "clip.csv"
    for number in (1, 2):
        file = PartFile(path, resume=sealed("one\ntwo\n") if number == 2 else None)
        if number == 1:
            file.write("one\ntwo\n")
            assert file.seal() == sealed("one\ntwo\n")
        file.write(f"three\nfo{number}\n")
        file.close(complete=False)
        os.truncate(tmp_path / "clip.csv.part", 17)
    file = PartFile(path, resume=sealed("one\ntwo\n"))
    file.write_line("three")
    file.close(complete=True)
    assert path.read_text() == "one\ntwo\nthree\n"
    assert (tmp_path / "clip.csv.torn-1").read_text() == "three\nfo1"
    assert (tmp_path / "clip.csv.torn-2").read_text() == "three\nfo2"


def test_part_file_resume_of_a_shorter_part_is_refused(tmp_path: Path) -> None:
    PartFile(tmp_path / "clip.csv").close(complete=False)
    with pytest.raises(OutputError) as caught:
        PartFile(tmp_path / "clip.csv", resume=sealed("one\ntwo\n"))
    assert str(caught.value) == (
        "an unfinished output must hold the 8 bytes of its checkpoint, got 0 bytes "
        f"[{tmp_path / 'clip.csv.part'}]; --no-resume begins anew"
    )
