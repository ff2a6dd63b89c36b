"""(c) Frames through imagezmq to a torch process; the sound goes the same way, as an array.

    python benchmarks/peers/imagezmq_torch.py URL MODEL

Tuned as imagezmq advises: PUB/SUB, so that the sender never waits for an acknowledgement; the pictures shrunk
by the sender and sent raw (its JPEG is for networks); a receiving thread that empties the socket.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

os.environ.setdefault("OMP_NUM_THREADS", "1")

import imagezmq
import numpy as np
from window import Media, answer_all, torchaudio_mfcc


class Sent(Media):
    """Media at the sender: what is added goes out at once."""

    def __init__(self, sender: imagezmq.ImageSender) -> None:
        super().__init__()
        self._sender = sender

    def add_picture(self, at_s: float, dur_s: float, luma: np.ndarray) -> None:
        self._sender.send_image(f"picture {at_s} {dur_s}", np.ascontiguousarray(luma))

    def add_sound(self, end_s: float, samples: np.ndarray) -> None:
        self._sender.send_image(f"sound {end_s} 0", samples)


def send(url: str, address: str) -> None:
    """The sender process: waits for the word, then reads until the stream ends."""
    from pyav_torchscript import read

    sender = imagezmq.ImageSender(connect_to=address, REQ_REP=False)
    print("ready", flush=True)
    sys.stdin.readline()
    read(url, Sent(sender))
    sender.send_image("end 0 0", np.zeros(1, np.uint8))


def receive(hub: imagezmq.ImageHub, media: Media) -> None:
    while True:
        text, array = hub.recv_image()
        kind, first, second = text.split()
        if kind == "picture":
            media.add_picture(float(first), float(second), array)
        elif kind == "sound":
            media.add_sound(float(first), array)
        else:
            media.end()
            return


def main() -> None:
    if sys.argv[1] == "send":
        send(sys.argv[2], sys.argv[3])
        return
    import torch
    from network import frozen

    torch.set_num_threads(1)
    network, mfcc_of, media = frozen(), torchaudio_mfcc(), Media()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    sender = subprocess.Popen(
        [sys.executable, __file__, "send", sys.argv[1], f"tcp://*:{port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert sender.stdin is not None and sender.stdout is not None
    sender.stdout.readline()
    hub = imagezmq.ImageHub(open_port=address, REQ_REP=False)
    threading.Event().wait(0.5)  # PUB drops what it sends before its subscriber is there
    threading.Thread(target=receive, args=(hub, media), daemon=True).start()
    sender.stdin.write(b"go\n")
    sender.stdin.flush()
    try:
        answer_all(media, mfcc_of, network)
    finally:
        sender.kill()


if __name__ == "__main__":
    main()
