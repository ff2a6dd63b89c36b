"""A finished recording: what is read of its files, what is refused, and the video in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from streamfuse.cli.main import main
from streamfuse.config import ViewConfig
from streamfuse.errors import ConfigError
from streamfuse.labels.lines import event_line, label_line
from streamfuse.view.guard import Guard
from streamfuse.view.recording import (
    MAX_POINTS,
    Recording,
    find_video,
    read_recording,
    recording_app,
    video_type,
)
from tests.view.made import a_label, an_event, with_face

VIDEO = bytes(range(256)) * 1000


def written(
    folder: Path, *, count: int = 30, events: bool = True, name: str = "door", faces: range = range(0)
) -> Path:
    labels = folder / f"{name}.labels.jsonl"
    told = [with_face(a_label(index)) if index in faces else a_label(index) for index in range(count)]
    labels.write_text("".join(label_line(label) + "\n" for label in told))
    if events:
        ended = [an_event(), an_event("end"), an_event("end", "music", head="sound")]
        (folder / f"{name}.events.jsonl").write_text("".join(event_line(event) + "\n" for event in ended))
    return labels


def test_recording_holds_every_label_and_every_event_that_ended(tmp_path: Path) -> None:
    told = read_recording(written(tmp_path)).as_message(video=True)
    assert (told["name"], told["ticks"], told["every"], told["hop"], told["end"]) == (
        "door",
        30,
        1,
        100,
        3000,
    )
    assert told["starts"] == list(range(0, 3000, 100))
    assert told["ages"] == [40_000] * 30
    scene, emotion, sound = told["heads"]
    assert (scene["name"], scene["kind"], scene["labels"]) == (
        "scene",
        "softmax",
        ["street", "indoor", "nature"],
    )
    assert scene["said"][0] == [0]
    assert scene["top"][0] == [0, 750, 1, 200, 2, 50]
    assert emotion["said"][0] == [], "unknown is no label"
    assert (sound["kind"], sound["said"][0], sound["top"][0]) == ("sigmoid", [0], [0, 900, 1, 123])
    assert told["events"] == [[0, 0, 1000, 2000, 875], [2, 0, 1000, 2000, 875]]


def test_recording_holds_the_face_that_was_read(tmp_path: Path) -> None:
    told = read_recording(written(tmp_path, faces=range(10, 30))).as_message(video=True)
    assert told["faces"] == [None] * 10 + [[100, 200, 250, 500]] * 20
    assert read_recording(written(tmp_path)).as_message(video=True)["faces"] is None


def test_labels_of_a_live_run_hold_their_events_themselves(tmp_path: Path) -> None:
    path = tmp_path / "door.jsonl"
    lines = [
        label_line(a_label(0)),
        event_line(an_event()),
        label_line(a_label(1)),
        event_line(an_event("end")),
    ]
    path.write_text("\n".join(lines) + "\n")
    recording = read_recording(path)
    assert (recording.name, recording.ticks, len(recording.events)) == ("door", 2, 1)


def test_long_recording_is_thinned_out_and_says_so() -> None:
    recording = Recording("long")
    recording.starts = list(range(0, (2 * MAX_POINTS + 1) * 100, 100))
    told = recording.as_message(video=False)
    assert told["every"] == 3
    assert len(told["starts"]) <= MAX_POINTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a labels file has at least one label, got none"),
        (
            '{"a": 1}\n',
            r"each line is a label or an event, got .*door.labels.jsonl:1\]; such files are written by",
        ),
        ("\x00\xff" * 50, "each line is a label or an event"),
        (
            label_line(a_label(0)) + "\n" + label_line(a_label(1, "yard")) + "\n",
            "is of one source, got 'door' and 'yard'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "door.labels.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recording(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the labels must be readable, got No such file or directory"):
        read_recording(tmp_path / "none.labels.jsonl")


def test_video_beside_the_labels_is_found(tmp_path: Path) -> None:
    labels = written(tmp_path)
    assert find_video(labels) is None
    (tmp_path / "door.webm").write_bytes(VIDEO)
    assert find_video(labels) == tmp_path / "door.webm"
    (tmp_path / "door.overlay.mp4").write_bytes(VIDEO)
    assert find_video(labels) == tmp_path / "door.overlay.mp4"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.mp4", "video/mp4"), ("a.MOV", "video/mp4"), ("a.webm", "video/webm"), ("a", "video/mp4")],
)
def test_video_has_a_type_that_browsers_try(name: str, kind: str) -> None:
    assert video_type(Path(name)) == kind


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    video = tmp_path / "door.mp4"
    video.write_bytes(VIDEO)
    app = recording_app(read_recording(written(tmp_path)), video, ViewConfig())
    return TestClient(Guard(app), base_url="http://127.0.0.1")


@pytest.mark.parametrize(
    ("asked", "status", "given"),
    [
        (None, 200, VIDEO),
        ("bytes=0-99", 206, VIDEO[:100]),
        ("bytes=1000-", 206, VIDEO[1000:]),
        ("bytes=-5", 206, VIDEO[-5:]),
        ("bytes=99999999-", 416, b""),
        ("bytes=x", 400, None),
    ],
)
def test_video_is_given_in_pieces(
    client: TestClient, asked: str | None, status: int, given: bytes | None
) -> None:
    answer = client.get("/video", headers={} if asked is None else {"range": asked})
    assert answer.status_code == status
    if given is not None:
        assert answer.content == given
    if status == 206:
        assert answer.headers["content-range"].endswith(f"/{len(VIDEO)}")


def test_recording_is_told_and_nothing_else_of_the_folder(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/about").json() == {"mode": "recording"}
    assert client.get("/recording").json()["name"] == "door"
    for path in ("/video/../door.labels.jsonl", "/door.labels.jsonl", "/news"):
        assert client.get(path).status_code == 404
    assert str(tmp_path) not in client.get("/recording").text


def test_video_that_was_removed_is_gone(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "door.mp4").unlink()
    assert client.get("/video").status_code == 410


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}"], "the folder must have one labels file, got a.labels.jsonl, b.labels.jsonl"),
        (["{folder}/a.labels.jsonl", "{folder}/none.mp4"], "the video must be a file, got none there"),
        (["{folder}/none.jsonl"], "the labels must be readable"),
        (["{folder}/a.labels.jsonl", "--address", "0.0.0.0:0"], "a page that others can reach needs a token"),
        (["{folder}/a.labels.jsonl", "--address", "here"], "the page's address is HOST:PORT, got 'here'"),
    ],
)
def test_view_says_what_is_wrong_in_one_line(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        written(tmp_path, name=name, events=False)
    assert main(["view", *(text.format(folder=tmp_path) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
