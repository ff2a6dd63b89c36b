"""docs/operations.md, SECURITY.md and the systemd units say what is so."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click import Command

from streamfuse.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]
UNITS = sorted((ROOT / "configs" / "systemd").glob("*.service"))
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def section(unit: Path, name: str) -> dict[str, list[str]]:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), dict_type=_Many)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.read_text())
    return {key: value.splitlines() for key, value in parser[name].items()}


class _Many(dict[str, object]):
    """Keeps every value of a key that stands more than once, as systemd does."""

    def __setitem__(self, key: str, value: object) -> None:
        if key in self and isinstance(value, list):
            value = [*self[key], *value]  # type: ignore[misc]
        super().__setitem__(key, value)


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / unit.name
    # The programs are where the page says they go; here they are not.
    copy.write_text(re.sub(r"/opt/streamfuse/\.venv/bin/\w+", "/bin/true", unit.read_text()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_unit_starts_what_there_is(unit: Path) -> None:
    (line,) = section(unit, "Service")["ExecStart"]
    words = shlex.split(line)
    if words[0].endswith("/streamfuse"):
        module, _, name = VERBS[words[1]][0].partition(":")
        command: Command = getattr(importlib.import_module(module), name)
        command.make_context("run", words[2:], resilient_parsing=False)
    else:
        module = words[2]
        assert (ROOT / "services" / f"{module.rpartition('.')[2]}.py").is_file()
        option = {"decode": "--source", "analyze": "--name"}.get(module.rpartition(".")[2])
        assert option is None or option in words
        assert "--config" in words


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_unit_is_hardened_and_watched(unit: Path) -> None:
    service = section(unit, "Service")
    for key in (
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "RestrictNamespaces",
        "ProtectKernelModules",
    ):
        assert service[key] == ["yes"], key
    assert service["ProtectSystem"] == ["strict"]
    assert service["CacheDirectoryMode"] == ["0700"]
    assert service["CapabilityBoundingSet"] == [""] or service["CapabilityBoundingSet"] == []
    assert {"MemoryMax", "TasksMax", "SystemCallFilter", "RestrictAddressFamilies"} <= service.keys()
    assert service["Type"] == ["notify"]
    assert int(service["WatchdogSec"][0]) >= 10
    # Numba and PyTorch write machine code as they run.
    assert "MemoryDenyWriteExecute" not in service
    # What decode takes from itself is done with setrlimit.
    assert not any("@resources" in line for line in service["SystemCallFilter"])


def said_by_the_program() -> str:
    """Every piece of text in the code."""
    files = [*(ROOT / "streamfuse").rglob("*.py"), *(ROOT / "services").glob("*.py")]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_error_in_the_table_is_said_by_the_program() -> None:
    table = OPERATIONS.partition("| said | it means | do |")[2]
    rules = re.findall(r"^\| ([a-z][^|]+?) \|", table, re.MULTILINE)
    assert len(rules) >= 15
    text = said_by_the_program()
    assert [rule for rule in rules if rule not in text] == []


def test_every_metric_that_is_named_is_in_the_list() -> None:
    """That the list is the registry's is tests/sinks/test_metrics.py's to see."""
    known = (ROOT / "docs" / "metrics.md").read_text()
    for name in set(re.findall(r"streamfuse_[a-z0-9_]+", OPERATIONS)):
        assert f"`{name.removesuffix('_bucket')}`" in known, name


@pytest.mark.parametrize("page", ["docs/operations.md", "SECURITY.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    for name in re.findall(r"`((?:tests|configs|docs)/[\w./@*-]+)`", text):
        assert list(ROOT.glob(name)) or list(ROOT.glob(f"{name}*")), name
    for name in re.findall(r"\]\(([\w./-]+)\)", text):
        assert ((ROOT / page).parent / name).exists(), name


def test_limits_that_are_promised_are_those_of_the_program() -> None:
    from streamfuse.media.limits import MAX_CHANNELS, MAX_STREAMS, RATES_HZ
    from streamfuse.services.analyze import DRY_RUN_S
    from streamfuse.services.process import DECODE_CPU_S, DECODE_FILES, DECODE_MEMORY

    text = " ".join((ROOT / "SECURITY.md").read_text().split())
    assert f"{DECODE_MEMORY >> 30} GiB of address space, {DECODE_FILES} files, {DECODE_CPU_S} s" in text
    assert (
        f"{MAX_STREAMS} streams, {MAX_CHANNELS} channels, {RATES_HZ[0] // 1000} to {RATES_HZ[1] // 1000} kHz"
        in text
    )
    assert f"within {DRY_RUN_S} s" in OPERATIONS or f"end within {DRY_RUN_S} s" in OPERATIONS
