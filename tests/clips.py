"""Test media with known truth, made with PyAV in a fraction of a second.

Every picture carries its own index as a row of black and white squares (`read_index` reads it back, also
after shrinking), and sound is a tone or whatever samples the test hands in, so that a test can say which
frame or sample it got and not only that it got one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

INDEX_BITS = 12
WRAP = 1 << 33
"""MPEG-TS time stamps run modulo this, at 90 kHz (26.5 h)."""

Array = npt.NDArray[np.generic]


def index_picture(index: int, width: int = 320, height: int = 240) -> npt.NDArray[np.uint8]:
    """A grey RGB picture (H, W, 3) whose upper quarter spells `index` in INDEX_BITS squares, bit 0 first."""
    picture = np.full((height, width, 3), 96, np.uint8)
    cell = width // INDEX_BITS
    for bit in range(INDEX_BITS):
        picture[: height // 4, bit * cell : (bit + 1) * cell] = 235 if index >> bit & 1 else 16
    # A moving bar below: something for a motion-compensating codec to do.
    left = index * 4 % max(1, width - 16)
    picture[height // 2 : height // 2 + height // 8, left : left + 16] = (200, 60, 60)
    return picture


def read_index(luma: Array) -> int:
    """The index that a picture of index_picture() spells, from its luma plane of any size."""
    height, width = luma.shape
    cell = width / INDEX_BITS
    row = luma[height // 16 : max(height // 16 + 1, height // 6)]
    return sum(
        int(row[:, round((bit + 0.3) * cell) : max(1, round((bit + 0.7) * cell))].mean() > 120) << bit
        for bit in range(INDEX_BITS)
    )


def tone(
    seconds: float, rate: int = 48_000, hz: float = 440.0, level: float = 0.5
) -> npt.NDArray[np.float32]:
    """A sine (n,) float32, phase 0 at its first sample."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@dataclass
class Clip:
    """What a test clip is made of; `write` makes it.

    picture      index -> (H, W, 3) uint8 RGB
    frame_times  pts of every frame in seconds; unset: regular at `fps` for `seconds`
    samples      (n,) for every channel alike, or (channels, n); unset: a tone of audio_seconds
    video_start, audio_start   seconds added to the track's pts
    start_ticks  added to every pts, in 1/90000 s (MPEG-TS wraps are made with it)
    """

    seconds: float = 2.0
    fps: Fraction | int = 30
    width: int = 320
    height: int = 240
    video: str | None = "libx264"
    audio: str | None = "aac"
    rate: int = 48_000
    layout: str = "stereo"
    hz: float = 440.0
    picture: Callable[[int], npt.NDArray[np.uint8]] | None = None
    frame_times: Sequence[float] | None = None
    samples: npt.NDArray[np.float32] | None = None
    audio_seconds: float | None = None
    video_start: float = 0.0
    audio_start: float = 0.0
    audio_clock: float = 1.0
    """Every audio pts is multiplied by this: 1.01 is a sound card that says it is 1 % slower than it is."""
    start_ticks: int = 0
    pix_fmt: str = "yuv420p"
    gop: int = 15
    b_frames: int = 0
    rotation: float = 0.0
    """Counterclockwise degrees of the display matrix."""
    aspect: Fraction | None = None
    colour: tuple[int, int] | None = None
    """(AVColorSpace, AVColorRange) to convert to and to say in the stream; unset: neither is said."""
    container: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    video_options: dict[str, str] = field(default_factory=dict)
    audio_options: dict[str, str] = field(default_factory=dict)
    sample_format: str = "fltp"

    def write(self, path: Path) -> Path:
        """Encode to `path` (format by suffix unless `container` says) and return it."""
        with av.open(str(path), "w", format=self.container, options=self.options) as out:
            packets = [*self._video_packets(out), *self._audio_packets(out)]
            out.start_encoding()
            packets.sort(key=lambda item: item[0])
            for _, packet in packets:
                out.mux(packet)
        return path

    def _video_packets(self, out: av.container.OutputContainer) -> list[tuple[float, av.Packet]]:
        if self.video is None:
            return []
        stream = out.add_stream(self.video, rate=Fraction(self.fps))
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.pix_fmt
        context = stream.codec_context
        base = 1 / Fraction(self.fps) if self._is_coarse(out) else Fraction(1, 90_000)
        context.time_base = base
        context.gop_size = self.gop
        context.thread_count = 1
        if self.video in ("libx264", "libx265"):
            context.options = {"preset": "ultrafast", "crf": "16", "bf": str(self.b_frames)} | (
                {"x265-params": "log-level=none"} if self.video == "libx265" else {}
            )
        context.options = context.options | self.video_options
        if self.aspect is not None:
            context.sample_aspect_ratio = self.aspect
        if self.rotation:
            stream.set_display_rotation(self.rotation)
        if self.colour is not None:
            context.colorspace, context.color_range = self.colour
        times = self.frame_times
        if times is None:
            times = [float(i / Fraction(self.fps)) for i in range(round(self.seconds * float(self.fps)))]
        make = self.picture or (lambda index: index_picture(index, self.width, self.height))
        packets: list[tuple[float, av.Packet]] = []
        for index, at in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(make(index)), format="rgb24")
            if self.colour is not None:
                frame = frame.reformat(
                    format=self.pix_fmt, dst_colorspace=self.colour[0], dst_color_range=self.colour[1]
                )
                frame.colorspace, frame.color_range = self.colour
            frame.pts = round(Fraction(at + self.video_start) / base) + self.start_ticks
            frame.time_base = base
            packets += [(_key(packet), packet) for packet in context.encode(frame)]
        packets += [(_key(packet), packet) for packet in context.encode(None)]
        for _, packet in packets:
            packet.stream = stream
            # libx264 does not say it, and mp4 and mkv store what the packet says.
            if not packet.duration:
                packet.duration = round(1 / Fraction(self.fps) / base)
        return packets

    def _is_coarse(self, out: av.container.OutputContainer) -> bool:
        """AVI counts frames, and these codecs write their own clock."""
        return out.format.name == "avi" or self.video in ("mpeg4", "mpeg2video", "mpeg1video")

    def _audio_packets(self, out: av.container.OutputContainer) -> list[tuple[float, av.Packet]]:
        if self.audio is None:
            return []
        stream = out.add_stream(self.audio, rate=self.rate)
        context = stream.codec_context
        context.layout = self.layout
        context.format = self.sample_format
        context.options = self.audio_options
        context.open()
        channels = context.layout.nb_channels
        samples = self.samples
        if samples is None:
            samples = tone(self.audio_seconds or self.seconds, self.rate, self.hz)
        both = np.atleast_2d(samples)
        if both.shape[0] == 1:
            both = np.repeat(both, channels, 0)
        step = context.frame_size or 1024
        start = round(self.audio_start * self.rate) + round(self.start_ticks * self.rate / 90_000)
        packets: list[tuple[float, av.Packet]] = []
        for at in range(0, both.shape[1], step):
            frame = audio_frame(both[:, at : at + step], self.sample_format, self.layout, self.rate)
            frame.pts = start + at
            frame.time_base = Fraction(1, self.rate)
            packets += [(_key(packet), packet) for packet in context.encode(frame)]
        packets += [(_key(packet), packet) for packet in context.encode(None)]
        for _, packet in packets:
            packet.stream = stream
            if self.audio_clock != 1.0:
                packet.pts = start + round((packet.pts - start) * self.audio_clock)
                packet.dts = packet.pts
        return packets


def _key(packet: av.Packet) -> float:
    return float((packet.dts if packet.dts is not None else packet.pts or 0) * packet.time_base)


def audio_frame(samples: Array, form: str, layout: str, rate: int) -> av.AudioFrame:
    """An AVFrame of samples (channels, n) in [-1, 1], in FFmpeg's sample format `form`."""
    scale = {"s16": 32767, "s16p": 32767, "s32": 2**31 - 1, "s32p": 2**31 - 1}.get(form)
    if form in ("u8", "u8p"):
        data = np.round(samples * 127 + 128).astype(np.uint8)
    elif scale is not None:
        data = np.round(samples.astype(np.float64) * scale).astype(np.int16 if scale == 32767 else np.int32)
    else:
        data = samples.astype(np.float64 if form.startswith("dbl") else np.float32)
    if not form.endswith("p"):
        data = data.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=form, layout=layout)
    frame.sample_rate = rate
    return frame


def flash_and_beep(
    path: Path, at: Sequence[float] = (1.0, 2.0), *, seconds: float = 3.0, offset: float = 0.0, **clip: object
) -> Path:
    """A black and silent clip with a white frame and a 1 kHz beep, both 100 ms long, at the times `at`.

    offset  seconds by which the beep is later than the flash
    """
    fps = float(clip.get("fps", 30))  # type: ignore[arg-type]
    rate = int(clip.get("rate", 48_000))  # type: ignore[call-overload]
    width, height = int(clip.get("width", 320)), int(clip.get("height", 240))  # type: ignore[call-overload]
    samples = np.zeros(round(seconds * rate), np.float32)
    for start in at:
        first = round((start + offset) * rate)
        beep = tone(0.1, rate, 1000.0, 0.8)
        samples[first : first + len(beep)] = beep[: len(samples) - first]

    def picture(index: int) -> npt.NDArray[np.uint8]:
        lit = any(start - 1e-6 <= index / fps < start + 0.1 - 1e-6 for start in at)
        return np.full((height, width, 3), 255 if lit else 0, np.uint8)

    return Clip(seconds=seconds, picture=picture, samples=samples, **clip).write(path)  # type: ignore[arg-type]


def wrapping_ts(path: Path, *, before: float = 1.0, **clip: object) -> Path:
    """A transport stream whose 33-bit time stamps wrap `before` seconds after its start."""
    options = {"mpegts_copyts": "1"}
    return Clip(start_ticks=WRAP - round(before * 90_000), options=options, container="mpegts", **clip).write(
        path
    )  # type: ignore[arg-type]


def joined(path: Path, *parts: Path) -> Path:
    """The parts one after the other, byte for byte (legal for MPEG-TS)."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def truncated(source: Path, path: Path, fraction: float = 0.6) -> Path:
    """The first `fraction` of a file's bytes."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def corrupted(source: Path, path: Path, *, seed: int = 0, rate: float = 0.005, keep: int = 4096) -> Path:
    """The file with a share `rate` of its bytes replaced at random; the first `keep` bytes are left alone."""
    data = np.frombuffer(source.read_bytes(), np.uint8).copy()
    random = np.random.default_rng(seed)
    places = random.integers(min(keep, len(data) - 1), len(data), round(len(data) * rate))
    data[places] = random.integers(0, 256, len(places))
    path.write_bytes(data.tobytes())
    return path


def lossy_ts(source: Path, path: Path, *, seed: int = 0, loss: float = 0.1, keep: int = 40) -> Path:
    """A transport stream without a share `loss` of its 188-byte packets; the first `keep` stay."""
    data = source.read_bytes()
    random = np.random.default_rng(seed)
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path.write_bytes(b"".join(p for i, p in enumerate(packets) if i < keep or random.random() >= loss))
    return path


def png_bomb(path: Path, side: int = 16_000) -> Path:
    """A well-formed grey PNG of side x side pixels in a few hundred kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(side + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path
