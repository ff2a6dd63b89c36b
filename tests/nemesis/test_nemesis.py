"""One short seed of what `python -m tests.nemesis` does for minutes."""

from __future__ import annotations

import re

import pytest

from tests.nemesis.__main__ import main


@pytest.mark.timeout(400)
def test_nemesis_of_one_minute_breaks_no_promise(capfd: pytest.CaptureFixture[str]) -> None:
    """Times are given ten times as long: other tests may run beside it. This seed begins with a full disk, a
    clock that steps, and the end of all at once, then of the supervisor."""
    code = main(["--seed", "11990", "--minutes", "1", "--slack", "10", "--machine"])
    said = capfd.readouterr()
    assert code == 0, said.out + said.err
    assert "0 broken" in said.out
    assert re.search(r"recorded: 0 of [1-9]\d* bytes differ", said.out), said.out
