"""A recording that was interrupted, wherever, ends with the bytes of one that was not."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from streamfuse.batch import BatchAnalyzer
from streamfuse.checkpoint.record import CheckpointFile, decode_analysed
from streamfuse.cli.stop import Stop, Stopped
from streamfuse.errors import SourceRefused
from streamfuse.model.runtime import Model
from streamfuse.pipeline import ticks as recorded_ticks
from streamfuse.pipeline.recorded import process_source
from streamfuse.types import Event, Label
from tests.checkpoint.made import KINDS, Killed, Runs
from tests.clips import Clip, joined

Clips = Callable[..., Path]
Golden = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def pictures_from(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """File times from which pictures were decoded, of every opening."""
    starts: list[int] = []
    real = recorded_ticks.open_decoder

    def note(*arguments: object, video_from_ns: int = 0, **more: object) -> object:
        starts.append(video_from_ns)
        return real(*arguments, video_from_ns=video_from_ns, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(recorded_ticks, "open_decoder", note)
    return starts


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_ticks_it_ends_with_the_same_bytes(
    runs: Runs, clips: Clips, golden: Golden, kind: str
) -> None:
    clip, rng = clips(kind), random.Random(kind)
    kills = 0
    while (report := runs.run_killed_after(clip, rng.randint(1, 40))) is None:
        kills += 1
    assert kills >= 1
    assert runs.results(clip) == golden(clip)
    assert report.ticks == golden(clip)["labels.jsonl"].count(b"\n")


@pytest.mark.parametrize("kind", ["aac.mp4", "pictures.mkv"])
def test_stepped_in_a_padded_batch_as_on_cuda_it_ends_with_the_same_bytes(
    model: Model, clips: Clips, tmp_path: Path, kind: str
) -> None:
    def batch(model: Model) -> BatchAnalyzer:
        return BatchAnalyzer(model, streams=1, max_batch=4, max_wait_ms=0, mode="recorded")

    clip, rng, kills = clips(kind), random.Random(kind), 0
    whole = Runs(model, tmp_path / "whole" / "out", checkpoint_s=3600, together=batch)
    whole.run(clip)
    killed = Runs(model, tmp_path / "killed" / "out", together=batch)
    while killed.run_killed_after(clip, rng.randint(1, 40)) is None:
        kills += 1
    assert kills >= 1
    assert killed.results(clip) == whole.results(clip)


def test_killed_late_it_does_not_decode_the_pictures_of_the_beginning_again(
    runs: Runs, clips: Clips, golden: Golden, pictures_from: list[int], every_checkpoint: None
) -> None:
    clip = clips("aac.mp4")
    assert runs.run_killed_after(clip, 55) is None
    (carried,) = [decode_analysed(CheckpointFile(runs.folder / clip.stem).read().analysed)]
    report = runs.run(clip)
    assert report.resumed_ns == carried.start_ns + 100_000_000 > 3_000_000_000
    # 2 s before the first of the ten ticks that are compared.
    assert pictures_from == [0, carried.start_ns - 1_000_000_000 - 2_000_000_000]
    assert runs.results(clip) == golden(clip)


def test_pictures_that_come_out_otherwise_are_decoded_from_the_beginning(
    runs: Runs,
    clips: Clips,
    golden: Golden,
    pictures_from: list[int],
    every_checkpoint: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = clips("aac.mp4")
    assert runs.run_killed_after(clip, 55) is None
    real = recorded_ticks.tick_digest
    # As where a key frame is none: what is decoded from it is another picture.
    monkeypatch.setattr(recorded_ticks, "tick_digest", lambda t: b"" if pictures_from[-1] else real(t))
    runs.run(clip)
    assert pictures_from[-1] == 0 < pictures_from[-2]
    assert runs.results(clip) == golden(clip)


def test_a_recording_that_decodes_otherwise_altogether_is_refused(
    runs: Runs, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips("aac.mp4")
    assert runs.run_killed_after(clip, 30) is None
    monkeypatch.setattr(recorded_ticks, "tick_digest", lambda _: b"")
    with pytest.raises(SourceRefused, match=r"must decode to what it was before the checkpoint.*--no-resume"):
        runs.run(clip)


def test_sessions_within_a_recording(runs: Runs, tmp_path: Path, golden: Golden) -> None:
    parts = [
        Clip(seconds=3, width=160, height=120, start_ticks=t).write(tmp_path / f"{t}.ts")
        for t in (0, 9_000_000)
    ]
    clip = joined(tmp_path / "both.ts", *parts)
    rng, kills = random.Random(3), 0
    while runs.run_killed_after(clip, rng.randint(1, 25)) is None:
        kills += 1
    assert kills >= 2
    whole, got = golden(clip), runs.results(clip)
    assert b'"session":1' in whole["labels.jsonl"]
    del whole["html"], got["html"]  # it says the way to the recording, which is another one
    assert got == whole


def test_killed_after_each_of_the_last_items(runs: Runs, clips: Clips, golden: Golden) -> None:
    clip = clips("aac.mp4", 2.0)
    items = sum(golden(clip)[name].count(b"\n") for name in ("labels.jsonl", "events.jsonl"))
    for after in range(items - 4, items):
        runs.resume = False
        assert runs.run_killed_after(clip, after) is None
        runs.resume = True
        runs.run(clip)
        assert runs.results(clip) == golden(clip), after


def test_part_of_a_recording(runs: Runs, clips: Clips) -> None:
    clip = clips("aac.mp4")
    runs.span = (1_500_000_000, 5_000_000_000)
    runs.run(clip)
    whole = runs.results(clip)
    runs.resume = False
    assert runs.run_killed_after(clip, 30) is None
    runs.resume = True
    runs.run(clip)
    assert runs.results(clip) == whole
    assert whole["labels.jsonl"].count(b"\n") == 35


def test_outputs_that_need_the_lines_of_others_begin_anew_without_them(runs: Runs, clips: Clips) -> None:
    clip = clips("aac.mp4")
    runs.outputs = {"labels": False, "vtt": False, "html": True}
    assert runs.run_killed_after(clip, 30) is None
    assert CheckpointFile(runs.folder / clip.stem).read() is None
    assert runs.run(clip).resumed_ns is None
    assert runs.results(clip)["html"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_tick_under_way_and_it_goes_on_next_time(
    runs: Runs, clips: Clips, golden: Golden, number: signal.Signals
) -> None:
    clip, stop, seen = clips("aac.mp4"), Stop(), 0
    runs.checkpoint_s = 3600

    def stop_soon(item: Label | Event) -> None:
        nonlocal seen
        seen += isinstance(item, Label)
        if seen == 20:
            stop.on_signal(number, None)

    with pytest.raises(Stopped) as stopped:
        runs.run(clip, stop_soon_once(stop_soon, stop), stop)
    assert stopped.value.exit_code == 128 + number
    at = decode_analysed(CheckpointFile(runs.folder / clip.stem).read().analysed)
    assert at.index == 19
    assert runs.run(clip).resumed_ns == 2_000_000_000
    assert runs.results(clip) == golden(clip)


def stop_soon_once(act: Callable[[Label | Event], None], stop: Stop) -> Callable[[Label | Event], None]:
    """A second signal would end this process."""
    return lambda item: None if stop.asked else act(item)


def test_a_signal_while_nothing_comes_is_heard(model: object, clips: Clips) -> None:
    """The network waits for a reader that hangs: the iteration ends all the same."""
    from streamfuse.media.source import parse_source

    asked = False
    source = process_source(parse_source(str(clips("aac.mp4"))), model, should_stop=lambda: asked)  # type: ignore[arg-type]
    with source as processing:
        given = processing.by_tick()
        next(given)
        asked = True
        assert list(given) == []
        assert processing.stopped


def test_events_and_subtitles_are_there_at_all(golden: Golden, clips: Clips) -> None:
    """Or the comparisons above compare nothing."""
    whole = golden(clips("aac.mp4"))
    assert whole["events.jsonl"].count(b'"kind":"new"') == whole["events.jsonl"].count(b'"kind":"end"') > 0
    assert whole["vtt"].count(b"-->") > 0
    assert len(set(whole["labels.jsonl"].splitlines())) >= 60


def test_a_killed_run_is_not_finished_by_its_death(runs: Runs, clips: Clips) -> None:
    clip = clips("aac.mp4")
    with pytest.raises(Killed):
        runs.run(clip, _die)
    assert runs.results(clip) == {}


def _die(_item: Label | Event) -> None:
    raise Killed
