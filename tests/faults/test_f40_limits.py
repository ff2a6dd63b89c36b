"""F2, F37, F40: the decode process is confined, and dies alone; a run that is killed whole is begun again.

One run for all of these, in order.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streamfuse.services.process import DECODE_CPU_S, DECODE_FILES, DECODE_MEMORY, CpuAllowance
from tests.clips import Clip
from tests.faults.killer import kill_all, processes_of, shared_memory
from tests.faults.starve import HOARD, starved
from tests.integration.live import LiveRun

PATTERN = "lavfi:testsrc2=size=64x48:rate=10"
BUSY = "lavfi:testsrc2=size=1280x720:rate=30"
"""Uses up a second of processor time in seconds, on an idle machine too."""
SOURCES = {"left": BUSY, "right": PATTERN}


@pytest.fixture(scope="module")
def no_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, the decode process of `left` gets no thread."""
    return tmp_path_factory.mktemp("starve") / "switch"


@pytest.fixture(scope="module")
def run(tiny_model: Path, no_threads: Path) -> Iterator[LiveRun]:
    env = starved(no_threads, "streamfuse.services.decode left")
    with LiveRun(SOURCES, model=tiny_model, env=env) as running:
        for name in SOURCES:
            running.until(lambda n=name: len(running.labels(n)) > 3, f"labels of {name}")
        yield running


def limits(pid: int) -> dict[str, tuple[str, str]]:
    """(soft, hard) by name, as the kernel says."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    found = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return {fields[0]: (fields[1], fields[2]) for fields in found}


def test_decode_process_is_confined(run: LiveRun) -> None:
    pid = run.child("decode", "left").pid
    found = limits(pid)
    assert found["Max address space"] == (str(DECODE_MEMORY),) * 2
    assert found["Max open files"] == (str(DECODE_FILES),) * 2
    assert found["Max core file size"] == ("0", "0")
    assert 0 < int(found["Max cpu time"][0]) < 3 * DECODE_CPU_S
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status


def test_other_processes_are_not_by_mistake(run: LiveRun) -> None:
    """What above finds is there because we set it: the analyzer, which needs more, has it not."""
    found = limits(run.child("analyze").pid)
    assert found["Max address space"][0] == "unlimited"
    assert found["Max cpu time"][0] == "unlimited"


@pytest.mark.parametrize("limit", [resource.RLIMIT_NOFILE, resource.RLIMIT_CPU])
def test_f40_decode_process_without_resources_dies_alone_and_is_named(run: LiveRun, limit: int) -> None:
    """Handles and processor time, taken away from outside."""
    victim, mark = run.child("decode", "left"), len(run.complaints())
    session, other = run.session("left"), run.session("right")
    if limit == resource.RLIMIT_NOFILE:
        victim.rlimit(limit, (0, 0))
        # What needs a new handle now is the number of its next session: the publisher's death makes one.
        run.child("publish").kill()
        run.until(lambda: not victim.is_running(), "it cannot go on")
    else:
        victim.rlimit(limit, (1, resource.RLIM_INFINITY))
        run.until(lambda: not victim.is_running(), "it dies")
    run.until(lambda: run.session("left") > session, "labels of left again")
    said = run.complaints()[mark:]
    assert any("decode left: " in line for line in said), said
    if limit == resource.RLIMIT_NOFILE:
        run.until(lambda: run.session("right") > other, "labels of right after the publisher's death")
    else:
        assert run.session("right") == other
        assert not any("right" in line or "analyze" in line for line in said), said


def test_f40_decode_process_that_takes_too_much_memory_dies_alone_and_is_named(run: LiveRun) -> None:
    """It stops at its own limit, long before the machine has none left."""
    victim, mark = run.child("decode", "left"), len(run.complaints())
    session, other = run.session("left"), run.session("right")
    victim.send_signal(HOARD)
    run.until(lambda: not victim.is_running(), "it dies")
    run.until(lambda: run.session("left") > session, "labels of left again")
    said = run.complaints()[mark:]
    assert [line for line in said if "MemoryError" in line], said
    assert run.session("right") == other
    assert not any("right" in line or "analyze" in line for line in said), said


def test_f40_decode_process_without_threads_is_named_and_comes_back(run: LiveRun, no_threads: Path) -> None:
    session, other, mark = run.session("left"), run.session("right"), len(run.complaints())
    no_threads.touch()
    run.child("decode", "left").kill()
    run.until(lambda: any("can't start new thread" in x for x in run.complaints()[mark:]), "it is named")
    no_threads.unlink()
    run.until(lambda: run.session("left") > session, "labels of left again")
    assert run.session("right") == other
    said = run.complaints()[mark:]
    assert not any("right" in line or "analyze" in line for line in said), said


def test_f2_whole_run_killed_at_once_is_begun_again(run: LiveRun, tiny_model: Path) -> None:
    """The last of this module's run: supervisor and children in one blow; sockets and locks stay behind."""
    sessions, before = {name: run.session(name) for name in SOURCES}, shared_memory()
    family = kill_all(run.process.pid)
    assert len(family) >= 5
    run.process.wait(30)
    assert processes_of(str(run.run_dir)) == []
    assert list(run.run_dir.glob("*.sock"))
    with LiveRun(SOURCES, model=tiny_model, run_dir=run.run_dir) as again:
        for name in SOURCES:
            again.until(lambda n=name: len(again.labels(n)) > 3, f"labels of {name}")
            assert min(line["session"] for line in again.labels(name)) > sessions[name]
        assert again.stop() == 0, again.said()
        assert again.complaints() == []
    assert processes_of(str(run.run_dir)) == []
    assert shared_memory() == before


# -- the allowance of processor time, by itself ---------------------------------------------------------

LOOP = """
from streamfuse.services.process import CpuAllowance
allowance = CpuAllowance(1)
for turn in range(TURNS):
    sum(range(3_000_000))
    allowance.renew()
print("got on", flush=True)
while True:
    pass
"""


def test_processor_time_is_allowed_anew_while_reading_gets_on() -> None:
    """Three seconds of work in small steps pass an allowance of one; a loop without any does not."""
    done = subprocess.run(
        [sys.executable, "-c", LOOP.replace("TURNS", "60")], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "got on\n"
    assert done.returncode == -24  # SIGXCPU


def test_allowance_respects_a_hard_limit_of_others() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    try:
        CpuAllowance(1000)
        assert resource.getrlimit(resource.RLIMIT_CPU)[1] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


# -- F37 -------------------------------------------------------------------------------------------------


def test_f37_tiny_dev_shm_is_no_obstacle(tiny_model: Path, tmp_path: Path) -> None:
    """Containers give 64 MB of it, or less; we use none."""
    clip = Clip(seconds=1, width=64, height=48, fps=10).write(tmp_path / "a.mp4")
    script = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/full && exec "$@"'
    command = [sys.executable, "-m", "streamfuse.cli.main", "process", str(clip), "-o", str(tmp_path / "out")]
    command += ["--model", str(tiny_model), "--device", "cpu"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=120
    )
    if "unshare failed" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip("a mount namespace needs root")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a.labels.jsonl").read_text().count("\n") >= 10


def test_f37_shared_memory_is_not_used() -> None:
    """F37 and F38 are about segments that nobody has: nothing of ours makes one."""
    root = Path(__file__).parents[2]
    for file in [*(root / "streamfuse").rglob("*.py"), *(root / "services").rglob("*.py")]:
        text = file.read_text()
        assert "shared_memory" not in text, file
        assert "shm_open" not in text, file


def test_the_killer_leaves_nobody(tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()', sys.argv[1]])"
    with subprocess.Popen([sys.executable, "-c", child, str(tmp_path)], stdin=subprocess.PIPE) as process:
        while len(processes_of(str(tmp_path))) < 2:
            assert process.poll() is None
        kill_all(process.pid)
    assert processes_of(str(tmp_path)) == []
    with pytest.raises(psutil.NoSuchProcess):
        kill_all(process.pid)
