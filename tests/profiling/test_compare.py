from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from streamfuse.errors import ConfigError
from streamfuse.profiling.compare import NO_DIFFERENCE, Compared, compare_reports, parse_condition, unlike
from streamfuse.profiling.schema import Report, report_text
from streamfuse.types import MS, NS
from tests.cli.conftest import Ran, Run
from tests.profiling.made import made_label, made_recording, made_report


def report(seed: int, scale: float = 1.0, cores: float = 0.5) -> Report:
    ages = np.random.default_rng(seed).gamma(20, 1, 1200) * scale * MS
    return made_report(made_recording([round(age) for age in ages], cores=cores))


ONE, ALIKE, SLOWER = report(1), report(2), report(3, scale=1.25, cores=0.7)
REPORTS = {"one": ONE, "alike": ALIKE, "slower": SLOWER}
NAMES = {id(made): name for name, made in REPORTS.items()}


@cache
def compared(a: str, b: str) -> list[Compared]:
    return compare_reports(REPORTS[a], REPORTS[b])


def test_runs_of_the_same_kind_show_no_difference() -> None:
    rows = {row.metric: row for row in compared("one", "alike")}
    assert {"mean", "p50", "p90", "p95", "p99", "p99_9", "max", "cpu", "memory", "dropped", "missed"} == set(
        rows
    )
    for metric in ("mean", "p50", "p95", "p99", "cpu"):
        assert rows[metric].verdict == NO_DIFFERENCE, metric
        assert rows[metric].low is not None and rows[metric].low <= 1 <= (rows[metric].high or 0)


def test_slower_run_is_seen_as_slower() -> None:
    rows = {row.metric: row for row in compared("one", "slower")}
    assert rows["p50"].differs and rows["cpu"].differs
    assert rows["p50"].ratio == pytest.approx(1.25, abs=0.05)
    assert rows["p50"].verdict == f"{rows['p50'].ratio - 1:.0%} higher in B"  # type: ignore[operator]
    assert (rows["cpu"].low or 0) < 0.8 / 0.6 * 1.02 and rows["cpu"].verdict.endswith("higher in B")


def test_paced_beside_saturated_is_refused() -> None:
    with pytest.raises(ConfigError, match="paced and saturated reports are never compared"):
        compare_reports(ONE, made_report(made_recording([MS] * 200), "saturated"))


def test_saturated_runs_are_compared_by_their_speed() -> None:
    fast = made_report(made_recording([MS] * 200), "saturated")
    assert [row.metric for row in compare_reports(fast, fast)] == ["speed", "cpu", "memory"]


def test_few_seconds_tell_nothing_of_processor_time() -> None:
    """Five seconds: their mean moves by more than a fifth at times, so neither answer would be true."""
    short = made_report(made_recording([MS] * 40, cores=0.5))
    busier = made_report(made_recording([MS] * 40, cores=0.7))
    rows = {row.metric: row for row in compare_reports(short, busier)}
    assert rows["cpu"].verdict == "too few seconds to tell"
    assert (rows["cpu"].low, rows["cpu"].high) == (None, None)
    assert rows["cpu"].ratio == pytest.approx(0.8 / 0.6, rel=0.05)


def test_what_else_differs_is_told() -> None:
    assert unlike(ONE, ALIKE) == []
    (line,) = unlike(ONE, made_report(made_recording([MS] * 100, sources=("a", "b"))))
    assert line == "streams: 1 / 2"


@pytest.mark.parametrize(
    ("text", "a", "b", "broken"),
    [
        ("p50>1.1x", ONE, SLOWER, True),
        ("p50>1.5x", ONE, SLOWER, False),
        ("p50>1.0x", ONE, ALIKE, False),  # beyond the bound perhaps, but no difference was seen
        ("p50<0.9x", SLOWER, ONE, True),
        ("p99.9>1ms", ONE, ONE, True),
        ("p99.9>1000ms", ONE, ONE, False),
        ("cpu>1.1x", ONE, SLOWER, True),
        ("cpu>0.1s/s", ONE, ONE, True),
        ("dropped>0%", ONE, ONE, False),
        ("memory>1.0x", ONE, ONE, False),
        (" max > 1 ms ", ONE, ONE, True),
    ],
)
def test_condition_breaks_when_it_should(text: str, a: Report, b: Report, broken: bool) -> None:
    rule = parse_condition(text)
    rows = [row for row in compared(NAMES[id(a)], NAMES[id(b)]) if row.metric == rule.metric]
    assert [rule.broken_by(row) for row in rows] == [broken]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99", r"--fail-if takes METRIC > NUMBER and a unit, got 'p99'"),
        ("p99>1.1", r"--fail-if p99 must be in x or ms"),
        ("p98>1.1x", r"--fail-if must name a known metric, got p98"),
        ("dropped>3ms", r"--fail-if dropped must be in x or %"),
        ("p99>=1x", r"--fail-if takes METRIC > NUMBER"),
        ("p99>1e3ms", r"--fail-if takes METRIC > NUMBER"),
    ],
)
def test_condition_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_condition(text)


@pytest.fixture
def compare(run: Run, tmp_path: Path):  # type: ignore[no-untyped-def]
    def run_compare(a: Report, b: Report, *options: str) -> Ran:
        for name, one in (("a", a), ("b", b)):
            (tmp_path / f"{name}.json").write_text(report_text(one))
        return run("profile", "compare", tmp_path / "a.json", tmp_path / "b.json", *options)

    return run_compare


def test_command_shows_both_and_fails_where_a_rule_holds(compare) -> None:  # type: ignore[no-untyped-def]
    ran = compare(ONE, ALIKE, "--fail-if", "p99>1.1x")
    assert (ran.code, ran.err) == (0, "")
    assert NO_DIFFERENCE in ran.out
    ran = compare(ONE, SLOWER, "--fail-if", "p50>1.1x", "--fail-if", "p50>1s/s".replace("1s/s", "1000ms"))
    assert ran.code == 1
    assert ran.err == "streamfuse: --fail-if p50>1.1x holds\n"


def test_rule_about_what_the_reports_do_not_have_fails(compare) -> None:  # type: ignore[no-untyped-def]
    short = made_report(made_recording([MS] * 50))
    ran = compare(short, short, "--fail-if", "p99>1.1x")
    assert ran.code == 1
    assert ran.err == "streamfuse: --fail-if p99>1.1x: the reports have no p99\n"


def blink() -> Report:
    """Saturated, and over in less than a second: no second of it was counted."""
    made = made_recording([MS // 20] * 30)
    made.end_ns = made.begin_ns + NS // 2
    for answers in made.answers.values():  # thirty of them in that half second
        answers[:] = [replace(a, publish_ns=made.begin_ns + i * NS // 100) for i, a in enumerate(answers)]
    return made_report(made, "saturated")


@pytest.mark.parametrize("rule", ["speed<0.9x", "speed>0x"])
def test_rule_that_cannot_be_measured_fails_and_says_so(compare, rule: str) -> None:  # type: ignore[no-untyped-def]
    ran = compare(blink(), blink(), "--fail-if", rule)
    assert ran.code == 1
    assert ran.err == f"streamfuse: --fail-if {rule} cannot be judged: too few seconds were measured\n"
    assert "nan" not in ran.out and "too few seconds to tell" in ran.out


def test_rule_about_a_ratio_to_nothing_fails_where_there_is_something_now(compare) -> None:  # type: ignore[no-untyped-def]
    lossy = made_recording([20 * MS] * 1200)
    lossy.on_label(made_label(1205, MS, dropped=5))
    ran = compare(ONE, made_report(lossy), "--fail-if", "dropped>1.1x")
    assert (ran.code, ran.err) == (
        1,
        "streamfuse: --fail-if dropped>1.1x cannot be judged: A has a dropped of 0\n",
    )
    assert compare(ONE, ONE, "--fail-if", "dropped>1.1x").code == 0
