"""Time to detect on clips whose truth is known (flash and beep, dark then bright) and on labels by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamfuse.errors import ConfigError
from streamfuse.profiling.detect import Switch, detections
from streamfuse.profiling.sweep import Cell, choose, parse_grid
from streamfuse.types import MS, NS, Event, HeadLabel, Label, TickHead
from tests.cli.conftest import Run
from tests.clips import Clip, flash_and_beep
from tests.integration.meter import write_meter

HOP_NS = 100 * MS


def said(words: str) -> list[Label]:
    """One letter a tick."""
    return [
        Label(
            TickHead("cam", 0, i, 0, HOP_NS, "ok", "ok"),
            {"scene": HeadLabel(word, 1.0, None, ((word, 1.0),))},
            {"video": "ok", "audio": "ok"},
            True,
        )
        for i, word in enumerate(words)
    ]


def test_first_tick_that_holds_is_the_detection() -> None:
    labels = said("aaaaaaaaaaaababbbbbbbbaaaaaaaa")
    found = detections(
        labels, [], [Switch(0, "a"), Switch(NS, "b"), Switch(2 * NS, "a")], "scene", hold_ticks=3
    )
    assert [one.label_s for one in found.switches] == [0.1, 0.5, 0.3]
    assert (found.missed, found.median_s, found.p90_s) == (0, 0.3, 0.5)
    assert found.flips_per_min == pytest.approx(4 / 3 * 60)
    assert found.needless_per_min == pytest.approx(2 / 3 * 60)
    assert found.right == pytest.approx(25 / 30, abs=1e-4)


def test_switch_that_is_never_said_is_missed_and_counts_in_no_median() -> None:
    found = detections(said("a" * 30), [], [Switch(0, "a"), Switch(2 * NS, "b")], "scene", hold_ticks=3)
    assert [one.label_s for one in found.switches] == [0.1, None]
    assert (found.missed, found.median_s) == (1, 0.1)


def test_event_counts_from_the_tick_that_told_it() -> None:
    event = Event("new", "cam", 0, "scene", "b", NS, None, 1.0, 1.0)
    found = detections(
        said("a" * 10 + "b" * 20), [(16 * HOP_NS, event)], [Switch(NS, "b")], "scene", hold_ticks=1
    )
    assert found.switches[0].event_s == found.event_median_s == 0.6


@pytest.mark.parametrize(
    ("switches", "head", "rule"),
    [
        ([], "scene", "a clip needs at least one switch"),
        ([Switch(NS, "a"), Switch(0, "b")], "scene", "switches must be in order of time"),
        ([Switch(9 * NS, "a")], "scene", "a switch must lie within the clip, got 9 s of 1 s"),
        ([Switch(0, "a")], "mood", "--head must be a head of the model, got mood"),
    ],
)
def test_truth_that_does_not_fit_is_refused(switches: list, head: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        detections(said("a" * 10), [], switches, head, hold_ticks=1)


def test_smoothing_gives_in_steadiness_what_it_takes_in_time(run: Run, tmp_path: Path) -> None:
    """Dark for 2 s, then bright: the meter sees it at once, and only smoothing makes it late."""
    import numpy as np

    def picture(index: int) -> np.ndarray:
        return np.full((120, 160, 3), 255 if index >= 60 else 0, np.uint8)

    clip = Clip(seconds=6.0, width=160, height=120, picture=picture).write(tmp_path / "switch.mp4")
    model = write_meter(tmp_path / "meter.ts")
    truth = ("--switch", "0=dark", "--switch", "2=bright", "--smoothing", "0,1,3", "--json")
    ran = run("profile", "detect", clip, *truth, "--model", model, "--device", "cpu")
    assert ran.code == 0, ran.err
    rows = json.loads(ran.out)["rows"]
    times = [row["switches"][1]["label_s"] for row in rows]
    assert times[0] == 0.1 and times == sorted(times)
    assert times[1] == 0.7  # ln 2 of one second, in whole ticks
    assert [row["missed"] for row in rows] == [0, 0, 0]


@pytest.mark.parametrize(
    ("head", "before", "within"), [("scene", "dark", "bright"), ("emotion", "quiet", "loud")]
)
def test_flash_and_beep_are_said_at_once_or_smoothed_away(
    run: Run, tmp_path: Path, head: str, before: str, within: str
) -> None:
    """100 ms each: without smoothing two flips in and two out; half a second of it passes over both."""
    clip = flash_and_beep(tmp_path / "flash.mp4", (1.0, 2.0))
    model = write_meter(tmp_path / "meter.ts")
    truth = [f"--switch={at}={what}" for at, what in ((0, before), (1, within), (1.2, before), (2, within))]
    ran = run(
        "profile", "detect", clip, *truth, "--head", head, "--hold", "1", "--smoothing", "0,2", "--json",
        "--model", model, "--device", "cpu",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    raw, smooth = json.loads(ran.out)["rows"]
    assert [raw["switches"][i]["label_s"] for i in (1, 3)] == [0.1, 0.1]
    assert raw["missed"] == 0 and raw["flips_per_min"] > 0
    assert [smooth["switches"][i]["label_s"] for i in (1, 3)] == [None, None]
    assert smooth["flips_per_min"] == 0


def test_unknown_label_is_refused_with_the_known_ones(run: Run, tmp_path: Path) -> None:
    model = write_meter(tmp_path / "meter.ts")
    ran = run("profile", "detect", "x.mp4", "--switch", "0=forest", "--model", model, "--device", "cpu")
    assert ran.code == 2
    assert "--switch must name a label of scene, got forest; one of dark, bright" in ran.err


def test_grid_is_every_combination() -> None:
    assert parse_grid(["hop=50,100", "threads=1,2"]) == [
        {"hop": "50", "threads": "1"},
        {"hop": "50", "threads": "2"},
        {"hop": "100", "threads": "1"},
        {"hop": "100", "threads": "2"},
    ]


@pytest.mark.parametrize(
    ("grid", "rule"),
    [
        (["hop"], "--vary takes NAME=VALUE,VALUE"),
        (["hop=1,,2"], "--vary takes NAME=VALUE,VALUE"),
        (["hop=1", "hop=2"], "--vary names each setting once"),
        (["hopp=1"], "--vary must name a setting, got hopp"),
        (["hop=" + ",".join(map(str, range(300)))], "a sweep has at most 200 combinations"),
    ],
)
def test_grid_that_is_none_is_refused(grid: list, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        parse_grid(grid)


def cell(late_ms: float, cost: float, dropped: float = 0.0) -> Cell:
    return Cell(settings={}, late_ms=late_ms, cpu_s_per_s=cost, dropped_share=dropped)


def test_cheapest_within_the_target_that_holds_is_chosen() -> None:
    cells = [
        cell(90, 0.5),
        cell(140, 0.3),
        cell(140, 0.1, dropped=0.02),
        cell(300, 0.05),
        Cell(settings={}, error="x"),
    ]
    assert choose(cells, 150) == 1
    assert choose(cells, 50) is None
    assert choose(cells, None) == 0
