"""A real file system of a few kilobytes, so that a disk is full when a test wants it to be.

A tmpfs, mounted for the length of a `with`; it needs root (CAP_SYS_ADMIN), and skips by name without.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """The mount point of a new file system of `size` bytes."""
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "streamfuse-test", folder],
            capture_output=True,
            text=True,
        )
        if mounted.returncode != 0:
            pytest.skip(f"a small disk needs the right to mount: {mounted.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
