"""Any sound to 16 kHz mono float32, with every sample's time known exactly.

libswresample does the work (through av.AudioResampler); here is the bookkeeping around it: sample k of a run
is at start + k * 62,500 ns whatever the size of the chunks, and a run ends where the time stamps say that
sound is missing or was sent twice.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from streamfuse.types import F32, MS, NS, SAMPLE_NS, SAMPLE_RATE

RESYNC_NS = 80 * MS
"""Time stamps jitter (mkv rounds to 1 ms, RTP more); beyond this they are believed over counting samples."""
# Stereo of two equal channels comes out as loud as one of them (swresample's default: 1.41 times).
_OPTIONS = {"rematrix_maxval": "1.0"}


class Resampler:
    """Decoded frames of one rate and layout -> (pts_ns, samples) pieces, contiguous but for real gaps."""

    def __init__(self) -> None:
        self.gaps = 0
        self.overlaps = 0
        self._graph: av.AudioResampler | None = None
        self._format = ""
        self._rate = 0
        self._grid: int | None = None  # pts of some sample: all others lie whole samples from it
        self._start = 0  # pts of the run's first input sample
        self._taken = 0  # input samples of this run
        self._given = 0  # output samples of this run, those trimmed included
        self._end: int | None = None  # pts after the last sample given out

    @property
    def expected_ns(self) -> int | None:
        """Where the next frame begins if nothing is missing; None before the first."""
        return self._start + self._taken * NS // self._rate if self._rate else None

    def push(self, frame: Any, pts_ns: int) -> list[tuple[int, F32]]:
        """Take one decoded frame whose first sample is at pts_ns; return what is complete."""
        pieces: list[tuple[int, F32]] = []
        expected = self.expected_ns
        if expected is None:
            self._begin(frame, pts_ns)
        elif abs(pts_ns - expected) > RESYNC_NS:
            if pts_ns > expected:
                self.gaps += 1
            else:
                self.overlaps += 1
            pieces += self.flush()
            self._begin(frame, pts_ns)
        elif frame.format.name != self._format:
            # The same sound in other numbers (16-bit to float): go on where we are.
            pieces += self.flush()
            self._begin(frame, expected)
        self._taken += frame.samples
        return pieces + self._collect(frame)

    def flush(self) -> list[tuple[int, F32]]:
        """End the run: what the filter still held. The next frame begins a new run."""
        if self._graph is None:
            return []
        pieces = self._collect(None)
        self._graph = None
        self._rate = 0
        return pieces

    def _begin(self, frame: Any, pts_ns: int) -> None:
        if self._grid is None:
            self._grid = pts_ns
        steps, off = divmod(pts_ns - self._grid, SAMPLE_NS)
        self._start = self._grid + (steps + (2 * off >= SAMPLE_NS)) * SAMPLE_NS
        self._taken = self._given = 0
        self._rate = frame.sample_rate
        self._format = frame.format.name
        self._graph = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE, options=_OPTIONS)

    def _collect(self, frame: Any) -> list[tuple[int, F32]]:
        assert self._graph is not None  # _begin() has run
        if frame is None and self._graph.is_passthrough:  # type: ignore[attr-defined]
            return []
        # Without a copy: the array keeps the frame alive.
        made: list[Any] = self._graph.resample(frame)
        arrays = [np.frombuffer(out.planes[0], np.float32, out.samples) for out in made]
        if not arrays:
            return []
        samples = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
        if not (samples.min() >= -1.0 and samples.max() <= 1.0):  # so also where there is a NaN
            # A damaged frame may decode to anything; lossy codecs overshoot a little anyway.
            samples = np.clip(np.nan_to_num(samples, nan=0.0), -1.0, 1.0)
        pts = self._start + self._given * SAMPLE_NS
        self._given += len(samples)
        if self._end is not None and pts < self._end:
            behind = min(len(samples), -((pts - self._end) // SAMPLE_NS))
            samples, pts = samples[behind:], pts + behind * SAMPLE_NS
        if not len(samples):
            return []
        self._end = pts + len(samples) * SAMPLE_NS
        return [(pts, samples)]
