"""A skip for want of packages that are here is a failure (conftest.py)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests import conftest

WANTED = "no Chromium here (bash tests/system-packages.sh)"


@pytest.mark.parametrize(
    ("reason", "installed", "outcome"),
    [
        (WANTED, True, "failed"),
        (WANTED, False, "skipped"),
        ("no CUDA GPU here", True, "skipped"),
    ],
)
def test_skip_in_spite_of_all_packages_fails(
    reason: str,
    installed: bool,
    outcome: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "packages_are_installed", lambda: installed)

    def skip() -> None:
        pytest.skip(reason)

    call = pytest.CallInfo.from_call(skip, "call")
    report = pytest.TestReport.from_item_and_call(request.node, call)
    assert report.skipped
    hook = conftest.pytest_runtest_makereport(request.node, call)
    next(hook)
    with pytest.raises(StopIteration) as ended:
        hook.send(report)
    assert cast(Any, ended.value).value.outcome == outcome
    assert outcome == "skipped" or reason in str(report.longrepr)
