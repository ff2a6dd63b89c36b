"""One short seed of what `python -m tests.nemesis` does for minutes."""

from __future__ import annotations

import re

import pytest

from tests.nemesis.__main__ import main


@pytest.mark.timeout(400)
def test_nemesis_of_one_minute_breaks_no_promise(capfd: pytest.CaptureFixture[str]) -> None:
    """Times are given ten times as long: other tests may run beside it. This seed begins with a full disk, a
    camera that trickles, the end of everything at once, a clock that steps, and a supervisor's end."""
    code = main(["--seed", "793", "--minutes", "1", "--slack", "10"])
    said = capfd.readouterr()
    assert code == 0, said.out + said.err
    assert "0 broken" in said.out
    assert re.search(r"recorded: 0 of [1-9]\d* bytes differ", said.out), said.out
