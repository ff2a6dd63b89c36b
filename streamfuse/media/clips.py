"""The last seconds of a live source as they came, so that a part of them can be cut out without encoding.

Packets are copied out of the demuxer's hands, so that nothing here depends on a connection that has ended.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from streamfuse.errors import OutputError
from streamfuse.media.demux import Read
from streamfuse.media.faults import PYAV_ERRORS
from streamfuse.media.opening import Input
from streamfuse.media.timeline import Unwrapper, ticks_to_ns
from streamfuse.types import NS, Track

FORMAT = "mp4"
BREAK_NS = 10 * NS
"""A larger step from one packet to the next is another part of time: no clip goes across it."""
_ERRORS: tuple[type[BaseException], ...] = (ValueError, *PYAV_ERRORS)
_ARRIVAL = Fraction(1, 1_000_000)
"""Clock of what has none but its arrival (multipart JPEG)."""


@dataclass(frozen=True, slots=True)
class _Kept:
    track: Track
    data: bytes
    pts: int
    dts: int
    duration: int
    base: Fraction
    is_key: bool
    at_ns: int
    """Media time of its pts."""

    @property
    def dts_ns(self) -> int:
        return ticks_to_ns(self.dts, self.base)


class PacketRing:
    """The newest packets of one source. The reading thread pushes; another one may cut.

    max_bytes, max_ns  what is beyond them, at the old end, is forgotten
    trouble            why no clip can be cut of this connection, or ""
    """

    def __init__(self, *, max_bytes: int, max_ns: int) -> None:
        self._max_bytes, self._max_ns = max_bytes, max_ns
        self._lock = threading.Lock()
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._templates: dict[Track, Any] = {}
        self._holder: Any = None
        self._unwrap: dict[Track, Unwrapper] = {}
        self._by_arrival = False
        self.trouble = "not connected"

    def begin(self, inputs: list[Input]) -> None:
        """A connection begins: its streams are other ones, and nothing older can be joined to them."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
            self._templates, self.trouble = {}, ""
            # A container that is never written: its streams describe ours after theirs are closed.
            self._holder = av.open(io.BytesIO(), "w", format=FORMAT)
            for item in inputs:  # one for all tracks of a container: they wrap together
                self._unwrap |= dict.fromkeys(item.streams, item.unwrapper.again())
            self._by_arrival = any(item.container.format.name == "mpjpeg" for item in inputs)
            for track, stream in (pair for item in inputs for pair in item.streams.items()):
                try:
                    self._templates[track] = self._holder.add_stream_from_template(stream, opaque=True)
                except _ERRORS:
                    if track == "video":
                        self.trouble = f"MP4 does not hold {stream.codec_context.name}"
            if "video" not in self._templates and not self.trouble:
                self.trouble = "it has no video"

    def push(self, read: Read) -> None:
        packet, track = read.packet, read.track
        stamp = packet.pts if packet.pts is not None else packet.dts
        if track not in self._templates or (stamp is None and not self._by_arrival):
            return
        base: Fraction = packet.time_base
        if self._by_arrival:
            base, pts = _ARRIVAL, read.arrival_ns // 1000
            dts, at_ns = pts, read.arrival_ns
        else:
            pts = self._unwrap[track](stamp)
            dts = pts if packet.dts is None else pts - (stamp - packet.dts)
            at_ns = ticks_to_ns(pts, base)
        duration = packet.duration or 0
        kept = _Kept(track, bytes(packet), pts, dts, duration, base, packet.is_keyframe, at_ns)
        with self._lock:
            self._kept.append(kept)
            self._bytes += len(kept.data)
            while self._kept and (self._bytes > self._max_bytes or self._is_old(self._kept[0], at_ns)):
                self._bytes -= len(self._kept.popleft().data)

    def cut(self, from_ns: int, to_ns: int) -> bytes:
        """An MP4 of [from_ns, to_ns) of media time, from the key frame before its beginning on.

        raises  OutputError where there is none
        """
        with self._lock:
            kept, templates, trouble = list(self._kept), dict(self._templates), self.trouble
        if trouble:
            raise OutputError("a clip needs video that can be cut", got=trouble)
        chosen = _between(kept, from_ns, to_ns)
        if not chosen:
            raise OutputError("a clip needs a key frame among the kept packets", got="none")
        try:
            return _muxed(chosen, templates)
        except _ERRORS as error:
            raise OutputError("a clip must be written", got=error) from error

    def _is_old(self, kept: _Kept, newest_ns: int) -> bool:
        return not newest_ns - self._max_ns <= kept.at_ns <= newest_ns + self._max_ns


def _between(kept: list[_Kept], from_ns: int, to_ns: int) -> list[_Kept]:
    """From the last key frame at or before from_ns (else the first one after it) to to_ns, unbroken."""
    keys = [i for i, one in enumerate(kept) if one.track == "video" and one.is_key and one.at_ns < to_ns]
    if not keys:
        return []
    first = max((i for i in keys if kept[i].at_ns <= from_ns), default=keys[0])
    chosen: list[_Kept] = []
    reached_ns = start_ns = kept[first].at_ns
    for one in kept[first:]:
        if abs(one.at_ns - reached_ns) > BREAK_NS:
            break
        reached_ns = one.at_ns
        if start_ns <= one.at_ns < to_ns:
            chosen.append(one)
    return chosen


def _muxed(chosen: list[_Kept], templates: Mapping[Track, Any]) -> bytes:
    target = io.BytesIO()
    zero_ns = min(one.dts_ns for one in chosen if one.track == "video")
    last_dts: dict[Track, int] = {}
    with av.open(target, "w", format=FORMAT) as out:
        heard = {one.track for one in chosen}
        streams = {
            track: out.add_stream_from_template(template, opaque=True)
            for track, template in templates.items()
            if track in heard
        }
        for one in chosen:
            shift = zero_ns * one.base.denominator // (one.base.numerator * NS)
            dts = one.dts - shift
            if dts <= last_dts.get(one.track, dts - 1):
                continue  # a damaged stamp: MP4 has time that only rises
            last_dts[one.track] = dts
            packet = av.Packet(one.data)
            packet.time_base, packet.pts, packet.dts = one.base, max(one.pts - shift, dts), dts
            packet.duration, packet.is_keyframe = one.duration, one.is_key
            packet.stream = streams[one.track]
            out.mux(packet)
    return target.getvalue()
