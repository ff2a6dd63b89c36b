"""F36, P16: hostile media ends in words or in frames; whatever it does, it does to one confined process.

The full figure is `python -m tests.faults.hostile --count 5000`; here 300 of them.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from streamfuse.config import DecodeConfig
from tests.clips import Clip, png_bomb
from tests.faults.hostile import CPU_S, Verdict, judge, read_whole, verdicts
from tests.faults.mutate import CONTAINERS, mutate, originals

CI_COUNT = 300


@pytest.mark.timeout(120)
def test_f36_mutations_of_six_containers_never_escape(tmp_path: Path) -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for verdict in verdicts(CI_COUNT, seed=0, folder=tmp_path):
        assert not verdict.bad, verdict
        kinds[verdict.name.rpartition(".")[2], verdict.kind] += 1
    assert kinds.total() == CI_COUNT
    for suffix in CONTAINERS:  # the damage neither spares everything nor spoils everything
        assert kinds[suffix, "decoded"] > 0
    assert sum(count for (_, kind), count in kinds.items() if kind == "refused") > CI_COUNT / 10


def test_f36_mutations_are_repeatable_and_do_damage(tmp_path: Path) -> None:
    data = originals(tmp_path)[0].read_bytes()
    first, again = (mutate(data, random.Random("0 1")) for _ in range(2))
    assert first == again != data


# -- the judge itself can condemn ---------------------------------------------------------------------


def _escape() -> None:
    raise KeyError("a bug of ours")


def _take_memory() -> object:
    return mmap.mmap(-1, 5 << 30)


def _loop() -> None:
    while True:
        pass


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("read", "kind", "said"),
    [
        (_escape, "escaped", "KeyError: 'a bug of ours'"),
        (_take_memory, "escaped", "Cannot allocate memory"),
        (_crash, "died", "exit -11"),
        (lambda: os.open("/dev/null", 0) < 0, "decoded", ""),
        (lambda: [os.open("/dev/null", 0) for _ in range(400)], "escaped", "Too many open files"),
    ],
)
def test_judge_condemns(read: Callable[[], object], kind: str, said: str) -> None:
    verdict = judge("x", read)
    assert verdict.kind == kind
    assert said in verdict.said


def test_judge_ends_a_loop_by_its_processor_time() -> None:
    verdict = judge("x", _loop, cpu_s=1)
    assert verdict.kind == "died"
    assert "exit -9" in verdict.said or "exit -24" in verdict.said
    assert verdict.cpu_s < 3


# -- bombs --------------------------------------------------------------------------------------------


def verdict_on(path: Path, decode: DecodeConfig | None = None) -> Verdict:
    verdict = judge(path.name, lambda: read_whole(path, decode))
    assert not verdict.bad, verdict
    assert verdict.cpu_s < CPU_S
    return verdict


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nothing.mp4", b""),
        ("zeros.bin", bytes(1 << 20)),  # without a list of formats: a frame of 1280x50000 (bintext)
        ("zeros.ts", bytes(1 << 20)),
        ("random.mkv", random.Random(0).randbytes(1 << 20)),
        ("sync.ts", b"\x47" * (1 << 20)),
        ("text.avi", b"RIFF" + b"A" * (1 << 20)),
    ],
)
def test_f36_what_is_no_media_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert verdict_on(path).kind == "refused"


def test_f36_picture_of_256_million_pixels_is_refused_unread(tmp_path: Path) -> None:
    path = png_bomb(tmp_path / "bomb.png")
    for name in ("bomb.png", "bomb.mp4", "bomb.mjpeg"):
        path = path.rename(tmp_path / name)
        verdict = verdict_on(path)
        assert verdict.kind == "refused"
        assert verdict.peak_bytes < 300_000_000


def test_f36_jpeg_in_an_avi_that_says_it_is_65500_wide_is_refused_unread(tmp_path: Path) -> None:
    """The container says 320x240; the pictures inside say 65500x65500."""
    path = Clip(seconds=0.2, video="mjpeg", audio=None, pix_fmt="yuvj420p").write(tmp_path / "a.avi")
    data = path.read_bytes()
    sof = data.index(b"\xff\xc0\x00\x11\x08")  # start of frame, 3 components
    assert struct.unpack(">HH", data[sof + 5 : sof + 9]) == (240, 320)
    bomb = data.replace(data[sof : sof + 9], data[sof : sof + 5] + struct.pack(">HH", 65_500, 65_500))
    path.write_bytes(bomb)
    verdict = verdict_on(path)
    assert verdict.peak_bytes < 300_000_000
    assert verdict.kind == "refused"


def test_f36_hundreds_of_streams_are_refused_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(900)]
        for stream in streams:
            frame = av.AudioFrame("s16", "mono", 80)
            frame.sample_rate, frame.pts = 8000, 0
            out.mux(stream.encode(frame))
    assert verdict_on(path).peak_bytes < 300_000_000


def test_f36_transport_stream_of_thousands_of_programmes(tmp_path: Path) -> None:
    """A programme table for each of 4,000 PIDs, every one with two streams that never come."""
    path = Clip(seconds=0.5).write(tmp_path / "a.ts")
    data = path.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    table = next(p for p in packets if p[1] & 0x1F == 0x10 and p[2] == 0x00)  # the PMT, PID 0x1000
    many = b"".join(
        bytes([0x47, 0x50 | pid >> 8 & 0x0F, pid & 0xFF]) + table[3:] for pid in range(0x20, 0x20 + 4000)
    )
    path.write_bytes(packets[0] + packets[1] + many + data)
    assert verdict_on(path).kind in ("decoded", "refused")


@pytest.mark.parametrize("rate", [1, 7_999, 192_001, 100_000_000])
def test_f36_absurd_sample_rate_is_refused(rate: int, tmp_path: Path) -> None:
    data = bytes(20_000)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate,
                       min(rate * 2, 0xFFFF_FFFF), 2, 16, b"data", len(data))  # fmt: skip
    path = tmp_path / "a.wav"
    path.write_bytes(head + data)
    verdict = verdict_on(path)
    assert verdict.kind == "refused"
    assert f"a sample rate must be 8000 to 192000 Hz, got {rate}" in verdict.said


def test_f36_absurd_number_of_channels_is_refused(tmp_path: Path) -> None:
    data = bytes(65_000)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 250, 16_000,
                       16_000 * 500, 500, 16, b"data", len(data))  # fmt: skip
    path = tmp_path / "a.wav"
    path.write_bytes(head + data)
    verdict = verdict_on(path)
    assert verdict.kind == "refused"
    assert "sound must have 1 to 8 channels, got 250" in verdict.said


def test_f36_frame_rate_of_a_million_makes_no_more_ticks_than_the_time_it_lasts(tmp_path: Path) -> None:
    times = [index / 90_000 for index in range(300)]
    path = Clip(seconds=1, fps=30, frame_times=times, width=64, height=48, audio=None).write(
        tmp_path / "a.mkv"
    )
    verdict = judge("a.mkv", lambda: print(read_whole(path)))
    assert verdict.kind == "decoded", verdict
    assert int(verdict.said) <= 2


def test_f36_endless_pipe_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A writer that never stops: the reader holds what it needs and is ended by its processor time."""
    piece = Clip(seconds=1, width=64, height=48).write(tmp_path / "a.ts").read_bytes()
    pipe = tmp_path / "pipe.ts"
    os.mkfifo(pipe)
    writer = os.fork()
    if writer == 0:
        try:
            with pipe.open("wb") as out:
                while True:
                    out.write(piece)
        finally:
            os._exit(0)
    try:
        verdict = judge("pipe.ts", lambda: read_whole(pipe), cpu_s=2)
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    assert verdict.kind == "died"  # of its processor time, as nothing else ends it
    assert verdict.peak_bytes < 400_000_000


def test_f36_box_sizes_at_their_extremes(tmp_path: Path) -> None:
    """Each box of an mp4, and each element of an mkv, with each of the sizes that overflow something."""
    for suffix in ("mp4", "mkv"):
        clip = Clip(seconds=0.2, width=64, height=48, fps=10).write(tmp_path / f"a.{suffix}")
        data = clip.read_bytes()
        places = list(range(0, 600, 53))
        if suffix == "mp4":
            places = [data.index(name) - 4 for name in BOXES]
        for place in places:
            for value in (0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF):
                path = tmp_path / f"b.{suffix}"
                path.write_bytes(data[:place] + struct.pack(">I", value) + data[place + 4 :])
                verdict_on(path)


BOXES = (b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"mdia", b"mdhd", b"hdlr", b"minf", b"stbl", b"stsd",
         b"avcC", b"stts", b"stsc", b"stsz", b"stco", b"esds", b"mdat")  # fmt: skip
