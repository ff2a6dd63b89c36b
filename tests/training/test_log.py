"""loss.csv: a header, every tenth step and every look at the held-out groups, each step once."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from streamfuse.training.progress import COLUMNS, Log
from tests.training.test_resume import Noisy


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_tells_loss_held_out_loss_and_rate(tmp_path: Path) -> None:
    log = Log(tmp_path / "loss.csv")
    Noisy(tmp_path).run(steps=25, patience=9, report=log.told)
    told = rows(log.path)
    assert list(told[0]) == list(COLUMNS)
    # Looks at every fourth step, a row at every tenth, and the last one.
    assert [int(row["step"]) for row in told] == [4, 8, 10, 12, 16, 20, 24, 25]
    assert [row["held_out"] for row in told] == ["1", "2", "", "3", "4", "5", "6", ""]
    assert float(told[0]["loss"]) > 0
    rates = [float(row["rate"]) for row in told]
    # Warm-up over 50 steps, times the cosine's: 0.01 * 4 / 50 * 0.5 * (1 + cos(3 pi / 25)).
    assert rates[0] == pytest.approx(0.000772, abs=1e-6)
    assert rates[-1] < rates[-2] < rates[-3]


def test_a_stage_of_few_steps_leaves_its_last_one(tmp_path: Path) -> None:
    log = Log(tmp_path / "loss.csv")
    Noisy(tmp_path).run(steps=3, report=log.told)
    assert [row["step"] for row in rows(log.path)] == ["3"]


def test_a_run_that_goes_on_leaves_no_step_twice(tmp_path: Path) -> None:
    whole = Log(tmp_path / "whole.csv")
    Noisy(tmp_path / "whole").run(patience=99, report=whole.told)
    broken = tmp_path / "broken.csv"
    with pytest.raises(KeyboardInterrupt):
        Noisy(tmp_path / "broken").run(patience=99, stop_at=23, report=Log(broken).told)
    assert rows(broken)[-1]["step"] == "20"
    with broken.open("a") as file:
        file.write("s,21")  # cut short by the kill
    again = Noisy(tmp_path / "broken")
    again.checks = [0.0] * 5
    again.run(patience=99, report=Log(broken).told)
    assert broken.read_text() == whole.path.read_text()


def test_another_stage_and_another_run_keep_what_is_not_theirs(tmp_path: Path) -> None:
    path = tmp_path / "loss.csv"
    path.write_text("clips,10,0.5\n")  # of a version without a header
    log = Log(path)
    for stage in ("sound", "picture"):
        for step in range(1, 21):
            log.told(stage, step / 20, {"step": step, "loss": 1.0, "rate": 0.1})
    Log(path).told("picture", 1.0, {"step": 1, "loss": 2.0, "rate": 0.1})
    Log(path).told("film", 0.5, {"clips": 10.0})
    told = [(row["stage"], row["step"], row["loss"]) for row in rows(path)]
    assert told == [("sound", "10", "1"), ("sound", "20", "1"), ("picture", "1", "2")]
