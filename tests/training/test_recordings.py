"""The tables of recordings and their traps: leaking groups, missing and unsorted files."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.meaning import EMOTIONS, PICTURE_PLACES, PLACES, SOUND_PLACES, emotion_index
from streamfuse.training.datasets.recordings import Division, read_recordings
from tests.training.tree import write_table, write_tree


def row(path: str, group: str, split: str) -> list[str]:
    return [path, "sound", "rain", group, "field", "CC0", split]


def test_read_recordings_sorts_whatever_the_table_says(tmp_path: Path) -> None:
    found = read_recordings(write_tree(tmp_path))
    for rows in (found.sound, found.pictures):
        names = [one.path.as_posix() for one in rows]
        assert names == sorted(names)
    assert len(found.sound) == 4 * 8
    assert len(found.pictures) == 2 * 8


def test_read_recordings_group_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x" * 2000)
    write_table(tmp_path / "audio.csv", [row("a", "actor_07", "train"), row("b", "actor_07", "dev")])
    with pytest.raises(
        ConfigError, match=r"a group must be in one split only, got actor_07 in train and dev"
    ):
        read_recordings(tmp_path)


def test_read_recordings_group_in_two_splits_of_two_tables_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x" * 2000)
    write_table(tmp_path / "audio.csv", [row("a", "actor_07", "train")])
    write_table(tmp_path / "images.csv", [row("b", "actor_07", "dev")])
    with pytest.raises(ConfigError, match=r"one split only, got actor_07 in train and dev"):
        read_recordings(tmp_path)
    # Of one split it stays together, whatever share of the pictures is for tuning.
    write_table(tmp_path / "images.csv", [row("b", "actor_07", "train")])
    found = read_recordings(tmp_path, Division(tune_share=0.999))
    assert {one.part for one in found.all()} == {"train"}


def test_read_recordings_missing_empty_and_pointer_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "empty.ogg").write_bytes(b"")
    (tmp_path / "pointer.ogg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "good.ogg").write_bytes(b"x" * 2000)
    names = ("absent.ogg", "empty.ogg", "pointer.ogg", "good.ogg")
    write_table(tmp_path / "audio.csv", [row(name, name, "train") for name in names])
    found = read_recordings(tmp_path)
    assert [one.path.name for one in found.sound] == ["good.ogg"]
    assert found.dropped == (
        "absent.ogg: not there",
        "empty.ogg: empty",
        "pointer.ogg: a Git LFS pointer, not the file; git lfs pull",
    )


def test_read_recordings_column_missing(tmp_path: Path) -> None:
    write_table(tmp_path / "audio.csv", [["a", "b"]], ["path", "label"])
    with pytest.raises(
        ConfigError, match=r"a table must have the column, got none named kind \[.*audio\.csv\]"
    ):
        read_recordings(tmp_path)


def test_read_recordings_no_tables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a data folder must have audio\.csv or images\.csv"):
        read_recordings(tmp_path)


def test_division_every_group_has_one_part_and_the_share_is_kept(tmp_path: Path) -> None:
    write_table(tmp_path / "images.csv", [row(f"{n}", f"group{n // 2}", "train") for n in range(400)])
    for n in range(400):
        (tmp_path / f"{n}").write_bytes(b"x" * 2000)
    found = read_recordings(tmp_path, Division(tune_share=0.25)).pictures
    parts: dict[str, set[str]] = {}
    for one in found:
        parts.setdefault(one.group, set()).add(one.part)
    assert all(len(some) == 1 for some in parts.values())
    assert 60 <= sum(one.part == "tune" for one in found) <= 140


def test_division_splits_and_patterns() -> None:
    division = Division(test_splits=("dev",), tune_splits=("fold4",), tune_groups=("nemo_*MP0",))
    from streamfuse.training.datasets.recordings import Recording

    def part(group: str, split: str) -> str:
        return division.part(Recording(Path("x"), "speech", "sad", group, "s", "l", split), share=False)

    assert part("nemo_  MP0", "train") == "tune"
    assert part("nemo_  KS0", "train") == "train"
    assert part("actor_20", "dev") == "test"
    assert part("esc", "fold4") == "tune"


def test_meaning_every_place_can_be_seen_and_heard() -> None:
    assert set(PICTURE_PLACES.values()) == set(range(len(PLACES))) == set(SOUND_PLACES.values())
    assert "rain" not in SOUND_PLACES
    assert [emotion_index(name) for name in ("none", "angry", "fearful")] == [0, len(EMOTIONS) - 1, -1]
