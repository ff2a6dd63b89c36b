from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from streamfuse.errors import ConfigError, OutputError
from streamfuse.profiling.recording import Recording
from streamfuse.profiling.schema import read_report, report_schema, report_text
from streamfuse.types import MS, NS
from tests.profiling.made import BEGIN_NS, HOP_NS, made_label, made_recording, made_report, progress

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "profile-1.schema.json"
AGES = [10 * MS + (i % 7) * MS for i in range(200)]


def test_numbers_are_those_of_the_answers() -> None:
    report = made_report(made_recording(AGES, sources=("door", "yard")))
    assert (report.answers, report.dropped, report.deadline_misses) == (400, 0, 0)
    assert (report.offered_per_s, report.absent) == (20.0, 2 * 9), "the last second of each had none"
    assert report.ages_ms["edge_age"].p50 == 13
    assert report.ages_ms["centre_age"].p50 == 63
    assert [s.source for s in report.streams] == ["door", "yard"]
    assert report.cpu_s_per_media_s == pytest.approx((0.5 + 2 * 0.1) * 21 / 40, rel=0.02)
    assert report.rss_bytes == 400_000_000
    by_name = {use.process: use.cpu_share for use in report.processes}
    assert by_name == {"analyze 0": 0.5, "publish": 0.0, "decode door": 0.1, "decode yard": 0.1}


def test_shares_of_the_parts_are_the_whole() -> None:
    report = made_report(made_recording([20 * MS] * 40))
    parts = {f"{p.stage}.{p.part}": p for p in report.parts}
    assert sum(p.share for p in report.parts) == pytest.approx(1)
    assert parts["decode.compute"].time_ms.mean == 5
    assert parts["analyze.transit"].share == 0.25
    assert parts["analyze.compute"].share == 0.5
    assert sum(p.time_ms.mean for p in report.track_parts["video"]) == 20


def test_late_and_dropped_ticks_miss_their_deadline_and_only_they() -> None:
    made = made_recording([10 * MS] * 30)
    made.on_label(made_label(33, HOP_NS + 1, dropped=3))
    made.on_label(made_label(34, HOP_NS))
    report = made_report(made)
    assert (report.answers, report.dropped, report.deadline_misses) == (32, 3, 4)
    (drop,) = report.happened
    assert (drop.kind, drop.source, drop.text) == ("drop", "door", "3 dropped before tick 33")


def test_what_lies_outside_the_measured_part_counts_nothing() -> None:
    made = made_recording(AGES)
    made.begin_ns, made.end_ns = BEGIN_NS + 5 * NS, BEGIN_NS + 10 * NS
    report = made_report(made)
    assert report.answers == 50
    assert report.duration_s == 5
    assert report.achieved_per_s == 10


def test_saturated_report_tells_no_deadlines() -> None:
    report = made_report(made_recording(AGES), "saturated")
    assert (report.offered_per_s, report.absent, report.deadline_misses) == (None, None, None)
    assert report.realtime_factor == pytest.approx(20 / 21, rel=1e-3)


def test_too_few_answers_are_no_report() -> None:
    with pytest.raises(
        OutputError, match=r"a report needs 20 answers after the warm-up, got 19; measure for longer"
    ):
        made_report(made_recording([MS] * 19))


def test_sessions_reconnects_and_loops_are_marked() -> None:
    made = made_recording([MS] * 30)
    made.on_label(made_label(31, MS, session=1))
    made.on_progress(progress("decode", "door", 20, 1.0, reconnects=1), BEGIN_NS + NS)
    report = made_report(made)
    assert {one.kind for one in report.happened} == {"session", "reconnect"}
    assert (report.streams[0].sessions, report.streams[0].reconnects) == (2, 1)
    looped = Recording()
    looped.on_progress(progress("decode", "door", 20, 0.0), 1)
    looped.on_progress(progress("decode", "door", 20, 0.0, loops=1), 2)
    assert [mark.kind for mark in looped.marks] == ["loop"]


def test_process_that_died_or_was_started_meanwhile_counts_what_it_used() -> None:
    """One second of 20: what it used then, not twenty times as much."""
    made = made_recording(AGES)
    made.begin_ns, made.end_ns = BEGIN_NS, BEGIN_NS + 20 * NS
    for half in range(3):
        made.on_progress(progress("decode", "died", 31, 7 + half / 2), BEGIN_NS + half * NS // 2)
        made.on_progress(progress("decode", "born", 32, 1.5 + half / 4), BEGIN_NS + (20 + half) * NS // 2)
    uses = {use.process: use for use in made_report(made).processes}
    assert uses["decode died"].cpu_s == 1
    assert uses["decode born"].cpu_s == 2, "with what its start took"
    assert uses["decode door"].cpu_s == 2
    cpu = made_report(made).samples.cpu_share
    assert sum(cpu) == pytest.approx(1 + 2 + 2 + 20 * 0.5, abs=0.01)


def test_spare_is_told_apart_until_it_is_needed() -> None:
    made = Recording()
    made.on_progress(progress("analyze", "0", 5, 0.0, state="starting"), 1)
    assert made.processes[5].is_starting
    made.on_progress(progress("analyze", "0", 5, 0.0, state="standby"), 2)
    assert made.processes[5].title == "analyze 0 (spare)"
    made.on_progress(progress("analyze", "0", 5, 0.0), 3)
    assert made.processes[5].title == "analyze 0"


def test_flips_are_counted_by_the_minute_of_media() -> None:
    made = Recording()
    made.begin_ns, made.end_ns = BEGIN_NS, BEGIN_NS + 60 * NS
    for tick in range(300):  # 30 s
        made.on_label(made_label(tick, MS, scene="street" if tick < 100 or tick >= 200 else "forest"))
    assert made_report(made).streams[0].flips_per_min == {"scene": 4.0}


def test_report_reads_back_and_fits_its_schema(tmp_path: Path) -> None:
    report = made_report(made_recording(AGES))
    path = tmp_path / "report.json"
    path.write_text(report_text(report))
    assert read_report(path) == report
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(msgspec.to_builtins(report) | {"answers": "many"})


def test_schema_is_the_programs_own() -> None:
    """After a change: python -m streamfuse.profiling.schema > docs/schema/profile-1.schema.json"""
    assert json.loads(SCHEMA.read_text()) == report_schema()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{}", "missing required field"),
        ('{"schema": "streamfuse.profile/9"}', "Invalid enum"),
    ],
)
def test_file_that_is_no_report_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_report(path)
