from __future__ import annotations

import csv
from pathlib import Path

import pytest

from streamfuse.sinks.csv import LabelTable, seconds
from streamfuse.types import NS, HeadLabel
from tests.sinks.made import make_event, make_label, said, said_many


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def test_csv_one_row_per_tick_with_every_head(tmp_path: Path) -> None:
    table = LabelTable(tmp_path / "clip.csv")
    table.write_label(make_label(41, sound=said_many(("rain", 0.91), ("dog", 0.5)), dropped=3))
    table.write_event(make_event())
    table.write_label(make_label(42, sound=said_many(), face="missing"))
    table.close(complete=True)
    rows = read(tmp_path / "clip.csv")
    assert rows[0] == {
        "source": "clip",
        "session": "0",
        "tick": "41",
        "start_s": "4.1",
        "end_s": "4.2",
        "scene": "street",
        "scene_score": "0.8123",
        "emotion": "happy",
        "emotion_score": "0.6100",
        "sound": "rain;dog",
        "sound_score": "0.9100",
        "video_presence": "ok",
        "face_presence": "ok",
        "audio_presence": "ok",
        "partial": "false",
        "warm": "true",
        "dropped": "3",
    }
    assert (rows[1]["sound"], rows[1]["sound_score"], rows[1]["face_presence"]) == ("", "", "missing")
    assert len(rows) == 2


def test_csv_live_has_the_time_and_raw_has_every_class(tmp_path: Path) -> None:
    scene = HeadLabel("sea", 0.7, None, (("sea", 0.7),), raw={"sea": 0.65, "street": 0.35})
    table = LabelTable(tmp_path / "clip.csv")
    table.write_label(make_label(scene=scene, time="2026-01-02T03:04:05.678Z"))
    table.close(complete=True)
    (row,) = read(tmp_path / "clip.csv")
    assert row["time"] == "2026-01-02T03:04:05.678Z"
    assert (row["scene.sea"], row["scene.street"]) == ("0.6500", "0.3500")


def test_csv_resumed_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    labels = [make_label(tick) for tick in range(20)]
    whole = LabelTable(tmp_path / "whole.csv")
    for label in labels:
        whole.write_label(label)
    whole.close(complete=True)
    table = LabelTable(tmp_path / "torn.csv")
    for label in labels[:10]:
        table.write_label(label)
    mark = table.mark()
    table.write_label(labels[10])
    table.close(complete=False)
    table = LabelTable(tmp_path / "torn.csv", resume=mark)
    for label in labels[10:]:
        table.write_label(label)
    table.close(complete=True)
    assert (tmp_path / "torn.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("name", ['a,"b"\nc', "=HYPERLINK(1)", "Straße ☃", "-1"])
def test_csv_any_name_is_one_harmless_cell(tmp_path: Path, name: str) -> None:
    table = LabelTable(tmp_path / "clip.csv")
    table.write_label(make_label(source=name, scene=said(name, 0.5)))
    table.close(complete=True)
    (row,) = read(tmp_path / "clip.csv")
    kept = "'" + name if name[0] in "=-" else name
    assert row["source"] == kept
    assert row["scene"] == kept
    assert (tmp_path / "clip.csv").read_bytes().startswith(b"\xef\xbb\xbfsource,session,tick,")


def test_csv_seconds_are_exact() -> None:
    cases = {0: "0", 4_100_000_000: "4.1", 100_000_000: "0.1", 30 * NS: "30", 1: "0.000000001"}
    assert {ns: seconds(ns) for ns in cases} == cases
    assert seconds(-1_500_000_000) == "-1.5"
