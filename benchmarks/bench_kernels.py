"""MFCC and frame window on one CPU thread against the libraries people use for them.

    OMP_NUM_THREADS=1 python benchmarks/bench_kernels.py [--rounds 300]

Every candidate gets the fastest form of its own interface that we know. kaldi-native-fbank and
python_speech_features have other definitions of mel bands and window; they are given the same sizes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import av
import cv2
import kaldi_native_fbank
import librosa
import numpy as np
import python_speech_features
import report
import torch
from torchaudio import transforms

from streamfuse.kernels.frame_window import FrameSpec, frame_window, frame_window_reference
from streamfuse.kernels.mfcc import MfccSpec, MfccStream, mfcc, mfcc_reference
from streamfuse.types import Picture

SPEC, FRAME = MfccSpec(), FrameSpec()
HOP, CONTEXT = SPEC.hop_length, SPEC.context_samples
CHUNK = 1600
"""A tick: 100 ms, ten frames."""
Call = Callable[[], Any]


def sound(seconds: int) -> np.ndarray:
    t = np.arange(seconds * SPEC.sample_rate) / SPEC.sample_rate
    hum = 0.3 * np.sin(2 * np.pi * 180 * t) * np.sin(2 * np.pi * 3 * t)
    return (hum + 0.05 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)


def judge_librosa(samples: np.ndarray) -> np.ndarray:
    """librosa told to compute what we do: dB from its power_to_db, without top_db."""
    mel = librosa.feature.melspectrogram(
        y=samples, sr=SPEC.sample_rate, n_fft=SPEC.n_fft, win_length=SPEC.win_length, hop_length=HOP,
        center=False, n_mels=SPEC.n_mels, fmin=SPEC.f_min, fmax=SPEC.f_max, htk=True, norm=None,
    )  # fmt: skip
    return librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=None), n_mfcc=SPEC.n_mfcc)


def torchaudio_mfcc() -> Callable[[torch.Tensor], torch.Tensor]:
    options = {"n_fft": SPEC.n_fft, "win_length": SPEC.win_length, "hop_length": HOP, "f_min": SPEC.f_min,
               "f_max": SPEC.f_max, "n_mels": SPEC.n_mels, "center": False}  # fmt: skip
    module = transforms.MFCC(SPEC.sample_rate, SPEC.n_mfcc, melkwargs=options)
    module.amplitude_to_DB.top_db = None
    return module


def kaldi_options() -> Any:
    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.dither, options.frame_opts.preemph_coeff = 0, 0
    options.frame_opts.window_type = "hanning"
    options.mel_opts.num_bins, options.num_ceps = SPEC.n_mels, SPEC.n_mfcc
    return options


def python_speech(samples: np.ndarray) -> np.ndarray:
    return python_speech_features.mfcc(
        samples, SPEC.sample_rate, numcep=SPEC.n_mfcc, nfilt=SPEC.n_mels, nfft=SPEC.n_fft, winfunc=np.hanning
    )


def mfcc_candidates(samples: np.ndarray) -> tuple[dict[str, Call], dict[str, Call]]:
    """Whole recordings, and the same pushed in chunks of 100 ms (one call is the whole recording)."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    ticks = [padded[at : at + CONTEXT + CHUNK].copy() for at in range(0, len(samples), CHUNK)]
    tensor, tensors = torch.from_numpy(padded), [torch.from_numpy(tick) for tick in ticks]
    judge, options, stream = torchaudio_mfcc(), kaldi_options(), MfccStream(SPEC)

    def kaldi(parts: list[np.ndarray]) -> int:
        extractor = kaldi_native_fbank.OnlineMfcc(options)
        for part in parts:
            extractor.accept_waveform(SPEC.sample_rate, part)
        return int(extractor.num_frames_ready)

    def pushed() -> None:
        stream.reset()
        for tick in ticks:
            stream.push(tick[CONTEXT:])

    whole: dict[str, Call] = {
        "streamfuse": lambda: mfcc(samples, SPEC),
        "librosa": lambda: judge_librosa(padded),
        "torchaudio": lambda: judge(tensor),
        "kaldi-native-fbank": lambda: kaldi([padded]),
        "python_speech_features": lambda: python_speech(padded),
    }
    chunked: dict[str, Call] = {
        "streamfuse": pushed,
        "librosa": lambda: [judge_librosa(tick) for tick in ticks],
        "torchaudio": lambda: [judge(tick) for tick in tensors],
        "kaldi-native-fbank": lambda: kaldi([tick[CONTEXT:] for tick in ticks]),
        "python_speech_features": lambda: [python_speech(tick) for tick in ticks],
    }
    return whole, chunked


def bench_mfcc(rounds: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    samples = sound(4)
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    ours, exact = mfcc(samples, SPEC), mfcc_reference(samples, SPEC)
    theirs = judge_librosa(padded).T[: len(ours)] * (np.log(10) / 10)
    checks = {"mfcc: most off the reference": float(np.abs(ours - exact).max()),
              "mfcc: most off librosa": float(np.abs(ours - theirs).max())}  # fmt: skip
    if not checks["mfcc: most off the reference"] <= 1e-3:
        raise SystemExit(f"wrong result: {checks}")
    whole, chunked = mfcc_candidates(samples)
    rows = []
    with torch.inference_mode():
        for case, candidates in (("MFCC of 4 s at once", whole), ("MFCC of 4 s in 100 ms chunks", chunked)):
            timings = report.compare(candidates, rounds=max(20, rounds // 5), warm_up=3)
            rows += report.rows_of(case, timings, len(ours), "hop", "streamfuse")
    return rows, checks


def picture(width: int, height: int) -> Picture:
    planes = []
    for index, (h, w) in enumerate([(height, width), (height // 2, width // 2), (height // 2, width // 2)]):
        y, x = np.indices((h, w)) / h
        wave = 128 + 60 * np.sin(9 * x + 5 * y * y + index) + 30 * np.sin(41 * y - 24 * x)
        planes.append(wave.astype(np.uint8))
    return Picture(tuple(planes))


def frame_candidates(source: Picture, size: int) -> dict[str, Call]:
    width, height = source.width, source.height
    packed = np.concatenate([plane.ravel() for plane in source.planes]).reshape(height * 3 // 2, width)
    frame = av.VideoFrame.from_ndarray(packed, format="yuv420p")
    scaler = av.video.reformatter.VideoReformatter()
    out = np.empty((1, 3, size, size), np.float32)
    gain = (1 / (255 * np.array(FRAME.std))).astype(np.float32)
    shift = (-np.array(FRAME.mean) / FRAME.std).astype(np.float32)
    left = (width - height) // 2 // 2 * 2
    wide = -(-size * width // height // 2) * 2

    def normalise(rgb: np.ndarray) -> np.ndarray:
        planar = np.empty((3, size, size), np.float32)
        np.multiply(rgb.transpose(2, 0, 1), gain[:, None, None], out=planar)
        planar += shift[:, None, None]
        return planar

    def swscale() -> np.ndarray:
        """swscale has no crop: the whole picture is shrunk, then its middle is taken."""
        small = scaler.reformat(frame, wide, size, "rgb24", interpolation="AREA").to_ndarray()
        return normalise(small[:, (wide - size) // 2 : (wide - size) // 2 + size])

    def opencv_rgb() -> np.ndarray:
        rgb = cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420)[:, left : left + height]
        return normalise(cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA))

    def opencv_planes() -> np.ndarray:
        """Planes first, colour last, as ours does."""
        luma, cb, cr = source.planes
        half = slice(left // 2, (left + height) // 2)
        small = [
            cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA)
            for plane in (luma[:, left : left + height], cr[:, half], cb[:, half])
        ]
        return normalise(cv2.cvtColor(cv2.merge(small), cv2.COLOR_YCrCb2RGB))

    return {
        "streamfuse": lambda: frame_window([source], FRAME, out=out),
        "swscale AREA + NumPy": swscale,
        "OpenCV cvtColor, resize + NumPy": opencv_rgb,
        "OpenCV planes, cvtColor + NumPy": opencv_planes,
    }


def bench_frame(rounds: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    rows: list[dict[str, Any]] = []
    checks = {}
    for width, height in ((384, 216), (640, 360), (1920, 1080)):
        source = picture(width, height)
        candidates = frame_candidates(source, FRAME.size)
        ours, exact = candidates["streamfuse"]()[0], frame_window_reference(source, FRAME)
        case = f"frame window, {width}x{height} to {FRAME.size}"
        worst = float(np.abs(ours - exact).max() * FRAME.std[0])
        checks[f"{case}: most off the reference"] = worst
        apart = np.abs(ours - candidates["swscale AREA + NumPy"]()).mean() * FRAME.std[0]
        checks[f"{case}: mean off swscale (straight to rgb24)"] = float(apart)
        if not worst <= 1 / 255:
            raise SystemExit(f"wrong result: {checks}")
        rows += report.rows_of(
            case, report.compare(candidates, rounds=rounds), unit="frame", base="streamfuse"
        )
    return rows, checks


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sound_rows, sound_checks = bench_mfcc(rounds)
    frame_rows, frame_checks = bench_frame(rounds)
    print(report.table(sound_rows + frame_rows))
    print(report.write("kernels", sound_rows + frame_rows, sound_checks | frame_checks).name)


if __name__ == "__main__":
    main()
