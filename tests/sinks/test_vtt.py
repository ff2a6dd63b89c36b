from __future__ import annotations

import re
from pathlib import Path

from streamfuse.config import LabelConfig
from streamfuse.model.spec import HeadSpec
from streamfuse.sinks.vtt import Subtitles
from streamfuse.types import Event, Label
from tests.sinks.made import EMOTIONS, SCENES, make_event, make_label, walk

HEADS = (HeadSpec("scene", SCENES), HeadSpec("emotion", EMOTIONS))


def test_subtitles_one_event_is_one_cue(tmp_path: Path) -> None:
    sink = Subtitles(tmp_path / "clip.vtt", HEADS, LabelConfig())
    for tick in range(60):
        sink.write_label(make_label(tick))
        if tick == 15:
            sink.write_event(make_event("street", 1.0, kind="new"))
        if tick == 45:
            sink.write_event(make_event("street", 1.0, 4.5))
    assert not (tmp_path / "clip.vtt").exists()
    sink.close(complete=True)
    assert (tmp_path / "clip.vtt").read_text() == "WEBVTT\n\n00:00:01.000 --> 00:00:04.500\nscene: street\n\n"


def test_subtitles_aborted_leave_the_part_only(tmp_path: Path) -> None:
    sink = Subtitles(tmp_path / "clip.vtt", HEADS, LabelConfig())
    sink.write_label(make_label())
    sink.close(complete=False)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.vtt.part"]


def test_subtitles_cues_follow_each_other(tmp_path: Path) -> None:
    sink = Subtitles(tmp_path / "clip.vtt", HEADS, LabelConfig())
    for item in walk(2000):
        if isinstance(item, Label):
            sink.write_label(item)
        elif isinstance(item, Event):
            began = Event(
                "new", *(item.source, item.session, item.head, item.label, item.start_ns), None, 1, 1
            )
            sink.write_event(began)
            sink.write_event(item)
    sink.close(complete=True)
    times = re.findall(r"(\S+) --> (\S+)", (tmp_path / "clip.vtt").read_text())
    assert len(times) > 20
    flat = [time for pair in times for time in pair]
    assert flat == sorted(flat)
