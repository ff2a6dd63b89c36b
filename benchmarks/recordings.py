"""Recordings for the benchmarks: a moving test picture with noise, and sound, of any length."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LOOP_S = 10


@dataclass(frozen=True)
class Recording:
    """H.264 with B-frames and AAC stereo 48 kHz at usual bit rates; `write` makes it."""

    width: int
    height: int
    fps: int
    seconds: int
    bit_rate: int
    noise: int = 4
    camera: bool = False
    """As a camera encodes: no frame waits for a later one."""

    @property
    def name(self) -> str:
        return f"{self.height}p{self.fps}-{self.seconds}s{'-camera' if self.camera else ''}.mp4"

    def write(self, folder: Path) -> Path:
        """Encode LOOP_S seconds once and repeat its packets: hours are made in the time of writing them."""
        path = folder / self.name
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            loop = folder / f"loop-{self.width}x{self.height}-{self.fps}-{self.bit_rate}-{self.camera:d}.mp4"
            if not loop.exists():
                self._encode(loop)
            self._repeat(loop, part)
            part.replace(path)
        return path

    def _encode(self, path: Path) -> None:
        with av.open(str(path), "w") as out:
            video = out.add_stream("libx264", rate=self.fps, bit_rate=self.bit_rate)
            video.width, video.height, video.pix_fmt = self.width, self.height, "yuv420p"
            tune = {"tune": "zerolatency"} if self.camera else {}
            video.codec_context.options = {"preset": "veryfast", **tune}
            video.codec_context.gop_size = 2 * self.fps
            audio = out.add_stream("aac", rate=48_000)
            audio.codec_context.layout = "stereo"
            for frame in self._pictures():
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
            for frame in self._sounds():
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))

    def _pictures(self) -> list[av.VideoFrame]:
        graph = av.filter.Graph()
        source = graph.add("testsrc2", f"size={self.width}x{self.height}:rate={self.fps}:duration={LOOP_S}")
        noise = graph.add("noise", f"alls={self.noise}:allf=t")
        form, sink = graph.add("format", "yuv420p"), graph.add("buffersink")
        source.link_to(noise)
        noise.link_to(form)
        form.link_to(sink)
        graph.configure()
        for index in range(LOOP_S * self.fps):
            frame = sink.pull()
            frame.pts, frame.time_base = index, Fraction(1, self.fps)
            yield frame

    def _sounds(self) -> list[av.AudioFrame]:
        noise = np.random.default_rng(0).normal(0, 0.1, (2, LOOP_S * 48_000)).astype(np.float32)
        for at in range(0, noise.shape[1] - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(noise[:, at : at + 1024]), "fltp", "stereo"
            )
            frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
            yield frame

    def _repeat(self, loop: Path, path: Path) -> None:
        with av.open(str(loop)) as source, av.open(str(path), "w", format="mp4") as out:
            streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
            packets = [p for p in source.demux() if p.dts is not None]
            times = [(p.pts, p.dts) for p in packets]
            bases = {s.index: s.time_base for s in source.streams}
            order = [p.stream_index for p in packets]
            for turn in range(self.seconds // LOOP_S):
                for packet, (pts, dts), index in zip(packets, times, order, strict=True):
                    shift = round(turn * LOOP_S / bases[index])
                    packet.stream = streams[index]
                    packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, bases[index]
                    out.mux(packet)
