"""Hostile media against the confined reader, one process each: `python -m tests.faults.hostile --count 5000`.

Each damaged file is read to its end, pictures rendered and ticks assembled, in a process of its own that has
taken from itself what the decode process takes (services/process.py: memory, files, core dumps, new rights)
and that the kernel ends after CPU_S seconds of processor time. The verdicts:

    decoded   read to its end, with whatever was left out
    refused   one SourceRefused, in one line
    escaped   any other exception: a bug of ours
    died      killed by a signal: a bug of the library, which costs this one source
    hung      neither, for WALL_S seconds

The process that starts them is forked from, never touched: importing the library 5,000 times takes hours.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import resource
import select
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.errors import SourceError
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import parse_source
from streamfuse.services.process import DECODE_MEMORY, confine
from streamfuse.ticks.assemble import Assembler
from streamfuse.types import MS
from tests.faults.mutate import mutate, originals

CPU_S = 10
WALL_S = 60
PEAK_BYTES = 1_500_000_000
"""What one file may make the process hold."""

_DECODED, _REFUSED, _ESCAPED = 0, 10, 11


@dataclass(frozen=True)
class Verdict:
    """How the reading of one file ended, and what it cost."""

    name: str
    kind: str
    said: str
    cpu_s: float
    peak_bytes: int

    @property
    def bad(self) -> bool:
        return self.kind not in ("decoded", "refused") or self.peak_bytes > PEAK_BYTES


def read_whole(path: Path, decode: DecodeConfig | None = None) -> int:
    """Do what the decode process does with a recording; return how many ticks came of it."""
    ticks = TickConfig()
    assembler = Assembler("hostile", ticks, mode="recorded", hop_ns=100 * MS, context_samples=352)
    source = parse_source(str(path))
    made = 0
    with open_decoder(
        source, decode=decode or DecodeConfig(), ticks=ticks, mode="recorded", picture_side=192
    ) as decoder:
        for item in decoder:
            made += len(assembler.push(item, 0))
    return made + len(assembler.flush())


def judge(name: str, read: Callable[[], object], *, cpu_s: int = CPU_S) -> Verdict:
    """Run `read` in a confined fork of this process and say how it ended."""
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        inherited = psutil.Process().memory_info().vms
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            # It holds less than we do: pages of mapped files are not copied before they are touched.
            os.write(tell, str(psutil.Process().memory_info().rss).encode())
            os._exit(_be_the_child(read, said.fileno(), cpu_s, inherited))
        os.close(tell)
        handle = os.pidfd_open(pid)
        hung = not select.select([handle], [], [], WALL_S)[0]
        if hung:
            os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        os.close(handle)
        with os.fdopen(told, "rb") as first:
            given = int(first.read() or 0)
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
    code = os.waitstatus_to_exitcode(status)
    kinds = {_DECODED: "decoded", _REFUSED: "refused", _ESCAPED: "escaped"}
    kind = "hung" if hung else kinds.get(code, "died")
    if kind == "died":
        text = f"exit {code}; {text}"
    return Verdict(name, kind, text, usage.ru_utime + usage.ru_stime, max(0, usage.ru_maxrss * 1024 - given))


def _be_the_child(read: Callable[[], object], out: int, cpu_s: int, inherited: int) -> int:
    """inherited: bytes of address space that came with the fork, and are nothing of what is read."""
    sys.stdout = sys.stderr = os.fdopen(out, "w", buffering=1)
    faulthandler.disable()  # of the test runner; a crash is told by its exit code
    confine(DECODE_MEMORY + inherited)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    try:
        read()
    except SourceError as error:
        print(error)
        return _REFUSED if "\n" not in str(error) else _ESCAPED
    except BaseException:  # noqa: BLE001  the parent is told of it, whatever it is
        traceback.print_exc()
        return _ESCAPED
    return _DECODED


def verdicts(count: int, seed: int, folder: Path) -> Iterator[Verdict]:
    """`count` damaged files, in turn of each container, and what became of each."""
    files = originals(folder)
    contents = [file.read_bytes() for file in files]
    for number in range(count):
        which = number % len(files)
        dice = random.Random(f"{seed} {number}")
        path = folder / f"{number}{files[which].suffix}"
        path.write_bytes(mutate(contents[which], dice, contents))
        yield judge(path.name, lambda path=path: read_whole(path))  # type: ignore[misc]
        path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged media against the confined reader.")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that ended badly")
    arguments = parser.parse_args()
    kinds: Counter[str] = Counter()
    cpu_s, peak_bytes, bad = 0.0, 0, 0
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        for verdict in verdicts(arguments.count, arguments.seed, Path(folder)):
            kinds[verdict.kind] += 1
            cpu_s, peak_bytes = max(cpu_s, verdict.cpu_s), max(peak_bytes, verdict.peak_bytes)
            if verdict.bad:
                bad += 1
                print(f"{verdict.name}: {verdict.kind}: {verdict.said}", flush=True)
                if arguments.keep is not None:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    damaged = Path(folder, verdict.name)
                    (arguments.keep / verdict.name).write_bytes(damaged.read_bytes())
    print(f"{arguments.count} files, seed {arguments.seed}: {dict(kinds)}; {bad} escapes")
    print(f"worst: {cpu_s:.2f} s of processor time, {peak_bytes / 1e6:.0f} MB resident")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
