"""(b) PyAV, torchaudio and frozen TorchScript in one process, over a sliding window.

    python benchmarks/peers/pyav_torchscript.py URL MODEL [--step]

Tuned as PyAV and FFmpeg advise for low delay: low_delay, small probing, slice threads, swscale for the
shrinking, one demuxing and decoding thread beside the loop. --step: our model file stepped with its state
instead of the window, so that only the way of the media differs from ours.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import torch
from network import SIZE, Stepped, frozen
from sound import OPTIONS
from window import Media, answer_all, torchaudio_mfcc


def read(url: str, media: Media) -> None:
    with av.open(url, options=OPTIONS) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.thread_type = "SLICE"
        video.codec_context.flags |= av.codec.context.Flags.low_delay
        resampler = av.AudioResampler("flt", "mono", 16_000)
        first_s: float | None = None
        waiting: list[av.AudioFrame] = []
        for packet in container.demux(video, audio):
            for frame in packet.decode():
                at_s = float(frame.pts * frame.time_base)
                if isinstance(frame, av.VideoFrame):
                    first_s = at_s if first_s is None else first_s
                    media.add_picture(at_s - first_s, 1 / 30, luma(frame))
                    continue
                waiting.append(frame)
                if first_s is None:
                    continue
                for sound in waiting:
                    end_s = float(sound.pts * sound.time_base) + sound.samples / sound.sample_rate - first_s
                    for made in resampler.resample(sound):
                        media.add_sound(end_s, made.to_ndarray()[0].astype(np.float32))
                waiting = []
    media.end()


def luma(frame: av.VideoFrame) -> np.ndarray:
    """The middle square, 96 x 96: swscale shrinks the whole picture, then it is cut."""
    width = frame.width * SIZE // frame.height // 2 * 2
    small = frame.reformat(width, SIZE, "gray", interpolation="AREA").to_ndarray()
    left = (width - SIZE) // 2
    return small[:, left : left + SIZE]


def main() -> None:
    torch.set_num_threads(1)
    url, media = sys.argv[1], Media()
    network = Stepped(Path(sys.argv[2])) if "--step" in sys.argv else frozen()
    mfcc_of = torchaudio_mfcc()
    threading.Thread(target=read, args=(url, media), daemon=True).start()
    answer_all(media, mfcc_of, network)


if __name__ == "__main__":
    main()
