"""`run --view`: with an address, without one, and in front of a source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamfuse.cli import run as module
from streamfuse.cli.main import main
from streamfuse.config import AppConfig, SourceConfig
from streamfuse.view.address import USUAL


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[AppConfig, dict[str, SourceConfig]]]:
    taken: list[tuple[AppConfig, dict[str, SourceConfig]]] = []

    def watch(read: Callable[[], tuple[AppConfig, dict[str, SourceConfig]]], *_: Any, **__: Any) -> int:
        taken.append(read())
        return 0

    monkeypatch.setattr(module, "watch", watch)
    return taken


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["door=lavfi:testsrc"], None),
        (["door=lavfi:testsrc", "--view"], USUAL),
        (["--view", "door=lavfi:testsrc"], USUAL),
        (["--view", "127.0.0.1:9000", "door=lavfi:testsrc"], "127.0.0.1:9000"),
        (["--view=:9000", "door=lavfi:testsrc"], ":9000"),
        (["--view", "--json", "door=lavfi:testsrc"], USUAL),
        (["--set", "view.address=127.0.0.1:1", "door=lavfi:testsrc"], "127.0.0.1:1"),
        (["--set", "view.address=127.0.0.1:1", "--view", "[::1]:2", "door=lavfi:testsrc"], "[::1]:2"),
    ],
)
def test_view_takes_an_address_or_none_and_no_source(
    watched: list[tuple[AppConfig, dict[str, SourceConfig]]], arguments: list[str], address: str | None
) -> None:
    assert main(["run", *arguments]) == 0
    config, sources = watched[0]
    assert config.view.address == address
    assert config.wants_pictures == (address is not None)
    assert list(sources) == ["door"]


def test_run_that_others_could_watch_without_a_token_does_not_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAMFUSE_VIEW_TOKEN", raising=False)
    assert main(["run", "--view", "0.0.0.0:8765", "door=lavfi:testsrc"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "streamfuse: a page that others can reach needs a token, got 0.0.0.0:8765; set STREAM"
    )
    assert error.count("\n") == 1
