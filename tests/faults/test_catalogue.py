"""The catalogue in README.md is complete, and what it points to is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (Path(__file__).parent / "README.md").read_text()
ROWS = dict(re.findall(r"^\| (F\d+) \| (.+) \|$", PAGE, re.MULTILINE))
FAULTS = [f"F{number}" for number in range(1, 43)]


def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_catalogue_has_every_fault_once_and_in_order() -> None:
    assert re.findall(r"^\| (F\d+) \|", PAGE, re.MULTILINE) == FAULTS


@pytest.mark.parametrize("fault", FAULTS)
def test_catalogue_names_tests_that_exist(fault: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", ROWS[fault])
    assert named
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert name in names_in(ROOT / file), f"{file} has no {name}"


def test_catalogue_describes_every_tool() -> None:
    for file in Path(__file__).parent.glob("*.py"):
        if not file.name.startswith(("test_", "__")):
            assert f"`{file.name}`" in PAGE or f"tests.faults.{file.stem}" in PAGE, file.name
