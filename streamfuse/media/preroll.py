"""Reading on to the beginning of a span, or of what a resumed run still has to do, without decoding the rest.

Nothing is sought: seeking lands where the container's index or a guess says, and in a stream whose time
stamps wrap nobody can say where that is. Packets are read and left out, hundreds of times faster than
they could be decoded.
"""

from __future__ import annotations

from collections.abc import Mapping

from streamfuse.media.demux import Read
from streamfuse.media.opening import Input
from streamfuse.media.timeline import Unwrapper, ticks_to_ns
from streamfuse.types import NS, Track

SOUND_NS = 1 * NS
"""Audio decoders and the resampler's filter need some sound before the first sample that counts."""
MAX_BYTES = 64 << 20
"""A group of pictures that is larger is not kept for its end: from there on everything is decoded."""


class Preroll:
    """Passes on what is needed to decode each track from its time on: for pictures the group around it,
    and for sound a little before it.

    starts  track -> media time; other tracks are passed on whole
    """

    def __init__(self, inputs: list[Input], starts: Mapping[Track, int]) -> None:
        self._starts = starts
        self._unwrap: dict[Track, Unwrapper] = {t: item.unwrapper for item in inputs for t in item.streams}
        self._waiting: list[Read] = []
        self._bytes = 0
        self._before: set[Track] = set(starts)

    def take(self, read: Read) -> list[Read]:
        """The packets to decode now, in order."""
        if read.track not in self._before:
            return [read]
        ticks = read.packet.pts if read.packet.pts is not None else read.packet.dts
        if ticks is None:
            return [read]
        at_ns = ticks_to_ns(self._unwrap[read.track](ticks), read.packet.time_base)
        if read.track == "audio":
            if at_ns < self._starts["audio"] - SOUND_NS:
                return []
            self._before.discard("audio")
            return [read]
        return self._picture(read, at_ns, self._starts["video"])

    def rest(self) -> list[Read]:
        """The input is over: what was kept for a time that never came."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _picture(self, read: Read, at_ns: int, from_ns: int) -> list[Read]:
        if read.packet.is_keyframe and at_ns <= from_ns:
            self._waiting, self._bytes = [], 0
        self._waiting.append(read)
        self._bytes += read.packet.size
        if at_ns < from_ns and self._bytes <= MAX_BYTES:
            return []
        self._before.discard("video")
        return self.rest()
