"""The catalogue in README.md is complete; what it points to is there, and is not left out where it is run."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (Path(__file__).parent / "README.md").read_text()
ROWS = dict(re.findall(r"^\| (F\d+) \| (.+) \|$", PAGE, re.MULTILINE))
FAULTS = [f"F{number}" for number in range(1, 43)]
SKIPS = re.compile(r"\bpytest\.(skip|importorskip)\(|\bmark\.(skip|skipif|needs_\w+)\b")


def named(fault: str) -> list[tuple[Path, str]]:
    """The tests of a fault: file and function."""
    return [(ROOT / file, name) for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", ROWS[fault])]


@cache
def functions(file: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(file.read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@cache
def imported(file: Path) -> dict[str, Path]:
    """What a file takes from others of ours, and from which."""
    found = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            path = ROOT.joinpath(*node.module.split(".")).with_suffix(".py")  # type: ignore[union-attr]
            found |= {alias.asname or alias.name: path for alias in node.names if path.is_file()}
    return found


def places(file: Path) -> list[Path]:
    """Where a name that is used in a file may be defined: there, or as a fixture in a conftest.py above."""
    above = [folder / "conftest.py" for folder in file.parents if folder.is_relative_to(ROOT / "tests")]
    return [file, *(path for path in above if path.is_file())]


@cache
def may_be_skipped(file: Path, name: str) -> bool:
    """Whether it, or anything of ours that it calls or is given, says `skip` under some condition."""
    if (source := imported(file).get(name)) is not None:
        return may_be_skipped(source, name)
    home = next((place for place in places(file) if name in functions(place)), None)
    if home is None:
        return False
    function = functions(home)[name]
    if SKIPS.search(ast.unparse(function)) or (home == file and SKIPS.search(_mark_of(file))):
        return True
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    given = {argument.arg for argument in function.args.args}
    return any(may_be_skipped(home if other in used else file, other) for other in (used | given) - {name})


def _mark_of(file: Path) -> str:
    nodes = ast.parse(file.read_text()).body
    return "\n".join(
        ast.unparse(n) for n in nodes if isinstance(n, ast.Assign) and "pytestmark" in ast.unparse(n)
    )


def test_catalogue_has_every_fault_once_and_in_order() -> None:
    assert re.findall(r"^\| (F\d+) \|", PAGE, re.MULTILINE) == FAULTS


@pytest.mark.parametrize("fault", FAULTS)
def test_catalogue_names_tests_that_exist(fault: str) -> None:
    assert named(fault)
    for file, name in named(fault):
        assert file.is_file(), file
        assert name in functions(file), f"{file} has no {name}"


@pytest.mark.parametrize("fault", FAULTS)
def test_catalogue_has_a_test_of_each_fault_that_runs_everywhere(fault: str) -> None:
    """Whatever machine it is: without root, GPU, and packages of the system."""
    skipped = [name for file, name in named(fault) if may_be_skipped(file, name)]
    assert len(skipped) < len(named(fault)), f"all of them may be skipped: {skipped}"


@pytest.mark.parametrize(
    ("file", "name", "skipped"),
    [
        ("kernels/test_mfcc.py", "test_mfcc_of_real_speech_matches_both_judges", True),  # its own mark
        ("test_batch_cuda.py", "test_recorded_answers_are_the_same_bits_each_time", True),  # that of its file
        ("faults/test_f40_limits.py", "test_f37_tiny_dev_shm_is_no_obstacle", True),  # it says so
        ("faults/test_f20_f21_f22_disks.py",
         "test_f20_a_live_run_on_a_full_disk_goes_on_counts_and_tells", True),  # a tool that it uses
        ("integration/test_cameras.py", "test_camera_comes_back_in_a_new_session", True),  # a fixture
        ("faults/test_f20_f21_f22_disks.py", "test_f20_half_a_line_is_taken_back", False),
    ],
)  # fmt: skip
def test_what_may_be_skipped_is_known(file: str, name: str, skipped: bool) -> None:
    path = ROOT / "tests" / file
    assert name in functions(path)
    assert may_be_skipped(path, name) == skipped


def test_catalogue_describes_every_tool() -> None:
    for file in Path(__file__).parent.glob("*.py"):
        if not file.name.startswith(("test_", "__")):
            assert f"`{file.name}`" in PAGE or f"tests.faults.{file.stem}" in PAGE, file.name
