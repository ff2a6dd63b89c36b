"""The stamps that a live tick begins its way with."""

from __future__ import annotations

from streamfuse.ticks.tracks import Came
from streamfuse.trace import AUDIO, SYNC, VIDEO
from streamfuse.types import Stamp, Trace


def first_stamps(video: Came | None, audio: Came | None, passed_ns: int, now_ns: int) -> Trace:
    """Each track's decoding, of them again the last as `decode`; `sync` from the first one's being there.

    passed_ns  when the first track had passed the tick's end; now_ns: when the tick goes out
    """
    arrivals = Trace(video.arrival_ns if video else 0, audio.arrival_ns if audio else 0)
    used = {name: came for name, came in ((VIDEO, video), (AUDIO, audio)) if came is not None}
    if not used:
        return arrivals
    stamps = [_decoding(name, came) for name, came in used.items()]
    stamps += [_decoding("decode", max(used.values())), Stamp(SYNC, passed_ns, now_ns, now_ns)]
    return Trace(arrivals.video_arrival_ns, arrivals.audio_arrival_ns, tuple(stamps))


def _decoding(stage: str, came: Came) -> Stamp:
    return Stamp(stage, came.arrival_ns, came.arrival_ns, came.pushed_ns)
