"""Compiled kernels are kept where nobody else can put code, and the next process finds them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from streamfuse.errors import ConfigError
from streamfuse.kernels import kept
from streamfuse.kernels.kept import kernel_cache

# Compiles or loads one kernel; says how often numba found it on disk, and what the caller's own setting is.
USES = """
import numba
from streamfuse.kernels import mfcc_cpu
assert mfcc_cpu.butterfly(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)[0] == 1.0
stats = mfcc_cpu.butterfly.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), repr(numba.config.CACHE_DIR))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "streamfuse"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_cache_is_made_for_this_user_alone(home: Path) -> None:
    before = os.umask(0)
    try:
        folder = kernel_cache()
    finally:
        os.umask(before)
    assert folder.parent == home
    assert folder.name.startswith(f"numba-{numba.__version__}-")
    assert mode(folder) == mode(home) == 0o700
    assert kernel_cache() == folder


def test_the_users_own_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir(mode=0o755)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert kernel_cache().parent == tmp_path / "mine"
    assert mode(kernel_cache()) == 0o700


@pytest.mark.parametrize("wide", [0o755, 0o770, 0o701])
def test_cache_that_others_can_enter_is_refused(wide: int) -> None:
    kernel_cache().chmod(wide)
    with pytest.raises(ConfigError, match=rf"must be its owner's alone \(0700\), got mode 0{wide:o}"):
        kernel_cache()


def test_cache_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """As it is where another user has made the folder in /tmp first."""
    home.parent.mkdir()
    home.mkdir(mode=0o1777)
    home.chmod(0o1777)
    theirs = kernel_cache()
    monkeypatch.setattr(kept, "_check", lambda *_: None)
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    with pytest.raises(ConfigError, match=rf"must be its owner's alone .* of user {theirs.stat().st_uid} "):
        kernel_cache()


def test_folder_above_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    home.mkdir(parents=True)
    monkeypatch.setattr(kept, "os", _OtherUser())
    with pytest.raises(ConfigError, match=r"must be in a folder of the user's, got .*NUMBA_CACHE_DIR$"):
        kept._check(_stat(uid=4321, mode=0o755), home)
    kept._check(_stat(uid=0, mode=0o755), home)


class _OtherUser:
    def getuid(self) -> int:
        return 1234


def _stat(*, uid: int, mode: int) -> os.stat_result:
    return os.stat_result((0o040000 | mode, 0, 0, 0, uid, 0, 0, 0, 0, 0))


def test_folder_that_everybody_may_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "open"))
    with pytest.raises(ConfigError, match="kernel cache must be in a folder of the user's, got mode 0777"):
        kernel_cache()


def test_link_in_place_of_the_cache_is_refused(tmp_path: Path) -> None:
    folder = kernel_cache()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="0700"):
        kernel_cache()


def test_other_sources_have_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numba does not see that a function has changed which its own calls."""
    before = kernel_cache()
    (tmp_path / "kept.py").write_text("# other sources\n")
    monkeypatch.setattr(kept, "__file__", str(tmp_path / "kept.py"))
    assert kernel_cache() != before


def test_next_process_finds_the_kernels_there(home: Path) -> None:
    first, second = _uses(), _uses()
    assert first.stdout.split() == ["0", "1", "''"], first.stderr
    assert second.stdout.split() == ["1", "0", "''"], second.stderr
    assert list(kernel_cache().rglob("*.nbc"))


def test_process_without_a_safe_cache_works_and_says_so(home: Path) -> None:
    kernel_cache().chmod(0o777)
    ran = _uses()
    assert ran.stdout.split() == ["0", "1", "''"], ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith(
        "kernels are compiled anew in each process: a kernel cache must be its owner's alone"
    )
    assert not list(home.rglob("*.nbc"))


def _uses() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", USES], capture_output=True, text=True, check=True)
