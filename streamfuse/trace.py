"""The arithmetic of stamps: where the age of a label came from, to the nanosecond.

All times are monotonic nanoseconds of one host. A label's edge age runs from the arrival of the last
sample that it used to its publishing. The stamps on its way cut this stretch into parts, which add up to
it exactly because each part ends where the next one begins:

    arrival | decode.transit | decode.queue_wait | decode.compute | sync.transit | ... | publish.transit |

What a stage did before the arrival of that last sample was not waited for by it, and counts nothing.
Each track's own decoding is stamped beside this way (VIDEO, AUDIO), so that the age of either modality has
parts of its own, which add up to it alike.
Time that comes from the configuration, not from a clock (hop, window, smoothing), is not in here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from streamfuse.types import Stamp, TickHead, Trace, Track

DECODE = "decode"
SYNC = "sync"
"""The stage at which one track waits for the other; its stamp is made by the tick assembler."""
VIDEO, AUDIO = "decode_video", "decode_audio"
"""The decoding of each track's last item; of the later of them there is a stamp DECODE too."""
_BESIDE = (VIDEO, AUDIO)


def stamped(head: TickHead, stage: str, enqueue_ns: int, start_ns: int, end_ns: int) -> TickHead:
    """The head with one more stage's stamp. A stage that stamps twice has its parts added."""
    stamp = Stamp(stage, enqueue_ns, start_ns, end_ns)
    return replace(head, trace=replace(head.trace, stamps=(*head.trace.stamps, stamp)))


def critical_stamps(trace: Trace) -> tuple[Stamp, ...]:
    """The stamps along the way of the last sample."""
    return tuple(stamp for stamp in trace.stamps if stamp.stage not in _BESIDE)


def last_arrival_ns(trace: Trace) -> int:
    """Arrival of the last sample of either track; 0 where none was used."""
    return max(trace.video_arrival_ns, trace.audio_arrival_ns)


def latency_parts(trace: Trace, publish_ns: int) -> dict[str, int]:
    """The parts of the edge age by name, `<stage>.<part>`, in the order of time.

    transit     from the end of the stage before (or the arrival) until the stage had the item
    queue_wait  until it began with it
    compute     until it was done

    Their sum is publish_ns - arrival exactly, whatever the stamps say; no part is negative unless the
    publishing lies before the arrival. Where no sample was used, the first stamp's enqueue stands for the
    arrival.
    """
    stamps = critical_stamps(trace)
    at_ns = last_arrival_ns(trace)
    if at_ns == 0:
        at_ns = stamps[0].enqueue_ns if stamps else publish_ns
    return _cut(at_ns, stamps, publish_ns)


def track_parts(trace: Trace, track: Track, publish_ns: int) -> dict[str, int]:
    """The parts of one modality's age: its own decoding, its wait for the other, then what both shared.

    Their sum is publish_ns minus that track's arrival exactly; empty where the tick has none of it.
    """
    at_ns = trace.video_arrival_ns if track == "video" else trace.audio_arrival_ns
    if at_ns == 0:
        return {}
    own, beside = (VIDEO, AUDIO) if track == "video" else (AUDIO, VIDEO)
    stamps, before_sync = [], any(s.stage == SYNC for s in trace.stamps)
    for stamp in trace.stamps:
        if stamp.stage == SYNC:
            before_sync = False
            # From its own decoding on it waited, whichever track came first.
            stamps.append(Stamp(SYNC, at_ns, stamp.start_ns, stamp.end_ns))
        elif stamp.stage == own:
            stamps.append(Stamp(DECODE, stamp.enqueue_ns, stamp.start_ns, stamp.end_ns))
        elif stamp.stage != beside and not before_sync:
            stamps.append(stamp)
    return _cut(at_ns, stamps, publish_ns)


def _cut(at_ns: int, stamps: Iterable[Stamp], publish_ns: int) -> dict[str, int]:
    parts: dict[str, int] = {}
    for stamp in stamps:
        for part, until_ns in (
            ("transit", stamp.enqueue_ns),
            ("queue_wait", stamp.start_ns),
            ("compute", stamp.end_ns),
        ):
            # Never back, so that no time is counted twice, and never past the end.
            bound_ns = min(max(until_ns, at_ns), publish_ns)
            name = f"{stamp.stage}.{part}"
            parts[name] = parts.get(name, 0) + bound_ns - at_ns
            at_ns = bound_ns
    parts["publish.transit"] = parts.get("publish.transit", 0) + publish_ns - at_ns
    return parts


def sync_wait_ns(trace: Trace) -> int:
    """How long the track that was there first waited for the other; 0 where nothing waited."""
    return sum(max(0, s.start_ns - s.enqueue_ns) for s in trace.stamps if s.stage == SYNC)


def latency(head: TickHead, publish_ns: int | None = None, *, window_ns: int | None = None) -> dict[str, int]:
    """What a label says about its age: Label.latency, in nanoseconds; empty where nothing was stamped.

    edge_age    publishing minus the arrival of the last sample used; the sum of the parts
    centre_age  the same from the middle of what the model saw: window_ns, by default one hop
    video_age   publishing minus the arrival of the picture (an old one where it is held); audio_age alike
    av_skew     how much later the sound of a moment came than its picture
    sync_wait   how long one track waited for the other

    publish_ns  by default the end of the last stage that stamped
    """
    trace = head.trace
    if publish_ns is None:
        if not trace.stamps:
            return {}
        publish_ns = trace.stamps[-1].end_ns
    parts = latency_parts(trace, publish_ns)
    edge_age = sum(parts.values())
    window_ns = head.hop_ns if window_ns is None else window_ns
    told = {"edge_age": edge_age, "centre_age": edge_age + window_ns // 2}
    if trace.video_arrival_ns:
        told["video_age"] = publish_ns - trace.video_arrival_ns
    if trace.audio_arrival_ns:
        told["audio_age"] = publish_ns - trace.audio_arrival_ns
    return told | {"av_skew": head.skew_ns, "sync_wait": sync_wait_ns(trace)} | parts
