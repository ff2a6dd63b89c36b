"""(a) One Python loop: OpenCV for the pictures, librosa for the MFCC, the network in eager torch.

    python benchmarks/peers/opencv_librosa.py URL MODEL

OpenCV reads no sound, so that comes over a second connection (PyAV, as librosa has no live reader either).
Tuned for live streams: FFmpeg backend with one decoding thread (each frame thread more holds a picture back,
and low_delay asked for in OPENCV_FFMPEG_CAPTURE_OPTIONS changes nothing of that), a buffer of one picture, a
reading thread so that no picture waits in the capture; torch in inference mode, one thread.
"""

from __future__ import annotations

import os
import sys
import threading

os.environ["OPENCV_FFMPEG_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import librosa
import numpy as np
import torch
from network import SIZE, eager
from sound import read_sound
from window import Media, answer_all

FPS = 30


def read_pictures(capture: cv2.VideoCapture, media: Media, first_pts_ms: float, frame: np.ndarray) -> None:
    while True:
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        left = (grey.shape[1] - grey.shape[0]) // 2
        square = grey[:, left : left + grey.shape[0]]
        luma = cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        at_s = (capture.get(cv2.CAP_PROP_POS_MSEC) - first_pts_ms) / 1000
        media.add_picture(at_s, 1 / FPS, luma)
        good, frame = capture.read()
        if not good:
            media.end()
            return


def mfcc_of(samples: np.ndarray) -> torch.Tensor:
    """The definition that the network was made for: HTK mel bands, natural logarithm."""
    bands = librosa.feature.melspectrogram(
        y=samples, sr=16_000, n_fft=512, win_length=400, hop_length=160, center=False,
        n_mels=64, fmin=20, fmax=7600, htk=True, norm=None,
    )  # fmt: skip
    found = librosa.feature.mfcc(S=np.log(bands + 1e-6), n_mfcc=40)
    return torch.from_numpy(np.ascontiguousarray(found.T[-10:], np.float32))


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    url, network, media = sys.argv[1], eager(), Media()
    mfcc_of(np.zeros(1952, np.float32))
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    good, frame = capture.read()
    if not good:
        raise SystemExit("no picture")
    first_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
    threading.Thread(target=read_sound, args=(url, media), daemon=True).start()
    threading.Thread(target=read_pictures, args=(capture, media, first_ms, frame), daemon=True).start()
    answer_all(media, mfcc_of, network)


if __name__ == "__main__":
    main()
