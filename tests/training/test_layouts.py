"""Every published layout, on a small tree of exactly that layout, with its traps."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from streamfuse.errors import ConfigError
from streamfuse.training.datasets import crema_d, tau
from streamfuse.training.datasets.clips import ClipSet
from streamfuse.training.datasets.entry import DataEntry, entry_of
from streamfuse.training.datasets.layouts import read_clips
from streamfuse.training.datasets.recordings import FOLDER, read_recordings
from streamfuse.training.datasets.synthetic import (
    BAND_HZ,
    PATCH,
    SIDE,
    picture_of,
    samples_of,
    script_of,
    script_of_clip,
)
from streamfuse.training.settings import read_train_config
from tests.training.tree import write_tree

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def put(path: Path, data: bytes = b"x" * 2000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read(layout: str, path: Path | None = None, **more: object) -> ClipSet:
    return read_clips([DataEntry.model_validate({"layout": layout, "path": path, **more})])


def parts(found: ClipSet) -> dict[str, set[str]]:
    return {part: {clip.group for clip in found.of(part)} for part in ("train", "tune", "test")}  # type: ignore[arg-type]


# TAU


def tau_tree(folder: Path, delimiter: str = "\t", labels_of_test: bool = True) -> Path:
    def rows(names: list[str], labelled: bool) -> list[list[str]]:
        head = ["filename_audio", "filename_video", *(["scene_label"] if labelled else [])]
        return [head] + [
            [f"audio/{n}.wav", f"video/{n}.mp4", *([n.split("-")[0]] if labelled else [])] for n in names
        ]

    train = ["metro_station-lisbon-1000-40001", "metro_station-lisbon-1000-40002", "airport-vienna-1-2"]
    test = ["metro_station-paris-7-9", "tram-oslo-3-4"]
    for name in train + test:
        put(folder / f"audio/{name}.wav")
        put(folder / f"video/{name}.mp4")
    for table, names, labelled in (("train", train, True), ("test", test, labels_of_test)):
        path = folder / f"evaluation_setup/fold1_{table}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(rows(names, labelled))
    return folder


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("labels_of_test", [True, False])
def test_tau_reads_both_delimiters_and_a_test_table_without_labels(
    tmp_path: Path, delimiter: str, labels_of_test: bool
) -> None:
    found = read("tau", tau_tree(tmp_path, delimiter, labels_of_test), tune_share=0.0)
    by_name = {clip.name: clip for clip in found.clips}
    station = by_name["metro_station-lisbon-1000-40001"]
    # The label has an underscore in it: only the dash divides a name.
    assert station.marks[0].label == "metro_station"
    assert station.group == by_name["metro_station-lisbon-1000-40002"].group == "metro_station-lisbon-1000"
    assert station.video == tmp_path / "video/metro_station-lisbon-1000-40001.mp4"
    assert station.audio == tmp_path / "audio/metro_station-lisbon-1000-40001.wav"
    assert {clip.name for clip in found.of("test")} == {"metro_station-paris-7-9", "tram-oslo-3-4"}
    assert found.heads["scene"] == tau.SCENES
    assert len(tau.SCENES) == 10


def test_tau_place_in_both_folds_is_refused_by_name(tmp_path: Path) -> None:
    tau_tree(tmp_path)
    with (tmp_path / "evaluation_setup/fold1_test.csv").open("a") as file:
        file.write("audio/airport-vienna-1-5.wav\tvideo/airport-vienna-1-5.mp4\tairport\n")
    put(tmp_path / "audio/airport-vienna-1-5.wav")
    with pytest.raises(ConfigError, match=r"one split only, got airport-vienna-1 in (test|train) and"):
        read("tau", tmp_path)


def test_tau_segment_in_train_and_in_test_is_refused_and_a_re_split_is_not(tmp_path: Path) -> None:
    tau_tree(tmp_path)
    setup = tmp_path / "evaluation_setup"
    row = "audio/airport-vienna-1-2.wav\tvideo/airport-vienna-1-2.mp4\tairport\n"
    head = "filename_audio\tfilename_video\tscene_label\n"
    (setup / "fold1_val.csv").write_text(head + row)
    (setup / "fold1_evaluate.csv").write_text((setup / "fold1_test.csv").read_text())
    found = read("tau", tmp_path)
    assert {clip.name for clip in found.of("tune")} == {"airport-vienna-1-2"}
    assert len(found.of("test")) == 2
    (setup / "fold1_val.csv").unlink()
    for table in ("fold1_test", "fold1_evaluate"):
        before = (setup / f"{table}.csv").read_text()
        (setup / f"{table}.csv").write_text(before + row)
        with pytest.raises(ConfigError, match=rf"got airport-vienna-1 in train and test \[.*{table}.csv\]"):
            read("tau", tmp_path)
        (setup / f"{table}.csv").write_text(before)


def test_tau_missing_video_leaves_the_sound_and_is_told(tmp_path: Path) -> None:
    tau_tree(tmp_path)
    (tmp_path / "video/tram-oslo-3-4.mp4").write_bytes(POINTER)
    found = read("tau", tmp_path)
    tram = next(clip for clip in found.clips if clip.name == "tram-oslo-3-4")
    assert (tram.video, tram.audio) == (None, tmp_path / "audio/tram-oslo-3-4.wav")
    assert any("video/tram-oslo-3-4.mp4: a Git LFS pointer" in line for line in found.dropped)


def test_tau_without_tables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TAU needs evaluation_setup/fold1_train.csv"):
        read("tau", tmp_path)


# RAVDESS


def ravdess_tree(folder: Path) -> Path:
    for actor in range(1, 25):
        place = f"Actor_{actor:02d}" if actor != 3 else "ACTOR03"
        for emotion in range(1, 9):
            stem = f"01-{emotion:02d}-01-01-01-{actor:02d}"
            for modality, suffix in (("01", "mp4"), ("02", "mp4"), ("03", "wav")):
                put(folder / f"{place}/{modality}-{stem}.{suffix}")
            put(folder / f"{place}/03-02-{emotion:02d}-01-01-01-{actor:02d}.wav")
    return folder


def test_ravdess_take_is_read_once_and_folds_are_by_actor(tmp_path: Path) -> None:
    found = read("ravdess", ravdess_tree(tmp_path), fold=2)
    assert len(found.clips) == 24 * 8, "01 and 02 are the same take, and song is left out"
    assert all(clip.video == clip.audio and clip.video.name.startswith("01-") for clip in found.clips)
    who = parts(found)
    assert who["test"] == {f"ravdess_actor_{n:02d}" for n in range(5, 9)}
    assert who["tune"] == {f"ravdess_actor_{n:02d}" for n in range(9, 13)}
    assert len(who["train"]) == 16
    sixth = next(clip for clip in found.clips if clip.name == "01-06-01-01-01-07")
    assert sixth.marks[0].label == "fearful"


def test_ravdess_picture_and_sound_of_a_take_may_be_two_files(tmp_path: Path) -> None:
    put(tmp_path / "Actor_01/02-01-05-02-01-02-01.mp4")
    put(tmp_path / "speech/Actor_01/03-01-05-02-01-02-01.wav")
    (one,) = read("ravdess", tmp_path).clips
    assert one.video is not None and one.audio is not None
    assert (one.video.name[:2], one.audio.name[:2], one.marks[0].label) == ("02", "03", "angry")


def test_ravdess_song_when_asked_for_and_seven_classes(tmp_path: Path) -> None:
    ravdess_tree(tmp_path)
    assert len(read("ravdess", tmp_path, song=True).clips) == 24 * 16
    seven = read("ravdess", tmp_path, labels={"emotion": {"calm": None}})
    assert len(seven.clips) == 24 * 7
    assert "calm" not in seven.heads["emotion"]
    merged = read("ravdess", tmp_path, labels={"emotion": {"calm": "neutral"}})
    assert len(merged.clips) == 24 * 8 and len(merged.heads["emotion"]) == 7
    with pytest.raises(ConfigError, match="must be in the data set, got bored; neutral, calm"):
        read("ravdess", tmp_path, labels={"emotion": {"bored": None}})


def test_ravdess_other_names_and_pointers_are_told(tmp_path: Path) -> None:
    put(tmp_path / "Actor_01/01-01-05-02-01-02-01.mp4")
    put(tmp_path / "Actor_01/holiday.mp4")
    put(tmp_path / "Actor_02/01-01-05-02-01-02-02.mp4", POINTER)
    found = read("ravdess", tmp_path)
    assert len(found.clips) == 1
    assert sorted(line.partition(": ")[0] for line in found.dropped) == [
        "Actor_01/holiday.mp4",
        "Actor_02/01-01-05-02-01-02-02.mp4",
    ]
    with pytest.raises(ConfigError, match="RAVDESS needs files like"):
        read("ravdess", tmp_path / "nowhere")


# CREMA-D


def crema_tree(folder: Path) -> Path:
    with (put(folder / "processedResults/summaryTable.csv")).open("w") as file:
        file.write('"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","X"\n')
        for n, actor in enumerate((1001, 1018, 1019, 1054, 1055, 1073, 1091)):
            name = f"{actor}_DFA_ANG_XX"
            put(folder / f"AudioWAV/{name}.wav")
            put(folder / f"VideoFlash/{name}.flv")
            vote = "A:D" if actor == 1001 else "N"
            file.write(f'"{n}","{name}","A","1","A","1","{vote}","1"\n')
    put(folder / "AudioWAV/1076_MTI_SAD_XX.wav")
    put(folder / "VideoFlash/1076_MTI_SAD_XX.flv")
    return folder


def test_crema_d_pairs_files_folds_by_actor_and_leaves_out_what_is_known_bad(tmp_path: Path) -> None:
    found = read("crema_d", crema_tree(tmp_path), fold=5)
    assert [clip.name for clip in found.clips][:2] == ["1001_DFA_ANG_XX", "1018_DFA_ANG_XX"]
    assert all(clip.video and clip.audio and clip.marks[0].label == "angry" for clip in found.clips)
    who = parts(found)
    assert who["test"] == {"crema_actor_1073", "crema_actor_1091"}
    assert who["tune"] == {"crema_actor_1001", "crema_actor_1018"}
    assert "1076_MTI_SAD_XX: known to have no sound" in found.dropped


def test_crema_d_targets(tmp_path: Path) -> None:
    crema_tree(tmp_path)
    voted = read("crema_d", tmp_path, target="vote")
    assert "1001_DFA_ANG_XX: raters do not agree" in voted.dropped
    assert {clip.marks[0].label for clip in voted.clips} == {"neutral"}
    soft = read("crema_d", tmp_path, target="soft").clips[0]
    assert [(mark.label, mark.weight) for mark in soft.marks] == [("angry", 0.5), ("disgust", 0.5)]
    (tmp_path / "processedResults/summaryTable.csv").unlink()
    with pytest.raises(ConfigError, match=r"votes are in processedResults/summaryTable.csv"):
        read("crema_d", tmp_path, target="vote")


def test_crema_d_votes_that_are_none_or_unknown(tmp_path: Path) -> None:
    table = crema_tree(tmp_path) / "processedResults/summaryTable.csv"
    said = table.read_text()
    table.write_text(said.replace('"N"', '""', 1))
    for target in ("vote", "soft"):
        assert "1018_DFA_ANG_XX: nobody rated it" in read("crema_d", tmp_path, target=target).dropped
    table.write_text(said.replace('"N"', '"Q"', 1))
    with pytest.raises(
        ConfigError, match=r"a vote must be of N, H, S, A, F, D, got Q \[.*summaryTable.csv:3\]"
    ):
        read("crema_d", tmp_path, target="soft")


def test_crema_d_folds_hold_91_actors_without_overlap() -> None:
    folds = [sum(actor >= first for first in crema_d.FIRST_ACTORS) for actor in range(1001, 1092)]
    assert [folds.count(fold) for fold in range(1, 6)] == [18, 18, 18, 18, 19]


def test_crema_d_pointers_are_told_and_the_other_file_stays(tmp_path: Path) -> None:
    crema_tree(tmp_path)
    (tmp_path / "AudioWAV/1018_DFA_ANG_XX.wav").write_bytes(POINTER)
    found = read("crema_d", tmp_path)
    clip = next(one for one in found.clips if one.name == "1018_DFA_ANG_XX")
    # The Flash video has its own sound.
    assert clip.audio == clip.video == tmp_path / "VideoFlash/1018_DFA_ANG_XX.flv"
    assert any("AudioWAV/1018_DFA_ANG_XX.wav: a Git LFS pointer" in line for line in found.dropped)


# Manifest


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_manifest_csv(tmp_path: Path, delimiter: str) -> None:
    for name in ("a.mp4", "b.mp4", "c.wav"):
        put(tmp_path / name)
    rows = [
        ["path_av", "path_video", "path_audio", "scene", "emotion", "label_sound", "group", "split"],
        ["a.mp4", "", "", "street", "happy", "", "one", "train"],
        ["", "b.mp4", "c.wav", "indoor", "", "", "two", "val"],
    ]
    (tmp_path / "m.csv").write_text("\ufeff" + "\n".join(delimiter.join(row) for row in rows))
    found = read("manifest", tmp_path / "m.csv")
    one, two = found.clips
    assert one.video == one.audio == tmp_path / "a.mp4"
    assert {(mark.head, mark.label) for mark in one.marks} == {("scene", "street"), ("emotion", "happy")}
    assert (two.video, two.audio) == (tmp_path / "b.mp4", tmp_path / "c.wav")
    assert (one.part, two.part) == ("train", "tune")
    assert found.heads == {"scene": ("indoor", "street"), "emotion": ("happy",)}


def test_manifest_json_lines_timeline_is_one_clip(tmp_path: Path) -> None:
    put(tmp_path / "day.mp4")
    rows = [
        {"path_av": "day.mp4", "label": ["rain", "wind"], "t_start": 1.5, "t_end": "2.1", "group": "day"},
        {"path_av": "day.mp4", "label": "birds", "t_start": 2.1, "t_end": 4, "group": "day"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read("manifest", tmp_path / "m.jsonl", head="sound", kind="sigmoid")
    (clip,) = found.clips
    assert (clip.start_ns, clip.end_ns) == (1_500_000_000, 4_000_000_000)
    assert [(m.label, m.start_ns, m.end_ns) for m in clip.marks] == [
        ("rain", 1_500_000_000, 2_100_000_000),
        ("wind", 1_500_000_000, 2_100_000_000),
        ("birds", 2_100_000_000, 4_000_000_000),
    ]
    assert found.kinds == {"sound": "sigmoid"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("path_av,label\n,street", r"a row must have path_av or path_video and path_audio \[.*m.csv:2\]"),
        ("path_av,label,t_start,t_end\na.mp4,x,3,2", r"t_end must be after t_start, got 3 2 \[.*m.csv:2\]"),
        ("path_av,label,t_start\na.mp4,x,soon", r"t_start must be seconds, got soon"),
        ("path_av,label,t_start\na.mp4,x,1/0", r"t_start must be seconds, got 1/0 \[.*m.csv:2\]"),
        ("path_av,label,t_start\na.mp4,x,-1", r"t_start must be 0 or more, got -1"),
        (
            "path_av,label,group,split\na.mp4,x,anna,train\nb.mp4,x,anna,test",
            r"one split only, got anna in train and test",
        ),
        (
            "path_av,label,group,split\na.mp4,x,anna,train\na.mp4,y,bert,train",
            r"rows of one file must have one group and split, got anna in train, bert in train",
        ),
    ],
)
def test_manifest_that_makes_no_sense(tmp_path: Path, line: str, text: str) -> None:
    put(tmp_path / "a.mp4")
    put(tmp_path / "b.mp4")
    (tmp_path / "m.csv").write_text(line)
    with pytest.raises(ConfigError, match=text):
        read("manifest", tmp_path / "m.csv")


def test_manifest_bad_json(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path_av": }')
    with pytest.raises(ConfigError, match=r"a line must be JSON, got .* \[.*m.jsonl:1\]"):
        read("manifest", tmp_path / "m.jsonl")


# A folder per class


def test_classes_do_not_depend_on_the_order_of_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("street/b.mp4", "street/a.mp4", "indoor/c.wav", "indoor/d.jpg", "indoor/notes.txt"):
        put(tmp_path / name)
    found = read("classes", tmp_path, tune_share=0.5)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *a: sorted(listdir(*a), reverse=True))
    assert read("classes", tmp_path, tune_share=0.5) == found
    assert [clip.name for clip in found.clips] == [
        "indoor/c.wav",
        "indoor/d.jpg",
        "street/a.mp4",
        "street/b.mp4",
    ]
    assert found.heads == {"scene": ("indoor", "street")}
    sound, picture = found.clips[0], found.clips[1]
    assert (sound.video, sound.audio) == (None, tmp_path / "indoor/c.wav")
    assert (picture.video, picture.audio) == (tmp_path / "indoor/d.jpg", None)
    assert found.dropped == ("indoor/notes.txt: no picture, sound or video by its suffix",)


def test_classes_with_split_folders_and_groups_by_name(tmp_path: Path) -> None:
    for name in ("train/happy/anna_1.mp4", "train/sad/bert_1.mp4", "test/happy/carl_1.mp4"):
        put(tmp_path / name)
    found = read("classes", tmp_path, head="emotion", group="^[a-z]+", tune_share=0.0)
    assert parts(found) == {"train": {"anna", "bert"}, "tune": set(), "test": {"carl"}}
    put(tmp_path / "test/sad/anna_2.mp4")
    with pytest.raises(ConfigError, match=r"one split only, got anna in (train and test|test and train)"):
        read("classes", tmp_path, head="emotion", group="^[a-z]+")
    with pytest.raises(ConfigError, match=r"every file must belong to a group, got .*finds none"):
        read("classes", tmp_path, group="[0-9]{9}")


# Tables, several together, entries


def test_tables_as_clips_have_the_default_models_heads(tmp_path: Path) -> None:
    found = read("tables", write_tree(tmp_path), test_splits=["dev"], tune_splits=["fold4"])
    assert list(found.heads) == ["scene", "emotion", "sound"]
    assert found.kinds["sound"] == "sigmoid"
    waves = next(clip for clip in found.clips if clip.name == "sound/waves-dev-0.wav")
    assert {(m.head, m.label) for m in waves.marks} == {
        ("emotion", "none"),
        ("scene", "coast"),
        ("sound", "waves"),
    }
    assert waves.part == "test" and waves.video is None


def test_tables_are_divided_as_the_folder_of_the_default_model_is(tmp_path: Path) -> None:
    folder = write_tree(tmp_path)
    alike = {row.path: row.part for row in read_recordings(folder, FOLDER).all()}
    found = read("tables", folder)
    assert {clip.part for clip in found.clips} == {"train", "tune", "test"}
    assert all(alike[clip.video or clip.audio] == clip.part for clip in found.clips)  # type: ignore[index]
    mine = read("tables", folder, test_splits=["fold4"], tune_share=0.0)
    assert {clip.split for clip in mine.of("test")} == {"fold4"}


def test_group_that_is_learned_from_in_one_data_set_and_tested_in_another_is_refused(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        put(tmp_path / name)
    (tmp_path / "one.csv").write_text("path_av,scene,group,split\na.mp4,street,anna,train\n")
    (tmp_path / "two.csv").write_text("path_av,emotion,group,split\na.mp4,happy,anna,test\n")
    (tmp_path / "own.csv").write_text("path_av,emotion,group,split\nb.mp4,happy,anna,test\n")
    one, two, own = (DataEntry(layout="manifest", path=tmp_path / f"{n}.csv") for n in ("one", "two", "own"))
    with pytest.raises(ConfigError, match=r"a file must be of one part .*a.mp4: train of .*one.csv, test of"):
        read_clips([one.model_copy(update={"tune_share": 0.0}), two])
    # Another manifest's "anna" is somebody else, for all we know.
    assert len(read_clips([one, own]).clips) == 2
    speech = ravdess_tree(tmp_path / "speech")
    (tmp_path / "song").mkdir()
    put(tmp_path / "song/01-02-05-02-01-02-05.mp4")
    with pytest.raises(
        ConfigError, match=r"a group must be of one part .*ravdess_actor_05: tune of .*speech"
    ):
        read_clips(
            [
                DataEntry(layout="ravdess", path=speech),
                DataEntry(layout="ravdess", path=tmp_path / "song", song=True, fold=2),
            ]
        )


BAD = "path_av,label\ncaf\u00e9.mp4,street\n".encode("latin-1")


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("manifest", "m.csv"),
        ("manifest", "m.jsonl"),
        ("tau", "evaluation_setup/fold1_train.csv"),
        ("crema_d", "processedResults/summaryTable.csv"),
        ("tables", "audio.csv"),
    ],
)
def test_text_in_another_encoding_is_refused_in_one_line(tmp_path: Path, layout: str, file: str) -> None:
    put(tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav")
    put(tmp_path / file, BAD)
    more = {"target": "vote"} if layout == "crema_d" else {}
    path = tmp_path / file if layout == "manifest" else tmp_path
    with pytest.raises(
        ConfigError, match=r"must be UTF-8, got byte 0xe9 at 17 \[.*; save it as UTF-8"
    ) as told:
        read(layout, path, **more)
    assert "\n" not in str(told.value)


def test_settings_in_another_encoding_or_with_a_bad_pattern(tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_bytes(b"name: caf\xe9")
    with pytest.raises(ConfigError, match="a configuration file must be UTF-8, got byte 0xe9 at 9"):
        read_train_config(settings)
    settings.write_text('data: [{layout: classes, path: x, group: "^(speaker"}]')
    with pytest.raises(ConfigError, match=r"group must be a regular expression: missing \)"):
        read_train_config(settings)


def test_row_that_ends_too_early(tmp_path: Path) -> None:
    (tmp_path / "audio.csv").write_text("path,kind,label,group,source,licence,split\na.ogg,sound\n")
    with pytest.raises(ConfigError, match=r"a row must have every column, got no label \[.*audio.csv:2\]"):
        read("tables", tmp_path)


def test_several_data_sets_are_joined_and_keep_their_labels(tmp_path: Path) -> None:
    ravdess, crema = ravdess_tree(tmp_path / "r"), crema_tree(tmp_path / "c")
    found = read_clips([DataEntry(layout="ravdess", path=ravdess), DataEntry(layout="crema_d", path=crema)])
    # The order of classes differs from set to set: names travel, never indices.
    assert found.heads["emotion"][:3] == ("neutral", "calm", "happy")
    assert {clip.dataset for clip in found.clips} == {"RAVDESS", "CREMA-D"}
    angry = {clip.marks[0].label for clip in found.clips if clip.dataset == "CREMA-D"}
    assert angry == {"angry"}


def test_tune_share_is_of_whole_groups(tmp_path: Path) -> None:
    for n in range(60):
        put(tmp_path / f"x/speaker{n % 20}_{n}.wav")
    found = read("classes", tmp_path, group=r"^speaker\d+", tune_share=0.3)
    who = parts(found)
    assert who["tune"] and who["train"] and not who["tune"] & who["train"]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"layout": "ravdess"}, "layout ravdess needs a path"),
        ({"layout": "synthetic", "path": "x"}, "layout synthetic needs no path"),
        ({"layout": "crema_d", "path": "x", "fold": 6}, "layout crema_d has folds 1 to 5"),
        ({"layout": "imagenet", "path": "x"}, "Input should be 'tau'"),
        ({"layout": "tau", "path": "x", "speed": 1}, "Extra inputs are not permitted"),
    ],
)
def test_entries_that_make_no_sense(said: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        DataEntry.model_validate(said)


def test_entry_of_the_command_line() -> None:
    assert entry_of("ravdess:/data/r").path == Path("/data/r")
    assert entry_of("synthetic").layout == "synthetic"


# The generator


def test_synthetic_is_the_same_twice_and_divides_by_clip() -> None:
    one, two = read("synthetic", count=10), read("synthetic", count=10)
    assert one == two != read("synthetic", count=10, seed=1)
    assert [len(one.of(part)) for part in ("train", "tune", "test")] == [6, 2, 2]


def test_synthetic_switches_when_its_marks_say() -> None:
    clips = read("synthetic", count=40, seconds=5.0).clips
    switched = [clip for clip in clips if len(clip.marks_of("scene")) > 1]
    assert len(switched) > 10
    for clip in switched[:5]:
        script = script_of_clip(clip)
        first, second = clip.marks_of("scene")[:2]
        assert first.end_ns == second.start_ns and first.label != second.label
        heard = samples_of(script)
        at = second.start_ns * 16_000 // 10**9
        for mark, part in ((first, heard[at - 8000 : at]), (second, heard[at : at + 8000])):
            power = np.abs(np.fft.rfft(part)) ** 2
            hertz = np.fft.rfftfreq(len(part), 1 / 16_000)
            low, high = BAND_HZ[mark.label]
            here = power[(hertz >= low) & (hertz < high)].sum()
            others = [
                power[(hertz >= a) & (hertz < b)].sum() for n, (a, b) in BAND_HZ.items() if n != mark.label
            ]
            assert here > 3 * max(others), mark


def test_synthetic_texture_is_in_its_patch_alone() -> None:
    script = script_of(5, 4.0)
    seen = picture_of(script, 500_000_000).astype(float)[:, :, 0]
    x, y = (int(edge * SIDE) for edge in script.patch)
    wide = int(PATCH * SIDE)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[y : y + wide, x : x + wide] = True
    lit = seen > 245
    assert seen[inside].std() > 30
    assert seen[~inside & ~lit].std() < 10
