"""A recording from file to labels: every way gives the same labels, and nothing is left running."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from streamfuse.config import AppConfig, DecodeConfig, LabelConfig, TickConfig
from streamfuse.errors import ConfigError, ModelError, SourceError
from streamfuse.labels.lines import event_line, label_line
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.model.runtime import Model, load_model
from streamfuse.pipeline.analyze import analyze
from streamfuse.pipeline.capture import Analyzer
from streamfuse.pipeline.live import QUEUE_TICKS
from streamfuse.pipeline.names import source_name
from streamfuse.pipeline.recorded import process_source
from streamfuse.types import AudioChunk, Event, Label, VideoFrame
from tests.clips import Clip, joined

EASY = LabelConfig(enter=0.34, leave=0.1, min_dwell_s=0.2)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clip(seconds=2.0, fps=25, b_frames=2, rate=44_100).write(tmp_path_factory.mktemp("clip") / "c.mkv")


def lines(items: object) -> list[str]:
    return [event_line(item) if isinstance(item, Event) else label_line(item) for item in items]


def test_second_thread_changes_nothing(clip: Path, model: Model) -> None:
    source, config = parse_source(str(clip)), AppConfig(labels=EASY)
    threaded = lines(process_source(source, model, config, threaded=True))
    assert threaded == lines(process_source(source, model, config, threaded=False))
    assert (
        sum('"kind":"new"' in line for line in threaded)
        == sum('"kind":"end"' in line for line in threaded)
        > 0
    )


def test_own_capture_gives_the_labels_of_the_file(clip: Path, model: Model) -> None:
    """What a decoder gives, pushed by hand."""
    expected = lines(analyze(clip, model=model, labels=EASY))
    analyzer = Analyzer(model, labels=EASY, source="c")
    side = 2 * model.spec.video.picture.size
    labels: list[Label] = []
    decoder = open_decoder(
        parse_source(str(clip)), decode=DecodeConfig(), ticks=TickConfig(), mode="recorded", picture_side=side
    )
    with decoder:
        for item in decoder:
            if isinstance(item, VideoFrame):
                labels += analyzer.push_video(item.render(), item.pts_ns, dur_ns=item.dur_ns)
            elif isinstance(item, AudioChunk):
                labels += analyzer.push_audio(item.samples, item.pts_ns)
    assert lines(labels + analyzer.flush()) == expected
    assert len(expected) >= 20


def test_position_counters_and_facts(clip: Path, model: Model) -> None:
    with process_source(parse_source(str(clip)), model) as processing:
        assert processing.info.duration_ns == pytest.approx(2e9, abs=1e8)
        ticks = sum(isinstance(item, Label) for item in processing)
    assert processing.ticks == ticks == processing.counters["ticks"]
    assert processing.position_ns == ticks * 100_000_000
    assert processing.counters["bad_answers"] == 0
    assert not processing.truncated


def test_change_of_parameters_is_a_new_session_with_new_state(model: Model, tmp_path: Path) -> None:
    one = Clip(seconds=1.0, width=320, height=240).write(tmp_path / "a.ts")
    two = Clip(seconds=1.0, width=480, height=270, start_ticks=90_000).write(tmp_path / "b.ts")
    labels = list(analyze(joined(tmp_path / "both.ts", one, two), model=model))
    sessions = [label.head.session for label in labels]
    assert sessions == sorted(sessions) and set(sessions) == {0, 1}
    starts = [label.head.start_ns for label in labels]
    assert starts == sorted(starts)
    first = next(label for label in labels if label.head.session == 1)
    assert first.head.index == 0 and not first.warm


def test_leaving_early_leaves_no_thread(clip: Path, model: Model) -> None:
    before = set(threading.enumerate())
    labels = analyze(clip, model=model)
    assert next(iter(labels)).head.index == 0
    labels.close()
    assert set(threading.enumerate()) <= before


def test_part_of_a_file(clip: Path, model: Model) -> None:
    labels = list(analyze(clip, model=model, start_s=0.5, end_s=1.5))
    assert labels[0].start_s == pytest.approx(0.5, abs=0.05)
    assert 1.4 < labels[-1].end_s <= 1.6
    assert len(labels) == pytest.approx(10, abs=1)


def test_live_plays_a_source_without_a_pace_and_tells_the_age_of_each_label(model: Model) -> None:
    source = "lavfi:testsrc2=size=160x120:rate=20:duration=1;sine=duration=1"
    labels = list(analyze(source, model=model, mode="live", ticks=TickConfig(max_wait_ms=0)))
    # As fast as it can be read, all but the last few would be dropped.
    assert sum(1 + label.head.dropped for label in labels) >= 10
    assert len(labels) > QUEUE_TICKS + 1
    for label in labels:
        assert label.time is not None and label.time.endswith("Z")
        ages = label.latency
        assert ages is not None
        parts = [age for name, age in ages.items() if "." in name]
        assert sum(parts) == ages["edge_age"] > 0
        assert ages["analyze.compute"] > 0
    times = [label.time for label in labels]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mode": "fast"}, r'mode must be "recorded" or "live", got \'fast\''),
        ({"start_s": 2, "end_s": 1}, "start_s must be at least 0 and below end_s, got 2 and 1"),
        ({"mode": "live", "end_s": 1}, "a live source has no start_s and end_s"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(
    clip: Path, model: Model, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        analyze(clip, model=model, **settings)


def test_source_and_model_that_are_not_there_are_refused_at_once(
    clip: Path, model: Model, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"a source must exist.*none\.mp4"):
        analyze(tmp_path / "none.mp4", model=model)
    with pytest.raises(ModelError, match=r"a model must be a file, got nothing there .*none\.ts"):
        analyze(clip, model=tmp_path / "none.ts")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/films/a.b.mp4", "a.b"),
        ("rtsp://user:secret@camera.local:554/stream1?token=secret", "stream1"),
        ("http://user:secret@camera.local", "camera.local"),
        ("lavfi:testsrc2", "lavfi"),
        ("udp://239.0.0.1:1234", "239.0.0.1"),
    ],
)
def test_name_of_a_source_holds_no_path_and_no_secret(source: str, name: str) -> None:
    assert source_name(parse_source(source)) == name


@pytest.mark.needs_shared
@pytest.mark.parametrize("name", ["obama_speech.mp4", "face_noface.mov"])
def test_real_recording_is_the_same_by_every_way(shared: Path, model: Model, name: str) -> None:
    source = parse_source(str(shared / "media" / name))
    threaded = lines(process_source(source, model, threaded=True))
    assert threaded == lines(process_source(source, model, threaded=False))
    assert len(threaded) >= 60
