"""A recording's sound at its own rate, as one unbroken line of samples to go beside its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt

from streamfuse.media.faults import PYAV_ERRORS
from streamfuse.media.opening import open_inputs
from streamfuse.media.timeline import ticks_to_ns
from streamfuse.types import NS

if TYPE_CHECKING:
    from streamfuse.config import DecodeConfig
    from streamfuse.media.source import Source
    from streamfuse.types import SessionStart

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")
"""Others are mixed to stereo."""
JITTER_NS = 30_000_000
"""Time stamps in some containers are rounded to a millisecond or worse; less than this is no gap."""
FAR_NS = 2 * NS
OWN_CLOCK_NS = 3600 * NS
"""A track that begins further away than this runs on a clock of its own, and is taken to begin at once."""
BLOCK = 1024
"""Samples given out at a time: those of one AAC frame."""

Samples = npt.NDArray[np.float32]


class Soundtrack:
    """Reads the audio track alone and gives it out up to the time that the pictures have reached.

    rate, layout     of what is given out: the track's own where AAC has them
    from_ns, to_ns   part of the recording; the first sample given out is that of from_ns
    """

    def __init__(
        self, source: Source, decode: DecodeConfig, *, from_ns: int = 0, to_ns: int | None = None
    ) -> None:
        self._inputs = open_inputs(source, decode.model_copy(update={"video": False}), "recorded")
        self._input = next(item for item in self._inputs if "audio" in item.streams)
        self._stream = self._input.streams["audio"]
        context = self._stream.codec_context
        self.rate = next((rate for rate in AAC_RATES if rate >= context.sample_rate), AAC_RATES[-1])
        self.layout = context.layout.name if context.layout.name in AAC_LAYOUTS else "stereo"
        self._from_ns, self._to_ns = from_ns, to_ns
        self._sessions: list[SessionStart] = []
        self._shift_ns = 0
        self._chunks = self._decoded()
        self._next: tuple[int, Samples] | None = None
        self._given = 0
        self._held: Samples | None = None

    def add_session(self, session: SessionStart) -> None:
        """A session that the pictures begin: it says where time stamps lie in the recording."""
        self._sessions.append(session)

    def until(self, at_ns: int) -> Iterator[Samples]:
        """Blocks (channels, BLOCK) of the sound before `at_ns` of the recording, as far as it is sure."""
        while self._reached_ns < at_ns and (chunk := self._peek()) is not None:
            place_ns = self._place(chunk[0])
            if place_ns is None or place_ns < self._reached_ns - FAR_NS:
                return  # of a session that the pictures have not begun
            if place_ns > max(at_ns, self._reached_ns + FAR_NS):
                return  # the same, or a hole in the sound: known when the pictures are there
            yield from self._take(place_ns)

    def rest(self) -> Iterator[Samples]:
        """What is left when there are no more pictures; the last block may be shorter."""
        while (self._to_ns is None or self._reached_ns < self._to_ns) and (chunk := self._peek()) is not None:
            place_ns = self._place(chunk[0])
            lost = place_ns is None or abs(place_ns - self._reached_ns) > FAR_NS
            yield from self._take(self._reached_ns if lost or place_ns is None else place_ns)
        if self._held is not None and self._held.shape[1]:
            yield self._held
            self._held = None

    def close(self) -> None:
        for item in self._inputs:
            item.close()

    @property
    def _reached_ns(self) -> int:
        held = 0 if self._held is None else self._held.shape[1]
        return self._from_ns + (self._given + held) * NS // self.rate

    def _peek(self) -> tuple[int, Samples] | None:
        if self._next is None:
            self._next = next(self._chunks, None)
        return self._next

    def _place(self, pts_ns: int) -> int | None:
        """Where `pts_ns` lies in the recording: in the session that has it nearest to what was reached."""
        places = [pts_ns + self._shift_ns - s.zero_ns + s.offset_ns for s in self._sessions]
        if not places:
            return None
        best = min(places, key=lambda place: abs(place - self._reached_ns))
        if self._held is None and abs(best - self._reached_ns) > OWN_CLOCK_NS:
            self._shift_ns = self._reached_ns - best
            return self._reached_ns
        return best

    def _take(self, place_ns: int) -> Iterator[Samples]:
        """Put the next samples at their place: silence where some are missing, a cut where they overlap."""
        assert self._next is not None
        samples, self._next = self._next[1], None
        if self._held is None:
            self._held = samples[:, :0]
        gap_ns = place_ns - self._reached_ns
        if abs(gap_ns) > JITTER_NS or not self._given:
            gap = round(gap_ns * self.rate / NS)
            samples = samples[:, max(0, -gap) :]
            # In pieces: a hole may be hours long.
            for begin in range(0, gap, 64 * BLOCK):
                yield from self._add(np.zeros((len(samples), min(64 * BLOCK, gap - begin)), np.float32))
        yield from self._add(samples)

    def _add(self, samples: Samples) -> Iterator[Samples]:
        assert self._held is not None
        if self._to_ns is not None:
            samples = samples[:, : max(0, (self._to_ns - self._reached_ns) * self.rate // NS)]
        self._held = np.concatenate((self._held, samples), 1)
        while self._held.shape[1] >= BLOCK:
            self._given += BLOCK
            block, self._held = self._held[:, :BLOCK], self._held[:, BLOCK:]
            yield block

    def _decoded(self) -> Iterator[tuple[int, Samples]]:
        """(pts, samples (channels, n)) of every packet that decodes."""
        resampler, parameters = None, None
        for frame in self._frames():
            pts_ns = ticks_to_ns(self._input.unwrapper(frame.pts), self._stream.time_base)
            now = (frame.sample_rate, frame.layout.name, frame.format.name)
            if resampler is None or parameters != now:
                parameters, resampler = now, av.AudioResampler("fltp", self.layout, self.rate)
            frame.pts = None
            pieces = [piece.to_ndarray() for piece in resampler.resample(frame)]
            if pieces:
                yield pts_ns, np.concatenate(pieces, 1)

    def _frames(self) -> Iterator[Any]:
        packets = self._input.container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except PYAV_ERRORS:
                return  # cut off: what came until here is what there is
            if packet is None:
                return
            try:
                frames = [] if packet.is_corrupt else self._stream.codec_context.decode(packet)
            except PYAV_ERRORS:
                continue
            yield from (frame for frame in frames if frame.pts is not None and frame.samples)
