"""A picture from one process to another: our link against imagezmq and vidgear's NetGear.

    python benchmarks/bench_transport.py [--frames 2000] [--paced 300] [--rounds 3]

bytes    the same 640x360 picture of 691,200 bytes for all, as it lies in memory
decoded  from the decoder's frame: what each library is given in practice. Ours renders what the model needs
         (8-bit 4:2:0, shrunk by a whole factor), the others convert to BGR, on which they work

Saturated: the next is sent as soon as may be, and all of them have to arrive. Paced: 30 a second, and the age
of each at arrival, from before it was made. The receiver runs in a process of its own. Ours and
imagezmq use ipc, NetGear tcp on loopback. Ours checks every header by its schema, gives credit and counts.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np
from report import Timing, table, write

from streamfuse.clock import SYSTEM
from streamfuse.media.frames import Renderer
from streamfuse.private import private_folder
from streamfuse.types import MS, Picture, SessionStart, Tick, TickHead, Trace
from streamfuse.wire.headers import End
from streamfuse.wire.link import Inlet, Outlet
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Wire, wait

HEIGHT, WIDTH, SIDE = 360, 640, 192
PACE_S = 1 / 30
STAMP = 8
"""Bytes at an array's start that hold when it was sent; -1 in the last one."""

Shots = Iterator[tuple[int, "np.ndarray | Picture"]]
Times = Iterator[int]
"""When what has just come was sent; negative: it was the last."""


def shots(count: int, paced: bool, make: Callable[[], np.ndarray | Picture]) -> Shots:
    """Pictures and when their making began; the last one is a farewell."""
    began = time.monotonic()
    for index in range(count):
        if paced:
            time.sleep(max(0.0, began + index * PACE_S - time.monotonic()))
        sent = time.monotonic_ns()
        yield sent, make()
    yield -1, make()


def maker(case: str, name: str) -> Callable[[], np.ndarray | Picture]:
    """What gives `name` its picture in this case."""
    array = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    if case == "bytes":
        if name != "ours":
            return lambda: array
        planes = tuple(array.reshape(3, HEIGHT, WIDTH))
        return lambda: Picture(planes, "444")
    frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(format="yuv420p")
    if name == "ours":
        renderer = Renderer(SIDE)
        return lambda: renderer.render(frame)
    return lambda: frame.to_ndarray(format="bgr24")


def taken(times: Times) -> tuple[list[int], float]:
    """Ages in ns as they came, and seconds from the first to the last."""
    ages: list[int] = []
    first = last = 0
    for sent in times:
        last = time.monotonic_ns()
        if sent < 0:
            break
        first = first or last
        ages.append(last - sent)
    return ages, (last - first) / 1e9


def stamped(picture: np.ndarray, sent: int) -> np.ndarray:
    picture.reshape(-1)[:STAMP].view(np.int64)[0] = sent
    return picture


def stamp_of(picture: np.ndarray) -> int:
    return int(picture.reshape(-1)[:STAMP].view(np.int64)[0])


def ours_send(folder: str, paced: bool, pictures: Shots) -> None:
    wire = Wire()
    mode: Any = "live" if paced else "recorded"
    topic = TOPICS["tick"]
    outlet = Outlet(wire, f"ipc://{folder}/ours.sock", name="cam", mode=mode, topic=topic, clock=SYSTEM)
    outlet.offer("cam", SessionStart(0, 0, 0, frozenset({"video"})))

    def turn() -> None:
        due_ns = outlet.poll() or SYSTEM.monotonic_ns()
        if wait([outlet.socket], due_ns - SYSTEM.monotonic_ns()):
            outlet.handle()

    while not outlet.box.settled:  # the receiver is there
        turn()
    for index, (sent, picture) in enumerate(pictures):
        if sent < 0:
            break
        head = TickHead("cam", 0, index, 0, 100 * MS, "ok", "missing", trace=Trace(video_arrival_ns=sent))
        while outlet.box.full:
            turn()
        assert isinstance(picture, Picture)
        outlet.offer("cam", Tick(head, picture, np.zeros(1, np.float32)))
        outlet.handle()
    outlet.offer("cam", End(source="cam", complete=True))
    while not outlet.box.settled:
        turn()
    wire.close(200)


def ours_receive(folder: str, paced: bool) -> Times:
    wire = Wire()
    mode: Any = "live" if paced else "recorded"
    inlet = Inlet(
        wire, f"ipc://{folder}/ours.sock", mode=mode, topic=TOPICS["tick"], accepts=("tick", "start", "end")
    )
    while True:
        delivery = inlet.receive()
        if delivery is None:
            wait([inlet.socket], 100 * MS)
            continue
        body = delivery.message.body
        if isinstance(body, Tick):
            yield body.head.trace.video_arrival_ns
        inlet.done(delivery)
        if isinstance(body, End):
            wire.close(200)
            yield -1


def imagezmq_send(address: str, pictures: Shots, *, ask: bool) -> None:
    import imagezmq

    sender = imagezmq.ImageSender(address, REQ_REP=ask)
    if not ask:
        time.sleep(1.0)  # a PUB socket says nothing about who listens
    for sent, picture in pictures:
        assert isinstance(picture, np.ndarray)
        sender.send_image("cam", stamped(picture, sent))
    time.sleep(0.5)
    sender.close()


def imagezmq_receive(address: str, *, ask: bool) -> Times:
    import imagezmq

    hub = imagezmq.ImageHub(address, REQ_REP=ask)
    while True:
        _, picture = hub.recv_image()
        yield stamp_of(picture)
        if ask:
            hub.send_reply(b"OK")


def netgear(port: str, receive: bool) -> Any:
    from vidgear.gears import NetGear

    options = {"jpeg_compression": False, "max_retries": 10, "request_timeout": 10}
    return NetGear("127.0.0.1", port, "tcp", 1, receive_mode=receive, logging=False, **options)


def netgear_send(port: str, pictures: Shots) -> None:
    sender = netgear(port, receive=False)
    for sent, picture in pictures:
        assert isinstance(picture, np.ndarray)
        sender.send(stamped(picture, sent))
    sender.close()


def netgear_receive(port: str) -> Times:
    receiver = netgear(port, receive=True)
    while (picture := receiver.recv()) is not None:
        yield stamp_of(picture)


def _receiver(name: str, place: str, paced: bool, pipe: Connection) -> None:
    logging.disable()
    made: dict[str, Callable[[], Times]] = {
        "ours": lambda: ours_receive(place, paced),
        "imagezmq REQ/REP": lambda: imagezmq_receive(place, ask=True),
        "imagezmq PUB/SUB": lambda: imagezmq_receive(place, ask=False),
        "vidgear NetGear": lambda: netgear_receive(place),
    }
    times = made[name]()
    pipe.send("there")
    pipe.send(taken(times))


def _sender(case: str, name: str, place: str, count: int, paced: bool) -> None:
    logging.disable()
    pictures = shots(count, paced, maker(case, name))
    if name == "ours":
        ours_send(place, paced, pictures)
    elif name.startswith("imagezmq"):
        imagezmq_send(place, pictures, ask=name.endswith("REP"))
    else:
        netgear_send(place, pictures)


def one(case: str, name: str, folder: Path, port: int, count: int, paced: bool) -> tuple[list[int], float]:
    """Send `count` pictures from a process to another; give their ages and how long it took."""
    place = {"ours": str(folder), "vidgear NetGear": str(port)}.get(name, f"ipc://{folder}/{port}.sock")
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    receiver = context.Process(target=_receiver, args=(name, place, paced, there))
    receiver.start()
    here.recv()
    sender = context.Process(target=_sender, args=(case, name, place, count, paced))
    sender.start()
    if not here.poll(120):
        raise TimeoutError(f"{name} does not come to an end")
    result: tuple[list[int], float] = here.recv()
    for process in (sender, receiver):
        process.join(10)
        process.kill()
    return result


CANDIDATES = ("ours", "imagezmq REQ/REP", "imagezmq PUB/SUB", "vidgear NetGear")
LOSSLESS = ("ours", "imagezmq REQ/REP", "vidgear NetGear")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--paced", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    port = 25_600
    with tempfile.TemporaryDirectory(prefix="sf-") as text:
        folder = private_folder(Path(text))
        for case in ("bytes", "decoded"):
            rates: dict[str, list[float]] = {name: [] for name in LOSSLESS}
            ages: dict[str, list[int]] = {name: [] for name in CANDIDATES}
            for _ in range(args.rounds):  # in turns: a noisy neighbour hits all alike
                for name in LOSSLESS:
                    came, seconds = one(case, name, folder, port := port + 1, args.frames, False)
                    if len(came) != args.frames:
                        raise RuntimeError(f"{name} lost {args.frames - len(came)} pictures")
                    rates[name].append(seconds / args.frames * 1e9)
                for name in CANDIDATES:
                    came, _ = one(case, name, folder, port := port + 1, args.paced, True)
                    ages[name] += came
            rows += _rows(f"{case}, saturated", {n: Timing.of(v) for n, v in rates.items()})
            rows += _rows(f"{case}, 30 a second: age", {n: Timing.of(v) for n, v in ages.items()})
    print(table(rows))
    write("transport", rows, {"bytes": HEIGHT * WIDTH * 3, "frames": args.frames, "rounds": args.rounds})


def _rows(case: str, timings: dict[str, Timing]) -> list[dict[str, Any]]:
    base = timings["ours"].p50
    return [
        {
            "case": case,
            "name": name,
            "unit": "ns per picture",
            "n": t.n,
            "p50": t.p50,
            "p95": t.p95,
            "p99": t.p99,
        }
        | {"max": t.max, "ratio": t.p50 / base}
        for name, t in timings.items()
    ]


if __name__ == "__main__":
    main()
