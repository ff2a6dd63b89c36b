from __future__ import annotations

from pathlib import Path

import pytest

from streamfuse.config import AppConfig, OutputConfig
from streamfuse.errors import OutputError
from streamfuse.labels.lines import event_from_line, label_from_line
from streamfuse.media.source import parse_source
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.sinks import FILE_SINKS, FileSink, open_file_sinks
from streamfuse.types import Event, Label
from tests.clips import Clip
from tests.sinks.made import EMOTIONS, SCENES, SOUNDS, walk

HEADS = (HeadSpec("scene", SCENES), HeadSpec("emotion", EMOTIONS), HeadSpec("sound", SOUNDS, "sigmoid"))
MODEL = ModelSpec("made 0.1", HEADS, weights_sha256="3f9c2a11" + 56 * "0")
ALL = OutputConfig(**dict.fromkeys(FILE_SINKS, True))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clip(3.0).write(tmp_path_factory.mktemp("clips") / "clip.with.dots.mp4")


def opened(
    clip: Path, folder: Path, resume: dict[str, int] | None = None, outputs: OutputConfig = ALL
) -> list[FileSink]:
    config = AppConfig(outputs=outputs)
    return open_file_sinks(
        config, folder / clip.stem, source=parse_source(str(clip)), model=MODEL, resume=resume
    )


def write(sinks: list[FileSink], items: list[Label | Event]) -> None:
    for item in items:
        for sink in sinks:
            if isinstance(item, Label):
                sink.write_label(item)
            else:
                sink.write_event(item)


def close(sinks: list[FileSink], complete: bool) -> None:
    for sink in sinks:
        sink.close(complete)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_output_of_the_configuration_has_its_sink(clip: Path, tmp_path: Path) -> None:
    files = {name for name, field in OutputConfig.model_fields.items() if field.annotation is bool}
    assert set(FILE_SINKS) == files
    sinks = opened(clip, tmp_path)
    write(sinks, list(walk(30)))
    assert all(name.endswith(".part") for name in names(tmp_path))
    close(sinks, complete=True)
    ends = ("csv", "events.jsonl", "html", "labels.jsonl", "overlay.mp4", "vtt")
    assert names(tmp_path) == [f"clip.with.dots.{end}" for end in ends]
    assert [sink.path.name for sink in sinks] == [
        f"clip.with.dots.{end}"
        for end in ("labels.jsonl", "events.jsonl", "vtt", "csv", "html", "overlay.mp4")
    ]


def test_outputs_that_are_off_are_not_made(clip: Path, tmp_path: Path) -> None:
    only = OutputConfig(labels=False, events=True, vtt=False)
    close(opened(clip, tmp_path, outputs=only), complete=True)
    assert names(tmp_path) == ["clip.with.dots.events.jsonl"]


def test_resumed_files_are_those_of_an_undisturbed_run(clip: Path, tmp_path: Path) -> None:
    outputs = ALL.model_copy(update={"overlay": False})
    items = list(walk(900, changes_s=3))
    sinks = opened(clip, tmp_path / "whole", outputs=outputs)
    write(sinks, items)
    close(sinks, complete=True)

    sinks = opened(clip, tmp_path / "torn", outputs=outputs)
    write(sinks, items[:400])
    marks = {sink.path.name: mark for sink in sinks if (mark := sink.mark()) is not None}
    write(sinks, items[400:450])
    close(sinks, complete=False)  # what a killed run leaves

    sinks = opened(clip, tmp_path / "torn", resume=marks, outputs=outputs)
    before = read_back(tmp_path / "torn" / clip.stem)
    write([sink for sink in sinks if sink.replays], before)
    write(sinks, items[400:])
    close(sinks, complete=True)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    torn = {
        path.name: path.read_bytes() for path in (tmp_path / "torn").iterdir() if "torn-" not in path.name
    }
    assert torn.keys() == whole.keys()
    for name, data in whole.items():
        assert torn[name] == data, name
    assert (tmp_path / "torn" / "clip.with.dots.labels.jsonl.torn-1").exists()


def read_back(base: Path) -> list[Label | Event]:
    """Labels and events so far, in the order in which they were made, from the lines of the parts."""
    labels = Path(f"{base}.labels.jsonl.part").read_text().splitlines()
    events = Path(f"{base}.events.jsonl.part").read_text().splitlines()
    items: list[Label | Event] = [label_from_line(line) for line in labels]
    items += [event_from_line(line) for line in events]
    return sorted(items, key=_made_ns)


def _made_ns(item: Label | Event) -> tuple[int, int]:
    # walk() gives an event before the label of the tick that began when it ended.
    return (item.head.start_ns, 1) if isinstance(item, Label) else (item.end_ns or item.start_ns, 0)


def test_a_failure_of_one_leaves_none_open_and_nothing_that_looks_whole(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.with.dots.csv").mkdir()
    with pytest.raises(OutputError, match="an output must be a file, got a folder of that name"):
        opened(clip, tmp_path)
    whole = [name for name in names(tmp_path) if not name.endswith(".part")]
    assert whole == ["clip.with.dots.csv"]
    (tmp_path / "clip.with.dots.csv").rmdir()
    close(opened(clip, tmp_path), complete=False)  # every lock is free again


def test_page_of_a_file_names_it_and_plays_it(clip: Path, tmp_path: Path) -> None:
    sinks = opened(clip, clip.parent, outputs=OutputConfig(labels=False, events=False, vtt=False, html=True))
    write(sinks, list(walk(5)))
    close(sinks, complete=True)
    page = (clip.parent / "clip.with.dots.html").read_text()
    assert "<h1>clip.with.dots.mp4</h1>" in page
    assert 'data-src="clip.with.dots.mp4"' in page
    assert "made 0.1 · 3f9c2a11<" in page
